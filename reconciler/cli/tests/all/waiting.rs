//! `--wait`.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::{StreamExt as _, stream};
use reconciler_daemon::api::wire::{Done, List, RefusedFile};
use serde_json::Value;

use crate::daemon::{Daemon, detail, list, version, view};

/// Lines now, then an open stream.
fn open(lines: Vec<Value>) -> Body {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let first = stream::once(async { Ok::<_, Infallible>(text) });
    Body::from_stream(first.chain(stream::pending()))
}

/// A daemon whose list is `before`, whose stream then tells `changes`, and that afterwards
/// answers with `after`.
fn changing(before: Vec<Value>, changes: Vec<Value>, after: Vec<Value>) -> Daemon {
    let now = Arc::new(Mutex::new(list(&before)));
    let (lists, watches, one) = (now.clone(), now.clone(), now);
    let routes = Router::new()
        .route("/version", get(|| async { Json(version(true)) }))
        .route(
            "/containers",
            get(move || async move {
                // The first answer is the state before; the stream's changes come after it.
                let answer = lists.lock().unwrap().clone();
                *lists.lock().unwrap() = list(&after);
                Json(answer)
            }),
        )
        .route(
            "/containers/{name}",
            get(move || async move {
                let view = one.lock().unwrap().containers[0].clone();
                Json(detail(&serde_json::to_value(view).unwrap()))
            }),
        )
        .route(
            "/watch",
            get(move || async move {
                drop(watches);
                open(changes)
            }),
        )
        .route(
            "/sync",
            post(|| async {
                Json(Done {
                    message: "looking".into(),
                })
            }),
        )
        .route(
            "/containers/{name}/{verb}",
            post(|| async {
                Json(Done {
                    message: "ok".into(),
                })
            }),
        );
    Daemon::start(routes)
}

#[test]
fn status_waits_until_it_is_settled_and_active() {
    let begin = view("web", "Starting", false);
    let done = view("web", "Running", true);
    let daemon = changing(
        vec![begin.clone()],
        vec![begin, view("other", "Starting", false), done.clone()],
        vec![done],
    );
    let out = daemon
        .run(&["status", "web", "--wait", "--timeout", "20s"])
        .good();
    assert!(out.contains("Running"), "{out}");
}

