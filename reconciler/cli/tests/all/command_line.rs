//! Arguments, help, and what happens without a daemon.

use crate::daemon::{Ran, reconciler};

fn run(args: &[&str]) -> Ran {
    Ran::from(&reconciler(args).output().unwrap())
}

const COMMANDS: &[&str] = &[
    "run",
    "status",
    "ps",
    "describe",
    "why",
    "logs",
    "events",
    "plan",
    "doctor",
    "sync",
    "start",
    "stop",
    "restart",
    "suspend",
    "resume",
    "version",
    "validate",
    "schema",
    "explain",
    "completion",
    "man",
    "drain",
    "store",
];

#[test]
fn every_command_has_help_with_an_example_and_its_exit_codes() {
    for command in COMMANDS {
        let help = run(&[command, "--help"]).good();
        assert!(help.contains("Example"), "{command}: {help}");
        assert!(help.contains("xit codes"), "{command}: {help}");
        assert!(help.contains("--socket"), "{command}: {help}");
        assert!(!help.contains('\u{1b}'), "{command}: {help}");
    }
    let help = run(&["--help"]).good();
    for command in COMMANDS {
        assert!(
            help.contains(&format!("  {command}")) || *command == "ps",
            "{command}: {help}"
        );
    }
}

#[test]
fn commands_that_print_data_take_o_json() {
    for command in COMMANDS {
        // The daemon tells nothing, an order answers with a sentence, the schema is JSON already,
        // and scripts and pages have readers of their own.
        let prints_data = !matches!(
            *command,
            "run"
                | "start"
                | "stop"
                | "restart"
                | "suspend"
                | "resume"
                | "schema"
                | "completion"
                | "drain"
                | "store"
                | "man"
        );
        let help = run(&[command, "--help"]).good();
        assert_eq!(
            help.contains("--output <FORMAT>"),
            prints_data,
            "{command}: {help}"
        );
        assert_eq!(help.contains("- json:"), prints_data, "{command}: {help}");
    }
}

#[test]
fn a_wrong_command_line_is_64_and_never_looks_like_an_answer() {
    for args in [
        &["frobnicate"][..],
        &[],
        &["status", "Not_A_Label"],
        &["status", "--output", "xml"],
        &["status", "-l", "novalue"],
        &["status", "web", "-l", "a=b"],
        &["status", "--timeout", "5s"],
        &["status", "--wait", "--timeout", "5"],
        &["status", "-w", "--wait"],
        &["logs"],
        &["logs", "../x"],
        &["logs", "web", "--since", "yesterday"],
        &["logs", "web", "--raw", "-o", "json"],
        &["stop"],
        &["completion"],
        &["completion", "tcsh"],
        &["plan", "--exit-code=1"],
        &["sync", "--allow-deletes", "-1"],
        &["sync", "web", "--allow-deletes", "1"],
    ] {
        let ran = run(args);
        assert_eq!(
            (ran.code, ran.stdout.as_str()),
            (Some(64), ""),
            "{args:?}: {}",
            ran.stderr
        );
        assert!(!ran.stderr.is_empty(), "{args:?}");
    }
}

#[test]
fn a_daemon_that_cannot_start_says_why_with_a_code_of_its_own() {
    let error = run(&["run", "--config", "/nonexistent/config.yaml"]).bad(78);
    assert!(error.contains("/nonexistent/config.yaml: "), "{error}");
}

#[test]
fn without_a_daemon_the_error_names_the_socket_and_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    for command in [
        &["status"][..],
        &["why", "web"],
        &["events"],
        &["doctor"],
        &["stop", "web"],
    ] {
        let args = [&["--socket", socket], command].concat();
        let error = run(&args).bad(5);
        assert!(
            error.contains(&format!("no daemon answers at {socket}")),
            "{error}"
        );
        assert!(
            error.contains("\nhelp: start it with `reconciler run`"),
            "{error}"
        );
    }
}

#[test]
fn a_socket_that_nobody_listens_on_is_no_daemon_either() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = run(&["status", "--socket", socket.to_str().unwrap()]).bad(5);
    assert!(error.contains("Connection refused"), "{error}");
}

#[test]
fn version_answers_without_a_daemon() {
    let ran = run(&["version", "--socket", "/nonexistent/sock"]).good();
    assert!(
        ran.starts_with(&format!("client  {}", env!("CARGO_PKG_VERSION"))),
        "{ran}"
    );
    assert!(
        ran.contains("no daemon answers at /nonexistent/sock"),
        "{ran}"
    );
    let json = run(&["version", "-o", "json", "--socket", "/nonexistent/sock"]).good();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        json["client"]["protocol"],
        reconciler_daemon::api::wire::PROTOCOL
    );
    assert_eq!(json["daemon"], serde_json::Value::Null);
}

#[test]
fn a_path_that_cannot_be_read_is_1_and_named() {
    let error = run(&["plan", "/nonexistent/web.yaml"]).bad(1);
    assert!(
        error.starts_with("error: cannot read /nonexistent/web.yaml: No such file"),
        "{error}"
    );
}

#[test]
fn hostile_arguments_are_printed_harmlessly() {
    let ran = run(&["plan", "/nonexistent/\u{1b}[2J\u{202e}"]);
    assert!(ran.stderr.contains("\\x1b[2J\\u{202e}"), "{}", ran.stderr);
    let ran = run(&["status", "-o", "\u{1b}]0;x\u{7}"]);
    assert!(
        !ran.stderr.contains('\u{1b}') && !ran.stderr.contains('\u{7}'),
        "{}",
        ran.stderr
    );
}
