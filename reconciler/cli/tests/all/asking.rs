//! Questions with one answer.

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use reconciler_daemon::api::wire::{
    Done, Link, List, PlanAsk, PlanContainer, PlanField, PlanView, Problem, RefusedFile, Sync,
    Version, Why,
};
use serde_json::Value;

use crate::daemon::{Daemon, detail, list, reconciler, version, view};

fn problem(status: StatusCode, message: &str) -> (StatusCode, Json<Problem>) {
    (
        status,
        Json(Problem {
            code: "x".into(),
            message: message.into(),
        }),
    )
}

fn three() -> List {
    list(&[
        view("db", "Stopped", true),
        view("job", "Completed", true),
        view("web", "Running", true),
    ])
}

fn lists() -> Daemon {
    Daemon::start(Router::new().route("/containers", get(|| async { Json(three()) })))
}

#[test]
fn status_prints_a_row_for_each_container() {
    let out = lists().run(&["status"]).good();
    let words: Vec<Vec<&str>> = out
        .lines()
        .map(|line| line.split_whitespace().take(3).collect())
        .collect();
    assert_eq!(
        words,
        [
            ["NAME", "READY", "STATE"],
            ["db", "1/1", "Stopped"],
            ["job", "1/1", "Completed"],
            ["web", "1/1", "Running"],
        ]
    );
    assert_eq!(lists().run(&["ps"]).good(), out);
}

#[test]
fn status_has_machine_forms() {
    let daemon = lists();
    let json: List = serde_json::from_str(&daemon.run(&["status", "-o", "json"]).good()).unwrap();
    assert_eq!(json, three());
    let yaml: List = serde_yaml::from_str(&daemon.run(&["status", "-o", "yaml"]).good()).unwrap();
    assert_eq!(yaml, three());
    assert_eq!(
        daemon.run(&["status", "-o", "name"]).good(),
        "db\njob\nweb\n"
    );
}

#[test]
fn a_selector_reaches_the_daemon() {
    let daemon = lists();
    daemon.run(&["status", "-l", "app=web,x=y"]).good();
    assert_eq!(
        daemon.asked(),
        ["GET /v1/containers?selector=app%3Dweb%2Cx%3Dy"]
    );
}

#[test]
fn status_of_one_tells_by_its_exit_code() {
    for (phase, code) in [
        ("Running", 0),
        ("Updating", 0),
        ("Completed", 0),
        ("Pending", 3),
        ("Starting", 3),
        ("Degraded", 3),
        ("Stopping", 3),
        ("Stopped", 3),
        ("Backoff", 3),
        ("Failed", 3),
        ("Suspended", 3),
        ("Invalid", 3),
        ("Unknown", 3),
    ] {
        let answer = move || async move { Json(detail(&view("web", phase, true))) };
        let daemon = Daemon::start(Router::new().route("/containers/web", get(answer)));
        let ran = daemon.run(&["status", "web"]);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(code), ""), "{phase}");
        assert!(ran.stdout.contains(phase), "{}", ran.stdout);
    }
}

#[test]
fn an_unknown_name_is_4_in_every_command() {
    let routes = Router::new().fallback(|| async {
        problem(
            StatusCode::NOT_FOUND,
            "there is no container `nope`; did you mean `note`?",
        )
    });
    let daemon = Daemon::start(routes);
    for command in [
        &["status", "nope"][..],
        &["status", "nope", "-w"],
        &["describe", "nope"],
        &["why", "nope"],
        &["logs", "nope"],
        &["stop", "nope"],
    ] {
        let error = daemon.run(command).bad(4);
        assert!(
            error.contains("there is no container `nope`"),
            "{command:?}: {error}"
        );
    }
}

#[test]
fn a_refusal_is_told_in_the_daemons_words() {
    let refuse = || async { problem(StatusCode::FORBIDDEN, "user 1000 may read and not order") };
    let routes = Router::new().route("/containers/web/stop", post(refuse));
    let error = Daemon::start(routes).run(&["stop", "web"]).bad(1);
    assert_eq!(error, "error: user 1000 may read and not order\n");
}

#[test]
fn a_foreign_answer_is_an_error_with_a_remedy() {
    let routes = Router::new()
        .route("/containers", get(|| async { "what?" }))
        .route(
            "/doctor",
            get(|| async { (StatusCode::BAD_GATEWAY, "what?") }),
        );
    let daemon = Daemon::start(routes);
    let error = daemon.run(&["status"]).bad(1);
    assert!(
        error.contains("is not understood") && error.contains("reconciler version"),
        "{error}"
    );
    let error = daemon.run(&["doctor"]).bad(1);
    assert!(error.contains("502 Bad Gateway"), "{error}");
}

