//! Containers as wanted and as observed, for the tests of this crate.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use core::net::Ipv4Addr;

use driver_api::{
    Bundle, Cgroup, ContainerObserved, DiskBackend, DiskObserved, ExitStatus, Fact, Gap, Init,
    Life, LimitsObserved, LinkObserved, MountObserved, NetworkObserved, ProcessId, ProcessObserved,
    ProcessState, RulesObserved, Run, Shim, ShimState, UsageObserved, files_mark,
};
use specs::config::Defaults;
use specs::desired::{Desired, IdRange, Limits, MountSource, Writable};
use specs::id::{Generation, Incarnation, Key, ProcessName};
use specs::resolve::{Choices, resolve};

use crate::io::{Intent, Mode, Wanted};
use crate::plan::{Hold, Plan, PlanPolicy, plan};

/// One process that serves, a tmpfs, a memory limit.
pub(crate) const SERVER: &str = "
  limits: {memory: 64Mi}
  mounts: [{path: /tmp, tmpfs: 1Mi}]
  processes: [{name: server, command: [/bin/serve], stop: {signal: TERM, grace: 3s}}]";

/// The same with a network, a port and a rule.
pub(crate) const CONNECTED: &str = "
  network:
    mode: isolated
    ports: [{host: 8080, container: 80, address: 0.0.0.0}]
    egress: {allow: [{to: 10.0.0.0/8, ports: [443]}]}
  processes: [{name: server, command: [/bin/serve], stop: {signal: TERM, grace: 3s}}]";

/// The address of every container here.
pub(crate) const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 254, 0, 6);

pub(crate) fn key() -> Key {
    Key::new("web").expect("a label")
}

pub(crate) fn name(text: &str) -> ProcessName {
    ProcessName::new(text).expect("a label")
}

/// Returns what a specification with this body asks for.
pub(crate) fn desired(generation: u64, body: &str) -> Desired {
    let text = format!(
        "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: web}}\nspec:\n  \
         rootfs: {{directory: /srv/root}}{body}\n"
    );
    let parsed = specs::parse::parse("web.yaml", text.as_bytes());
    let located = parsed
        .specs
        .first()
        .unwrap_or_else(|| panic!("{:?}", parsed.diagnostics));
    let choices = Choices {
        generation: Generation(generation),
        id_range: Some(IdRange {
            base: 100_000,
            count: 65_536,
        }),
        address: Some(ADDRESS),
        seccomp_json: None,
        run_override: None,
        suspend_override: None,
        restart_epoch: 0,
        defaults: &Defaults::default(),
    };
    resolve(&located.spec, &choices).expect("it resolves")
}

pub(crate) fn wanted(desired: &Desired) -> Intent {
    let desired = Arc::new(desired.clone());
    Intent::Present(alloc::boxed::Box::new(Wanted {
        desired,
        refusal: None,
        override_note: None,
        withdrawn: None,
    }))
}

pub(crate) fn gap<T>(what: &str) -> Fact<T> {
    Fact::Unknown(Gap {
        what: format!("read {what} of web.1"),
        why: "EIO".to_owned(),
    })
}

/// Returns a life that is exactly as wanted.
pub(crate) fn settled(desired: &Desired) -> Life {
    let mounts = desired.container.mounts.iter().map(|mount| {
        let fs_type = match mount.source {
            MountSource::Tmpfs { .. } => "tmpfs",
            MountSource::Bind { .. } | MountSource::Volume(_) => "ext4",
        };
        let observed = MountObserved {
            fs_type: fs_type.to_owned(),
            read_only: mount.read_only,
            root: "/".to_owned(),
            device: "0:1".to_owned(),
            inodes: None,
            stacked: 1,
        };
        (mount.path.clone(), observed)
    });
    let processes = desired
        .processes
        .keys()
        .map(|name| (name.clone(), running(desired, name)));
    let files = desired
        .files
        .iter()
        .map(|file| (file.path.clone(), file.digest()));
    let own_net = desired.container.network.is_own();
    Life {
        bundle: Fact::Known(Bundle {
            container: desired.container.digest(),
            generation: desired.generation,
            created_ms: 0,
            this_boot: true,
            launched: true,
        }),
        cgroup: Fact::Known(Cgroup {
            populated: true,
            whole: true,
            limits: enforced(&desired.limits),
            usage: UsageObserved::default(),
            oom_kills: Some(0),
            memory_peak: None,
        }),
        root: match desired.container.rootfs.writable {
            Writable::Ephemeral => Fact::Known(true),
            Writable::Persistent | Writable::None => Fact::Absent,
        },
        disk: disk(desired),
        shim: Fact::Known(Shim {
            id: ProcessId {
                pid: 10,
                start: 100,
            },
            state: ShimState::Working,
        }),
        init: Fact::Known(Init {
            id: ProcessId {
                pid: 11,
                start: 101,
            },
            ready: true,
            in_cgroup: true,
        }),
        mounts: Fact::Known(mounts.collect()),
        exposed: Fact::Known(BTreeSet::new()),
        loopback_up: if own_net {
            Fact::Known(true)
        } else {
            Fact::Absent
        },
        network: network(desired),
        processes: Fact::Known(processes.collect()),
        files: Fact::Known(files.collect()),
    }
}

