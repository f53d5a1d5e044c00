//! A small world that the golden renderings show.

use std::collections::BTreeMap;

use reconciler_daemon::api::wire::{
    Check, ContainerView, Detail, Doctor, Link, List, PlanContainer, PlanField, PlanStep, PlanView,
    RefusedFile, Why,
};
use specs::event::{Event, Severity};
use specs::id::{Generation, Key, ProcessName};
use specs::status::{
    Condition, ConditionKind, Failure, NetworkStatus, Phase, ProcessStatus, Status, Truth, Usage,
};

mod usage;
pub(crate) use usage::{capacity, samples};

/// 2026-01-31 12:00:00 UTC.
pub(crate) const NOW_MS: u64 = 1_769_860_800_000;

/// A process.
pub(crate) fn process(name: &str, state: &str, pid: Option<u32>) -> ProcessStatus {
    ProcessStatus {
        name: ProcessName::new(name).unwrap(),
        state: state.to_owned(),
        pid,
        started_ms: pid.map(|_| NOW_MS - 312_000),
        restarts: 0,
        last_exit: None,
        next_start_ms: None,
        waits_for: Vec::new(),
    }
}

/// A container that was accepted and nothing more.
pub(crate) fn view(name: &str, phase: Phase) -> ContainerView {
    let status = Status {
        key: Key::new(name).unwrap(),
        generation: Generation(1),
        observed_generation: Generation(1),
        phase,
        conditions: Vec::new(),
        processes: vec![process("main", "waiting", None)],
        restarts: 0,
        pid: None,
        created_ms: None,
        next_retry_ms: None,
        usage: None,
        disk: None,
        network: None,
        last_error: None,
        override_note: None,
        drift: Vec::new(),
    };
    let source = format!("/etc/reconciler/specs.d/{name}.yaml:1");
    ContainerView {
        status,
        labels: BTreeMap::new(),
        source,
        gone: false,
    }
}

/// A container that runs.
pub(crate) fn web() -> ContainerView {
    let mut view = view("web", Phase::Running);
    view.labels = BTreeMap::from([
        ("app".into(), "shop".into()),
        ("tier".into(), "front".into()),
    ]);
    let status = &mut view.status;
    status.generation = Generation(3);
    status.observed_generation = Generation(3);
    status.processes = vec![
        process("server", "running", Some(4243)),
        ProcessStatus {
            restarts: 2,
            last_exit: Some("killed by KILL".into()),
            ..process("sidecar", "running", Some(4250))
        },
    ];
    status.restarts = 2;
    status.pid = Some(4242);
    status.created_ms = Some(NOW_MS - 2 * 86_400_000 - 5 * 3_600_000);
    status.usage = Some(Usage {
        memory_bytes: Some(12 << 20),
        memory_limit_bytes: Some(64 << 20),
        cpu_usec: Some(12_480_000),
        pids: Some(4),
    });
    status.network = Some(NetworkStatus {
        address: [10, 254, 0, 6].into(),
        ports: vec!["8080->80/tcp".into(), "127.0.0.1:5353->53/udp".into()],
    });
    let condition = |kind, reason: &str, message: &str| Condition {
        kind,
        status: Truth::True,
        reason: reason.into(),
        message: message.into(),
        generation: Generation(3),
        since_ms: NOW_MS - 60_000,
    };
    status.conditions = vec![
        condition(
            ConditionKind::Accepted,
            "Taken",
            "the newest text was taken",
        ),
        condition(ConditionKind::Running, "InitLives", "init is 4242"),
        condition(ConditionKind::Settled, "Converged", "nothing is left to do"),
    ];
    view
}