#[test]
fn the_socket_on_the_command_line_wins_over_the_environment() {
    let daemon = lists();
    let mut command = reconciler(&["status", "-o", "name", "--socket"]);
    command
        .arg(daemon.socket())
        .env("RECONCILER_SOCKET", "/nonexistent/sock");
    assert_eq!(
        String::from_utf8(command.output().unwrap().stdout).unwrap(),
        "db\njob\nweb\n"
    );
}

#[test]
fn describe_and_why_have_text_and_json() {
    let chain = vec![Link {
        kind: "spec".into(),
        text: "/specs/web.yaml:1".into(),
    }];
    let why = Why {
        summary: "web runs".into(),
        chain,
    };
    let expected = why.clone();
    let routes = Router::new()
        .route(
            "/containers/web",
            get(|| async { Json(detail(&view("web", "Running", true))) }),
        )
        .route("/containers/web/why", get(move || async { Json(why) }));
    let daemon = Daemon::start(routes);
    assert!(
        daemon
            .run(&["describe", "web"])
            .good()
            .contains("Source:      /specs/web.yaml:1")
    );
    let json: Value =
        serde_json::from_str(&daemon.run(&["describe", "web", "-o", "json"]).good()).unwrap();
    assert_eq!(json["effective"]["hostname"], "web");
    assert_eq!(
        daemon.run(&["why", "web"]).good(),
        "web runs\n  spec  /specs/web.yaml:1\n"
    );
    let json = daemon.run(&["why", "web", "-o", "json"]).good();
    assert_eq!(serde_json::from_str::<Why>(&json).unwrap(), expected);
}

#[test]
fn an_order_goes_to_each_container_that_was_named() {
    for verb in ["start", "stop", "restart", "suspend", "resume"] {
        let done = || async {
            Json(Done {
                message: "as you say \u{1b}[2J".into(),
            })
        };
        let routes = Router::new().route("/containers/{name}/{verb}", post(done));
        let daemon = Daemon::start(routes);
        let out = daemon.run(&[verb, "a", "b"]).good();
        assert_eq!(out, "as you say \\x1b[2J\nas you say \\x1b[2J\n");
        let paths = ["a", "b"].map(|name| format!("POST /v1/containers/{name}/{verb}"));
        assert_eq!(daemon.asked(), paths);
    }
}

#[test]
fn sync_says_which_and_how_many_deletions_may_go_on() {
    let echo = |Json(ask): Json<Sync>| async move {
        Json(Done {
            message: format!("{ask:?}"),
        })
    };
    let daemon = Daemon::start(Router::new().route("/sync", post(echo)));
    let said = |args: &[&str]| daemon.run(args).good();
    assert_eq!(
        said(&["sync"]),
        "Sync { name: None, allow_deletes: None }\n"
    );
    assert_eq!(
        said(&["sync", "web"]),
        "Sync { name: Some(\"web\"), allow_deletes: None }\n"
    );
    let out = said(&["sync", "--allow-deletes", "40"]);
    assert_eq!(out, "Sync { name: None, allow_deletes: Some(40) }\n");
}

fn plans(class: Option<&str>, refused: bool) -> Daemon {
    let container = |class: &str| PlanContainer {
        name: "web".into(),
        class: class.into(),
        fields: vec![PlanField {
            path: "limits.memory".into(),
            class: class.into(),
            from: "64Mi".into(),
            to: "128Mi".into(),
        }],
        stages: Vec::new(),
        blocked: Vec::new(),
    };
    let file = || RefusedFile {
        path: "web.yaml".into(),
        diagnostics: Vec::new(),
        rendered: "error[E0107]: no".into(),
    };
    let view = PlanView {
        containers: class.map(container).into_iter().collect(),
        kept: 1,
        refused: refused.then(file).into_iter().collect(),
    };
    Daemon::start(Router::new().route(
        "/plan",
        post(move |Json(_): Json<PlanAsk>| async { Json(view) }),
    ))
}

#[test]
fn plan_tells_by_its_exit_code_only_when_asked() {
    for (class, refused, plain, with_code) in [
        (None, false, 0, 0),
        (Some("live"), false, 0, 2),
        (Some("blocked"), false, 0, 2),
        (None, true, 1, 1),
        (Some("live"), true, 1, 1),
    ] {
        let daemon = plans(class, refused);
        assert_eq!(
            daemon.run(&["plan"]).code,
            Some(plain),
            "{class:?} {refused}"
        );
        assert_eq!(
            daemon.run(&["plan", "--exit-code"]).code,
            Some(with_code),
            "{class:?}"
        );
    }
}