/// Returns an image as it is made for a container.
pub(crate) fn disk(desired: &Desired) -> Fact<DiskObserved> {
    let wanted = desired.disk.zip(desired.container.rootfs.bound);
    wanted.map_or(Fact::Absent, |(bytes, bound)| {
        Fact::Known(DiskObserved {
            backend: DiskBackend::Image,
            bytes: bytes.0,
            inodes: Some(bound.inodes.map_or(4080, |inodes| inodes.0 + 3)),
            inodes_grain: 16,
        })
    })
}

/// Returns what connects a container that is connected as wanted.
pub(crate) fn network(desired: &Desired) -> NetworkObserved {
    let Some(isolated) = desired.container.network.isolated() else {
        return NetworkObserved::ABSENT;
    };
    let ports: BTreeSet<_> = desired.ports.iter().copied().collect();
    NetworkObserved {
        link: Fact::Known(LinkObserved {
            address: Some(isolated.address),
            mtu: Some(isolated.mtu),
            whole: true,
        }),
        rules: Fact::Known(RulesObserved {
            shared: true,
            address: Some(isolated.address),
            ports: ports.clone(),
            egress: Some(desired.egress.clone()),
            reserved: ports,
        }),
        forwarding: Fact::Known(true),
    }
}

/// Returns a process that runs as wanted, since its first start.
pub(crate) fn running(desired: &Desired, name: &ProcessName) -> ProcessObserved {
    ProcessObserved {
        digest: desired.processes[name].digest(),
        restart_epoch: desired.restart_epoch,
        starts: 1,
        state: ProcessState::Running {
            id: ProcessId {
                pid: 12,
                start: 102,
            },
            started_ms: 1_000,
        },
        last_exit: None,
        files: files_mark(desired),
    }
}

/// Returns the same process after its run has ended.
pub(crate) fn ended(
    desired: &Desired,
    name: &ProcessName,
    status: ExitStatus,
    asked: bool,
) -> ProcessObserved {
    let run = Run {
        started_ms: 1_000,
        ended_ms: 2_000,
        status,
        asked,
        oom_kills: Some(0),
        oom_killed: false,
    };
    ProcessObserved {
        state: ProcessState::Ended,
        last_exit: Some(run),
        ..running(desired, name)
    }
}

pub(crate) fn processes(life: &mut Life) -> &mut BTreeMap<ProcessName, ProcessObserved> {
    match &mut life.processes {
        Fact::Known(processes) => processes,
        _ => panic!("processes are known"),
    }
}

pub(crate) fn enforced(limits: &Limits) -> LimitsObserved {
    LimitsObserved {
        memory: Fact::Known(limits.memory.map(|bytes| bytes.0)),
        swap: Fact::Known(limits.memory.map(|_| limits.swap.0)),
        memory_low: Fact::Known(limits.memory_low.map(|bytes| bytes.0)),
        cpu: Fact::Known(limits.cpu.map(|cpu| cpu.0)),
        cpu_weight: Fact::Known(limits.cpu_weight),
        cpu_set: Fact::Known(limits.cpu_set.clone()),
        pids: Fact::Known(limits.pids),
    }
}

pub(crate) fn observed(lives: impl IntoIterator<Item = (u64, Life)>) -> ContainerObserved {
    let lives = lives
        .into_iter()
        .map(|(number, life)| (Incarnation(number), life));
    ContainerObserved {
        lives: lives.collect(),
    }
}

pub(crate) fn policy() -> PlanPolicy {
    PlanPolicy {
        mode: Mode {
            destroy: true,
            prune: true,
        },
        next_incarnation: Incarnation(7),
        settled: Generation(0),
        edited: false,
        hung: BTreeSet::new(),
        former: None,
        unmet: alloc::vec::Vec::new(),
        hold: Hold::default(),
    }
}

/// Plans for one life, number 1.
pub(crate) fn plan_one(intent: &Intent, life: Life) -> Plan {
    plan(&key(), intent, &observed([(1, life)]), true, &policy())
}

/// Returns the verbs of each stage, with what they are about.
pub(crate) fn verbs(plan: &Plan) -> alloc::vec::Vec<alloc::string::String> {
    let stage = |stage: &crate::plan::Stage| {
        let steps = stage.steps.iter().map(|planned| {
            let about = crate::plan::StepKey::of(&planned.step).subject;
            let dash = if about.is_empty() { "" } else { " " };
            format!("{}{dash}{about}", planned.step.action.verb())
        });
        let awaits = stage
            .awaits
            .iter()
            .map(|wait| format!("({})", crate::explain::awaited(wait)));
        let all: alloc::vec::Vec<_> = steps.chain(awaits).collect();
        all.join(", ").to_string()
    };
    plan.stages.iter().map(stage).collect()
}