/// A container that cannot be made.
pub(crate) fn broken() -> ContainerView {
    let mut view = view("db", Phase::Backoff);
    let status = &mut view.status;
    status.generation = Generation(2);
    status.next_retry_ms = Some(NOW_MS + 37_200);
    status.last_error = Some(Failure {
        step: "CreateCgroup".into(),
        what: "write memory.max of db".into(),
        cause: "No space left on device".into(),
        errno: Some(28),
        hint: Some("lower limits.memory or free memory of the parent cgroup".into()),
        attempts: 3,
    });
    status.conditions = vec![Condition {
        kind: ConditionKind::Settled,
        status: Truth::False,
        reason: "StepFailed".into(),
        message: "CreateCgroup failed 3 times".into(),
        generation: Generation(2),
        since_ms: NOW_MS - 90_000,
    }];
    status.drift = vec!["limits.memory is 32Mi, wanted 64Mi".into()];
    view
}

/// A container that wants to steer the reader's terminal.
pub(crate) fn hostile() -> ContainerView {
    let mut view = view("evil", Phase::Failed);
    let bad = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{202e}gpj\u{9b}31m\r\n";
    view.source = format!("/tmp/{bad}.yaml:1");
    view.labels = BTreeMap::from([(format!("k{bad}"), format!("v{bad}"))]);
    view.status.processes = vec![ProcessStatus {
        last_exit: Some(bad.into()),
        waits_for: vec![bad.into()],
        ..process("main", bad, None)
    }];
    view.status.override_note = Some(bad.into());
    view.status.drift = vec![bad.into()];
    view.status.last_error = Some(Failure {
        step: bad.into(),
        what: bad.into(),
        cause: bad.into(),
        errno: None,
        hint: Some(bad.into()),
        attempts: 1,
    });
    view
}

/// All of the above and more states.
pub(crate) fn list() -> List {
    let mut stopped = view("batch", Phase::Stopped);
    stopped.status.override_note = Some("stopped".into());
    let mut job = view("migrate", Phase::Completed);
    job.status.processes = vec![ProcessStatus {
        last_exit: Some("exited 0".into()),
        ..process("main", "exited", None)
    }];
    job.status.created_ms = Some(NOW_MS - 45_000);
    let mut crashing = view("worker", Phase::Degraded);
    crashing.status.processes = vec![
        ProcessStatus {
            restarts: 7,
            next_start_ms: Some(NOW_MS + 4_000),
            ..process("main", "waiting", None)
        },
        process("log", "running", Some(99)),
    ];
    crashing.status.restarts = 7;
    List {
        containers: vec![stopped, broken(), hostile(), job, web(), crashing],
        refused: vec![RefusedFile {
            path: "/etc/reconciler/specs.d/new.yaml".into(),
            diagnostics: Vec::new(),
            rendered: "error[E0107]: unknown field `comand`\n --> new.yaml:9:7\n  |\n\
                       9 |       comand: [\u{1b}[2J]\n  |       ^^^^^^ did you mean `command`?\n"
                .into(),
        }],
        notices: vec!["a deletion of 40 containers is held back".into()],
    }
}

fn event(seq: u64, key: Option<&str>, severity: Severity, reason: &str, message: &str) -> Event {
    Event {
        seq,
        at_ms: NOW_MS - 100_000 + seq * 1000,
        key: key.map(|key| Key::new(key).unwrap()),
        generation: Generation(u64::from(key.is_some())),
        severity,
        reason: reason.into(),
        message: message.into(),
    }
}

/// A short history.
pub(crate) fn history() -> Vec<Event> {
    vec![
        event(
            1,
            None,
            Severity::Normal,
            "Started",
            "adopted 2, restarted 0",
        ),
        event(
            2,
            Some("web"),
            Severity::Normal,
            "Created",
            "made from generation 1",
        ),
        event(
            3,
            Some("web"),
            Severity::Warning,
            "Exited",
            "sidecar \u{1b}[31mkilled by KILL\n",
        ),
    ]
}

