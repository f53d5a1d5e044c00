//! What a terminal sees: colour when it may, and never an escape that is not ours.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;

use axum::routing::get;
use axum::{Json, Router};
use reconciler_daemon::api::wire::{Check, Doctor, Link, List, RefusedFile, Why};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::daemon::{Daemon, detail, ended, list, version, view};

/// A pseudo-terminal: our end and the other's.
pub(crate) fn terminal() -> (OwnedFd, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name, flags, Mode::empty()).unwrap();
    (ours, theirs)
}

/// Runs the binary with a terminal as its standard output and error; returns what that saw.
fn seen(daemon: &Daemon, args: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let (ours, theirs) = terminal();
    let mut command = daemon.command(args);
    command.envs(environment.iter().copied());
    command.stdout(theirs.try_clone().unwrap()).stderr(theirs);
    let child = command.spawn().unwrap();
    // The command holds this side's last copies of the other end: without them the read below
    // ends with the child.
    drop(command);
    let mut text = Vec::new();
    // `pty(7)`: reading fails with EIO once the other end is closed.
    let _end = File::from(ours).read_to_end(&mut text);
    (ended(child), String::from_utf8(text).unwrap())
}

fn lists() -> Daemon {
    let list = list(&[view("db", "Failed", true), view("web", "Running", true)]);
    Daemon::start(Router::new().route("/containers", get(|| async { Json(list) })))
}

#[test]
fn a_terminal_gets_colour_and_nothing_else_does() {
    let daemon = lists();
    let color = |environment: &[(&str, &str)], args: &[&str]| {
        let (code, text) = seen(&daemon, &[&["status"], args].concat(), environment);
        assert_eq!(code, Some(0));
        assert!(text.contains("Running"), "{text}");
        text.contains('\u{1b}')
    };
    assert!(color(&[], &[]));
    assert!(!color(&[("NO_COLOR", "1")], &[]));
    assert!(color(&[("NO_COLOR", "")], &[]), "an empty value is no wish");
    assert!(!color(&[("TERM", "dumb")], &[]));
    assert!(!color(&[], &["--color", "never"]));
    assert!(
        color(&[("NO_COLOR", "1")], &["--color", "always"]),
        "the command line wins"
    );
    assert!(!daemon.run(&["status"]).good().contains('\u{1b}'));
    assert!(
        daemon
            .run(&["status", "--color", "always"])
            .good()
            .contains('\u{1b}')
    );
}

#[test]
fn help_and_errors_mind_the_environment_too() {
    let daemon = lists();
    for args in [
        &["--help"][..],
        &["frobnicate"],
        &["status", "--socket", "/nonexistent/s"],
    ] {
        let (_, text) = seen(&daemon, args, &[]);
        assert!(text.contains('\u{1b}'), "{args:?}: {text}");
        let (_, text) = seen(&daemon, args, &[("NO_COLOR", "1")]);
        assert!(!text.contains('\u{1b}'), "{args:?}: {text}");
    }
}

/// What is left of a text once colour sequences are taken away.
fn without_color(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        out.push_str(before);
        let end = after
            .find(|c: char| !(c.is_ascii_digit() || c == ';'))
            .unwrap();
        assert!(after[end..].starts_with('m'), "no colour: {after:?}");
        rest = &after[end + 1..];
    }
    out + rest
}

/// Attacks on a terminal. The red of the first one would be let through by a filter that
/// only asks whether a sequence is a colour.
const ATTACKS: &[&str] = &[
    "\u{1b}[31mred",
    "\u{1b}[2J\u{1b}[H",
    "\u{1b}]0;title\u{7}",
    "\u{1b}]52;c;cm0=\u{7}",
    "\u{1b}[6n",
    "\u{9b}2J",
    "a\rb\u{8}\u{7f}",
    "\u{202e}gpj.exe\u{2066}",
    "\u{200b}\u{2028}\u{e0041}",
];

