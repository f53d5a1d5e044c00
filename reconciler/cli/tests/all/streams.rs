//! Answers that stay open, and readers that leave.

use std::convert::Infallible;
use std::process::Stdio;

use axum::body::Body;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use futures_util::{StreamExt as _, stream};
use reconciler_daemon::api::wire::{ContainerView, LogLine, Problem};
use serde_json::{Value, json};
use specs::event::Event;

use crate::daemon::{Daemon, detail, ended, list, read_until, view};

fn text(lines: &[Value]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

fn whole(lines: Vec<Value>) -> Body {
    Body::from(text(&lines))
}

fn open(lines: Vec<Value>) -> Body {
    let first = stream::once(async move { Ok::<_, Infallible>(text(&lines)) });
    Body::from_stream(first.chain(stream::pending()))
}

fn log(process: &str, text: &str, partial: bool) -> Value {
    serde_json::to_value(LogLine {
        process: process.into(),
        stream: "stdout".into(),
        at: "2026-01-31T12:00:00.000000001Z".into(),
        text: text.into(),
        partial,
    })
    .unwrap()
}

/// A daemon with the logs of a container of these processes.
fn logs(processes: &[&str], body: fn() -> Body) -> Daemon {
    let mut web = view("web", "Running", true);
    let process = web["status"]["processes"][0].clone();
    let named = |name: &&str| {
        let mut process = process.clone();
        process["name"] = (*name).into();
        process
    };
    web["status"]["processes"] = processes.iter().map(named).collect();
    let routes = Router::new()
        .route(
            "/containers/web",
            get(move || async move { Json(detail(&web)) }),
        )
        .route("/containers/web/logs", get(move || async move { body() }));
    Daemon::start(routes)
}

fn event(seq: u64, message: &str) -> Value {
    json!({"seq": seq, "atMs": 0, "key": "web", "generation": 1, "severity": "normal",
           "reason": "Created", "message": message})
}

#[test]
fn log_lines_are_put_together_and_nothing_in_them_steers_the_terminal() {
    let body = || {
        whole(vec![
            log("main", "plain", false),
            log("main", "first half, ", true),
            log("main", "second half", false),
            log("main", "\u{1b}[2J\ttab \u{202e} \r\u{7}", false),
            log("main", "no end", true),
        ])
    };
    let daemon = logs(&["main"], body);
    let out = daemon.run(&["logs", "web"]).good();
    let expected = "plain\nfirst half, second half\n\\x1b[2J\ttab \\u{202e} \\r\\x07\nno end\n";
    assert_eq!(out, expected);
    let raw = daemon.run(&["logs", "web", "--raw"]).good();
    assert!(raw.contains("\u{1b}[2J\ttab \u{202e} \r\u{7}\n"), "{raw:?}");
}

#[test]
fn lines_of_several_processes_carry_names_and_never_mix() {
    let body = || {
        whole(vec![
            log("a", "one, ", true),
            log("b", "two", false),
            log("a", "three", false),
        ])
    };
    let daemon = logs(&["a", "b"], body);
    let out = daemon.run(&["logs", "web"]).good();
    assert_eq!(out, "a | one, \nb | two\na | three\n");
    let out = daemon.run(&["logs", "web/a", "-t"]).good();
    assert!(
        out.starts_with("2026-01-31T12:00:00.000000001Z one, \n"),
        "{out}"
    );
}

#[test]
fn output_of_a_container_that_is_gone_can_still_be_read() {
    let body = || async { whole(vec![log("main", "last words", false)]) };
    let gone = || async {
        let message = "there is no container web".to_owned();
        (
            StatusCode::NOT_FOUND,
            Json(Problem {
                code: "UnknownName".into(),
                message,
            }),
        )
    };
    let routes = Router::new()
        .route("/containers/web", get(gone))
        .route("/containers/web/logs", get(body));
    let daemon = Daemon::start(routes);
    assert_eq!(daemon.run(&["logs", "web"]).good(), "main | last words\n");
}

#[test]
fn what_logs_was_asked_reaches_the_daemon() {
    let daemon = logs(&["main"], || whole(vec![]));
    let args = [
        "logs",
        "web/main",
        "-f",
        "--tail",
        "5",
        "--since",
        "1970-01-01T00:00:07Z",
    ];
    assert_eq!(daemon.run(&args).good(), "");
    let path = "GET /v1/containers/web/logs?process=main&follow=true&since_ms=7000&tail=5";
    assert_eq!(daemon.asked(), [path]);
}

#[test]
fn logs_as_json_are_the_daemons_lines() {
    let daemon = logs(&["main"], || whole(vec![log("main", "\u{1b}[2J", false)]));
    let out = daemon.run(&["logs", "web", "-o", "json"]).good();
    assert!(!out.contains('\u{1b}'), "{out:?}");
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        log("main", "\u{1b}[2J", false)
    );
}