/// Everything about a container.
pub(crate) fn detail(view: ContainerView) -> Detail {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    Detail {
        view,
        effective: serde_json::json!({"limits": {"memory": "64Mi"}}),
        mounts: pairs(&[("/", "overlay, read-write"), ("/data", "volume data")]),
        limits: pairs(&[("memory", "64Mi"), ("swap", "0"), ("pids", "128")]),
        events: history(),
        refusal: Some("error[E0107]: unknown field `comand`\n --> web.yaml:9:7\n".into()),
        usage: samples().1.containers.pop(),
    }
}

/// Why a container waits.
pub(crate) fn why() -> Why {
    let link = |kind: &str, text: &str| Link {
        kind: kind.into(),
        text: text.into(),
    };
    Why {
        summary: "db waits before try 4: its cgroup could not be made".into(),
        chain: vec![
            link("spec", "/etc/reconciler/specs.d/db.yaml:1"),
            link("generation", "2"),
            link("step", "CreateCgroup"),
            link(
                "cause",
                "write memory.max of db: No space left on device (28)\nsecond \u{1b}[2J line",
            ),
            link("hint", "lower limits.memory"),
            link("retry", "in 38s"),
        ],
    }
}

/// A plan with every class.
pub(crate) fn plan() -> PlanView {
    let field = |path: &str, class: &str, from: &str, to: &str| PlanField {
        path: path.into(),
        class: class.into(),
        from: from.into(),
        to: to.into(),
    };
    let step = |step: &str, reason: &str| PlanStep {
        step: step.into(),
        reason: reason.into(),
    };
    let container = |name: &str, class: &str, fields, stages, blocked: &[&str]| PlanContainer {
        name: name.into(),
        class: class.into(),
        fields,
        stages,
        blocked: blocked.iter().map(|text| (*text).to_owned()).collect(),
    };
    let containers = vec![
        container(
            "api",
            "live",
            vec![
                field("limits.memory", "live", "64Mi", "128Mi"),
                field("limits.cpu", "live", "", "500m"),
            ],
            vec![vec![step("SetLimits", "memory is 64Mi, wanted 128Mi")]],
            &[],
        ),
        container(
            "cache",
            "blocked",
            vec![],
            vec![],
            &["volume data is held by db"],
        ),
        container(
            "db",
            "recreate",
            vec![
                field("rootfs.directory", "recreate", "/srv/a", "/srv/b"),
                field(
                    "processes.main.command",
                    "process",
                    &"x".repeat(200),
                    "[/b\u{1b}[2J]",
                ),
            ],
            vec![
                vec![step("StopProcess", "the root changes")],
                vec![
                    step("KillLife", "the root changes"),
                    step("EndShim", "the root changes"),
                ],
            ],
            &[],
        ),
        container(
            "gone",
            "delete",
            vec![],
            vec![vec![step("KillLife", "its spec is gone")]],
            &[],
        ),
        container(
            "new",
            "create",
            vec![],
            vec![vec![step("PrepareBundle", "nothing is there")]],
            &[],
        ),
        container(
            "old",
            "repair",
            vec![],
            vec![vec![step("RestoreMount", "/tmp is missing")]],
            &[],
        ),
        container(
            "web",
            "process",
            vec![field("env.LEVEL", "process", "4 bytes", "5 bytes")],
            vec![],
            &[],
        ),
    ];
    PlanView {
        containers,
        kept: 12,
        refused: list().refused,
    }
}

/// What a host can do.
pub(crate) fn doctor() -> Doctor {
    let check = |name: &str, result: &str, detail: &str, remedy: Option<&str>| Check {
        name: name.into(),
        result: result.into(),
        detail: detail.into(),
        remedy: remedy.map(Into::into),
    };
    Doctor {
        checks: vec![
            check("overlay", "ok", "detached mounts", None),
            check("cgroup freeze", "fallback", "v1 \u{1b}[2Jfreezer", None),
            check(
                "memory limit",
                "missing",
                "no memory controller",
                Some("boot with cgroup v2"),
            ),
        ],
    }
}