#[test]
fn settled_and_stopped_is_3() {
    let stopped = view("web", "Stopped", true);
    let daemon = changing(vec![stopped.clone()], vec![], vec![stopped]);
    let ran = daemon.run(&["status", "web", "--wait", "--timeout", "20s"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(3), ""),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_container_that_is_late_is_3_and_named() {
    let begin = view("web", "Starting", false);
    let daemon = changing(vec![begin.clone()], vec![], vec![begin]);
    for args in [
        &["status", "web", "--wait", "--timeout", "100ms"][..],
        &["status", "--wait", "--timeout", "100ms"],
        &["sync", "--wait", "--timeout", "100ms"],
        &["restart", "web", "--wait", "--timeout", "100ms"],
    ] {
        let ran = daemon.run(args);
        assert_eq!(
            (ran.code, ran.stderr.as_str()),
            (Some(3), ""),
            "{args:?}: {}",
            ran.stdout
        );
        assert!(
            ran.stdout.contains("not settled in time: web is Starting"),
            "{}",
            ran.stdout
        );
    }
}

#[test]
fn a_status_of_an_older_generation_does_not_end_the_waiting() {
    let mut old = view("web", "Running", true);
    old["status"]["generation"] = 2.into();
    let daemon = changing(vec![old.clone()], vec![], vec![old]);
    let ran = daemon.run(&["status", "web", "--wait", "--timeout", "100ms"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stdout);
}

#[test]
fn what_needs_a_person_ends_the_waiting_at_once() {
    let failed = view("web", "Failed", false);
    let daemon = changing(vec![failed.clone()], vec![], vec![failed]);
    let ran = daemon.run(&["status", "web", "--wait", "--timeout", "1h"]);
    assert_eq!(ran.code, Some(3));
    assert!(
        ran.stdout.contains("needs a person: web is Failed"),
        "{}",
        ran.stdout
    );
}

#[test]
fn a_name_that_never_comes_is_4() {
    let daemon = changing(vec![], vec![], vec![]);
    let ran = daemon.run(&["status", "web", "--wait", "--timeout", "100ms"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (Some(4), "error: no container has the name `web`\n")
    );
}

#[test]
fn a_name_that_comes_while_waiting_counts() {
    let web = view("web", "Running", true);
    let daemon = changing(vec![], vec![web.clone()], vec![web]);
    daemon
        .run(&["status", "web", "--wait", "--timeout", "20s"])
        .good();
}

#[test]
fn a_container_that_goes_while_waiting_counts_no_more() {
    let old = view("old", "Stopping", false);
    let mut gone = old.clone();
    gone["gone"] = true.into();
    let daemon = changing(vec![old], vec![gone], vec![]);
    daemon.run(&["sync", "--wait", "--timeout", "20s"]).good();
}

#[test]
fn after_an_order_an_older_settled_status_is_not_believed() {
    // The list still says settled; the change that the order causes comes with the stream.
    let settled = view("web", "Running", true);
    let daemon = changing(
        vec![settled.clone()],
        vec![view("web", "Stopping", false)],
        vec![settled],
    );
    let ran = daemon.run(&["restart", "web", "--wait", "--timeout", "2s"]);
    assert_eq!(ran.code, Some(3), "{}", ran.stdout);
    assert!(ran.stdout.contains("web is Stopping"), "{}", ran.stdout);
}

#[test]
fn a_refused_file_makes_sync_fail_although_all_is_settled() {
    let asked = Arc::new(AtomicUsize::new(0));
    let lists = asked.clone();
    let refused = RefusedFile {
        path: "/specs/bad.yaml".into(),
        diagnostics: vec![],
        rendered: "error[E0107]: unknown field".into(),
    };
    let answer = List {
        refused: vec![refused],
        ..list(&[view("web", "Running", true)])
    };
    let routes = Router::new()
        .route("/version", get(|| async { Json(version(true)) }))
        .route(
            "/containers",
            get(move || async move {
                lists.fetch_add(1, Ordering::SeqCst);
                Json(answer)
            }),
        )
        .route("/watch", get(|| async { open(vec![]) }))
        .route(
            "/sync",
            post(|| async {
                Json(Done {
                    message: "looking".into(),
                })
            }),
        );
    let ran = Daemon::start(routes).run(&["sync", "--wait"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    assert!(
        ran.stdout
            .contains("refused: /specs/bad.yaml\nerror[E0107]"),
        "{}",
        ran.stdout
    );
    assert!(asked.load(Ordering::SeqCst) >= 1);
}

#[test]
fn a_daemon_that_ends_meanwhile_is_an_error() {
    let routes = Router::new()
        .route("/version", get(|| async { Json(version(true)) }))
        .route(
            "/containers",
            get(|| async { Json(list(&[view("web", "Starting", false)])) }),
        )
        .route("/watch", get(|| async { Body::empty() }));
    let error = Daemon::start(routes).run(&["status", "--wait"]).bad(1);
    assert!(error.contains("the daemon has ended"), "{error}");
}

#[test]
fn a_daemon_that_is_starting_has_not_settled_anything() {
    let asked = Arc::new(AtomicUsize::new(0));
    let versions = asked.clone();
    let ready_at_third =
        move || async move { Json(version(versions.fetch_add(1, Ordering::SeqCst) >= 2)) };
    let web = view("web", "Running", true);
    let routes = |ready| {
        Router::new()
            .route("/version", ready)
            .route(
                "/containers",
                get(move || async move { Json(list(&[web])) }),
            )
            .route("/watch", get(|| async { open(vec![]) }))
    };
    let daemon = Daemon::start(routes.clone()(get(ready_at_third)));
    daemon.run(&["status", "--wait", "--timeout", "20s"]).good();
    assert_eq!(asked.load(Ordering::SeqCst), 3);
    let daemon = Daemon::start(routes(get(|| async { Json(version(false)) })));
    let error = daemon
        .run(&["status", "--wait", "--timeout", "100ms"])
        .bad(3);
    assert!(error.contains("the daemon is still starting"), "{error}");
}

#[test]
fn a_refusal_of_the_one_that_was_synced_makes_sync_fail() {
    let refused = |refusal: Option<&str>| {
        let mut detail = detail(&view("web", "Running", true));
        detail.refusal = refusal.map(Into::into);
        let routes = Router::new()
            .route("/version", get(|| async { Json(version(true)) }))
            .route(
                "/containers",
                get(|| async { Json(list(&[view("web", "Running", true)])) }),
            )
            .route("/containers/web", get(|| async { Json(detail) }))
            .route("/watch", get(|| async { open(vec![]) }))
            .route(
                "/sync",
                post(|| async {
                    Json(Done {
                        message: "looking".into(),
                    })
                }),
            );
        Daemon::start(routes).run(&["sync", "web", "--wait"])
    };
    assert_eq!(refused(None).good(), "looking\n");
    let ran = refused(Some("error[E0201]: unknown field"));
    assert_eq!(
        (ran.code, ran.stdout.as_str()),
        (Some(1), "looking\nerror[E0201]: unknown field\n")
    );
}