#[test]
fn plan_sends_the_texts_of_files_and_directories() {
    let echo = |Json(ask): Json<PlanAsk>| async move {
        let kept = u64::try_from(ask.files.len()).unwrap();
        let container = |path: &str, text: &str| PlanContainer {
            name: path.rsplit('/').next().unwrap().into(),
            class: text.into(),
            fields: Vec::new(),
            stages: Vec::new(),
            blocked: Vec::new(),
        };
        let containers = ask
            .files
            .iter()
            .map(|file| container(&file.path, &file.text))
            .collect();
        Json(PlanView {
            containers,
            kept,
            refused: Vec::new(),
        })
    };
    let daemon = Daemon::start(Router::new().route("/plan", post(echo)));
    let specs = daemon.directory.path().join("specs");
    std::fs::create_dir(&specs).unwrap();
    for (name, text) in [("b.yaml", "B"), ("a.yml", "A"), ("c.yaml~", "C")] {
        std::fs::write(specs.join(name), text).unwrap();
    }
    let out = daemon
        .run(&["plan", "-o", "json", specs.to_str().unwrap()])
        .good();
    let view: PlanView = serde_json::from_str(&out).unwrap();
    let seen: Vec<(&str, &str)> = view
        .containers
        .iter()
        .map(|one| (one.name.as_str(), one.class.as_str()))
        .collect();
    assert_eq!(seen, [("a.yml", "A"), ("b.yaml", "B")]);
}

#[test]
fn version_tells_both_ends_and_what_a_person_should_know() {
    let version = Version {
        protocol: 7,
        safe_mode: Some("the store was rebuilt".into()),
        ..version(true)
    };
    let daemon = Daemon::start(Router::new().route("/version", get(|| async { Json(version) })));
    let out = daemon.run(&["version"]).good();
    for part in [
        "9.9.9",
        "adopted 3, restarted 0",
        "different protocols",
        "the store was rebuilt",
    ] {
        assert!(out.contains(part), "{out}");
    }
}

#[test]
fn json_and_yaml_hold_no_character_that_a_terminal_obeys() {
    let mut bad = view("web", "Running", true);
    bad["source"] = "\u{1b}[2J \u{202e} \u{9b}31m \u{e0041}".into();
    let bad = list(&[bad]);
    let answer = bad.clone();
    let daemon = Daemon::start(Router::new().route("/containers", get(|| async { Json(answer) })));
    for format in ["json", "yaml"] {
        let out = daemon.run(&["status", "-o", format]).good();
        let deceptive =
            |c: char| c.is_control() && c != '\n' || c == '\u{202e}' || c == '\u{e0041}';
        assert!(!out.contains(deceptive), "{out:?}");
        let back: List = match format {
            "json" => serde_json::from_str(&out).unwrap(),
            _ => serde_yaml::from_str(&out).unwrap(),
        };
        assert_eq!(back, bad, "{format} means the same");
    }
}

/// A daemon whose one container uses half a processor, by a clock of its own.
fn uses() -> Daemon {
    use std::sync::atomic::{AtomicU64, Ordering};
    static SAMPLES: AtomicU64 = AtomicU64::new(0);
    let sample = || async {
        let times = SAMPLES.fetch_add(1, Ordering::Relaxed);
        Json(serde_json::json!({
            "atMs": 1000 * times,
            "containers": [
                {"name": "idle", "life": 1, "cpuUsec": 0},
                {"name": "web", "life": 1, "cpuUsec": 500_000 * times, "pids": 3},
            ],
        }))
    };
    Daemon::start(Router::new().route("/usage", get(sample)))
}

#[test]
fn top_compares_two_samples() {
    let daemon = uses();
    let once = ["top", "--once", "--interval", "100ms"];
    let out = daemon.run(&once).good();
    let names: Vec<&str> = out
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(names, ["NAME", "web", "idle"], "the busiest first");
    assert!(out.contains("50.0"), "{out}");
    let json = daemon
        .run(&["top", "-o", "json", "-n", "1", "--interval", "100ms"])
        .good();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let wanted = serde_json::json!({
        "intervalMs": 1000,
        "containers": [{"name": "web", "cpuPermille": 500, "pids": 3}],
    });
    assert_eq!(json, wanted, "what is not counted is left out");
}

#[test]
fn top_goes_on_until_its_reader_leaves() {
    let daemon = uses();
    let socket = daemon.socket();
    let mut child = reconciler(&["top", "--interval", "100ms", "--socket"])
        .arg(socket)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut tables = 0;
    while tables < 3 {
        let mut line = String::new();
        assert!(std::io::BufRead::read_line(&mut out, &mut line).unwrap() > 0);
        assert!(
            !line.contains('\u{1b}'),
            "nothing is drawn in place: {line:?}"
        );
        tables += usize::from(line.starts_with("NAME"));
    }
    drop(out);
    assert!(child.wait().unwrap().success());
}