#[test]
fn events_are_a_table_or_lines_of_json() {
    let body = || whole(vec![event(1, "a \u{1b}[2J"), event(2, "b")]);
    let daemon = Daemon::start(Router::new().route("/events", get(move || async move { body() })));
    let out = daemon.run(&["events", "web", "--tail", "9"]).good();
    assert!(
        out.starts_with("TIME ") && out.contains("Created   a \\x1b[2J\n"),
        "{out}"
    );
    let out = daemon.run(&["events", "-o", "json"]).good();
    let seqs: Vec<u64> = out
        .lines()
        .map(|line| serde_json::from_str::<Event>(line).unwrap().seq)
        .collect();
    assert_eq!(seqs, [1, 2]);
    let asked = ["GET /v1/events?key=web&tail=9", "GET /v1/events?tail=50"];
    assert_eq!(daemon.asked(), asked);
}

#[test]
fn a_daemon_that_ends_while_it_is_watched_is_an_error() {
    let routes = Router::new()
        .route("/events", get(|| async { whole(vec![event(1, "last")]) }))
        .route(
            "/watch",
            get(|| async { whole(vec![view("web", "Running", true)]) }),
        );
    let daemon = Daemon::start(routes);
    for (args, last) in [(&["events", "-w"], "last"), (&["status", "-w"], "web")] {
        let ran = daemon.run(args);
        assert_eq!(ran.code, Some(1), "{args:?}");
        assert!(
            ran.stdout.contains(last),
            "what it said before is printed: {}",
            ran.stdout
        );
        assert!(
            ran.stderr.contains("the daemon has ended"),
            "{}",
            ran.stderr
        );
    }
    assert_eq!(daemon.asked()[0], "GET /v1/events?tail=50&follow=true");
}

fn watching() -> Daemon {
    let views = || {
        let mut gone = view("db", "Stopping", false);
        gone["gone"] = true.into();
        vec![
            view("db", "Running", true),
            view("web", "Starting", false),
            gone,
        ]
    };
    let routes = Router::new()
        .route("/containers", get(|| async { Json(list(&[])) }))
        .route(
            "/containers/web",
            get(|| async { Json(detail(&view("web", "Running", true))) }),
        )
        .route("/watch", get(move || async move { open(views()) }));
    Daemon::start(routes)
}

#[test]
fn status_goes_on_and_prints_what_changes() {
    let daemon = watching();
    for (args, last, lines) in [
        (&["status", "-w"][..], "Gone", 4),
        (&["status", "-w", "web"], "web", 2),
        (&["status", "-w", "-l", "app=db"], "Gone", 3),
        (&["status", "-w", "-o", "name", "-l", "app=web"], "web\n", 1),
    ] {
        let mut child = daemon.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let mut pipe = child.stdout.take().unwrap();
        let seen = read_until(&mut pipe, last);
        assert_eq!(seen.lines().count(), lines, "{args:?}: {seen}");
        drop(pipe);
        assert_eq!(ended(child), Some(0), "{args:?}");
    }
}

#[test]
fn status_goes_on_as_lines_of_json() {
    let daemon = watching();
    let args = ["status", "-w", "-o", "json"];
    let mut child = daemon
        .command(&args)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    let seen = read_until(&mut pipe, "\"gone\":true}\n");
    for line in seen.lines() {
        serde_json::from_str::<ContainerView>(line).unwrap();
    }
    drop(pipe);
    assert_eq!(ended(child), Some(0));
}

#[test]
fn a_reader_that_leaves_is_noticed_even_while_nothing_is_written() {
    let daemon = Daemon::start(
        Router::new().route("/events", get(|| async { open(vec![event(1, "only")]) })),
    );
    let mut command = daemon.command(&["events", "-w"]);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdout.take().unwrap();
    read_until(&mut pipe, "only");
    drop(pipe);
    let mut stderr = child.stderr.take().unwrap();
    assert_eq!(ended(child), Some(0));
    let mut said = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_reader_that_left_before_the_first_byte_costs_neither_noise_nor_the_exit_code() {
    let stopped = || async { Json(detail(&view("web", "Stopped", true))) };
    let daemon = Daemon::start(Router::new().route("/containers/web", get(stopped)));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = daemon.command(&["status", "web"]);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_full_disk_is_an_error_not_silence() {
    let stopped = || async { Json(list(&[view("web", "Stopped", true)])) };
    let daemon = Daemon::start(Router::new().route("/containers", get(stopped)));
    let full = std::fs::OpenOptions::new()
        .write(true)
        .open("/dev/full")
        .unwrap();
    let output = daemon
        .command(&["status"])
        .stdout(full)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = output.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("cannot write to standard output: No space left"),
        "{said}"
    );
}