fn hostile(attack: &'static str) -> Daemon {
    let view = || {
        let mut view = view("web", "Failed", true);
        let status = &mut view["status"];
        status["lastError"] = serde_json::json!({"step": attack, "what": attack,
            "cause": attack, "errno": 1, "hint": attack, "attempts": 1});
        status["overrideNote"] = attack.into();
        status["drift"] = vec![attack].into();
        status["conditions"][0]["message"] = attack.into();
        status["conditions"][0]["reason"] = attack.into();
        status["processes"][0]["state"] = attack.into();
        status["processes"][0]["lastExit"] = attack.into();
        view["labels"] = serde_json::json!({attack: attack});
        view["source"] = attack.into();
        view
    };
    let list = || List {
        refused: vec![RefusedFile {
            path: attack.into(),
            diagnostics: vec![],
            rendered: attack.into(),
        }],
        notices: vec![attack.into()],
        ..list(&[view()])
    };
    let detail = || {
        let mut detail = detail(&view());
        detail.mounts.insert(attack.into(), attack.into());
        detail.limits.insert(attack.into(), attack.into());
        detail.refusal = Some(attack.into());
        detail
    };
    let why = || Why {
        summary: attack.into(),
        chain: vec![Link {
            kind: attack.into(),
            text: attack.into(),
        }],
    };
    let doctor = || Doctor {
        checks: vec![Check {
            name: attack.into(),
            result: attack.into(),
            detail: attack.into(),
            remedy: Some(attack.into()),
        }],
    };
    let log = || {
        serde_json::json!({"process": attack, "stream": "stdout", "at": attack,
        "text": attack, "partial": false})
    };
    let event = || {
        serde_json::json!({"seq": 1, "atMs": 0, "key": null, "generation": 1,
        "severity": "warning", "reason": attack, "message": attack})
    };
    let (list, detail, why, doctor) = (list(), detail(), why(), doctor());
    let (log, event) = (format!("{}\n", log()), format!("{}\n", event()));
    Daemon::start(
        Router::new()
            .route("/containers", get(|| async { Json(list) }))
            .route("/containers/web", get(|| async { Json(detail) }))
            .route("/containers/web/why", get(|| async { Json(why) }))
            .route("/containers/web/logs", get(|| async { log }))
            .route("/doctor", get(|| async { Json(doctor) }))
            .route("/events", get(|| async { event })),
    )
}

#[test]
fn nothing_from_a_container_or_a_spec_reaches_a_terminal_unescaped() {
    for attack in ATTACKS {
        let daemon = hostile(attack);
        for args in [
            &["status"][..],
            &["status", "-o", "wide"],
            &["status", "-o", "json"],
            &["status", "-o", "yaml"],
            &["status", "web"],
            &["describe", "web"],
            &["describe", "web", "-o", "yaml"],
            &["why", "web"],
            &["logs", "web", "-t"],
            &["logs", "web", "-o", "json"],
            &["events"],
            &["events", "-o", "json"],
            &["doctor"],
        ] {
            let (code, text) = seen(&daemon, args, &[]);
            assert!(matches!(code, Some(0 | 3)), "{args:?}: {text}");
            assert!(!text.contains(attack), "{args:?}: {text:?}");
            // A terminal turns a line end into two characters.
            let bare = without_color(&text).replace("\r\n", "\n");
            let deceptive = |c: char| {
                c.is_control() && c != '\n'
                    || ('\u{200b}'..='\u{206f}').contains(&c)
                    || c > '\u{e0000}'
            };
            assert!(!bare.contains(deceptive), "{args:?}: {bare:?}");
        }
    }
}

#[test]
fn raw_logs_are_refused_on_a_terminal() {
    let (code, text) = seen(&hostile(ATTACKS[0]), &["logs", "web", "--raw"], &[]);
    assert_eq!(code, Some(64));
    assert!(
        text.contains("--raw lets a container steer the terminal"),
        "{text}"
    );
}

#[test]
fn waiting_shows_progress_on_a_terminal_only() {
    let list = list(&[view("web", "Starting", false)]);
    let routes = Router::new()
        .route("/version", get(|| async { Json(version(true)) }))
        .route("/containers", get(|| async { Json(list) }))
        .route(
            "/watch",
            get(|| async {
                axum::body::Body::from_stream(futures_util::stream::pending::<
                    Result<String, std::io::Error>,
                >())
            }),
        );
    let daemon = Daemon::start(routes);
    let args = ["status", "--wait", "--timeout", "300ms"];
    let (code, text) = seen(&daemon, &args, &[]);
    assert_eq!(code, Some(3));
    assert!(text.contains("0/1 settled  web Starting"), "{text:?}");
    let (_, text) = seen(&daemon, &args, &[("TERM", "dumb")]);
    assert!(!text.contains("0/1 settled"), "{text:?}");
    let ran = daemon.run(&args);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(3), ""));
}
