//! Peers that mean no good. Others are answered all the while.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::world::{BOUND, World, ask};

/// Longest that an honest question may take beside hostile ones, on a busy machine.
const SERVED: Duration = Duration::from_secs(5);

fn still_serves(world: &World) {
    let begun = Instant::now();
    world.get("/v1/version");
    assert!(begun.elapsed() < SERVED, "{:?}", begun.elapsed());
}

#[test]
fn heads_that_never_end_are_closed_and_keep_nobody_out() {
    let world = World::started();
    let mut slow: Vec<UnixStream> = (0..60)
        .map(|_| {
            let mut stream = UnixStream::connect(world.socket()).unwrap();
            stream
                .write_all(b"GET /v1/version HTTP/1.1\r\nx: ")
                .unwrap();
            stream.set_read_timeout(Some(BOUND)).unwrap();
            stream
        })
        .collect();
    still_serves(&world);
    let begun = Instant::now();
    let first = slow.first_mut().unwrap();
    let mut rest = Vec::new();
    first.read_to_end(&mut rest).ok();
    assert!(begun.elapsed() < BOUND, "never closed");
}

#[test]
fn more_connections_than_there_is_room_for_are_closed_at_once() {
    let world = World::started();
    let idle: Vec<UnixStream> = (0..300)
        .filter_map(|_| UnixStream::connect(world.socket()).ok())
        .collect();
    let closed = |stream: &UnixStream| {
        stream.set_nonblocking(true).unwrap();
        matches!((&*stream).read(&mut [0; 1]), Ok(0))
    };
    world.until("those beyond the bound to be closed", || {
        idle.iter().filter(|stream| closed(stream)).count() >= 300 - 128
    });
    drop(idle);
    world.until("room again", || world.try_get("/v1/version").is_some());
}

#[test]
fn a_huge_body_is_refused_without_being_held() {
    let world = World::started();
    let mut stream = UnixStream::connect(world.socket()).unwrap();
    stream
        .write_all(b"POST /v1/plan HTTP/1.1\r\nhost: d\r\ntransfer-encoding: chunked\r\n\r\n")
        .unwrap();
    let chunk = vec![b'a'; 1 << 20];
    let mut sent = 0;
    for _ in 0..64 {
        let head = format!("{:x}\r\n", chunk.len());
        let parts = [head.as_bytes(), &chunk, b"\r\n"];
        if parts.iter().any(|part| stream.write_all(part).is_err()) {
            break;
        }
        sent += chunk.len();
    }
    assert!(sent < 64 << 20, "all of it was taken");
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.pid())).unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    let peak_kib: u64 = line
        .split_ascii_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!(peak_kib < 512 << 10, "{line}");
    still_serves(&world);
}

#[test]
fn nonsense_is_answered_as_such() {
    let world = World::started();
    let socket = world.socket();
    let status = |method, path, body: &[u8]| ask(&socket, method, path, body).map(|(code, _)| code);
    assert_eq!(status("POST", "/v1/plan", b"{").unwrap(), 400);
    assert_eq!(
        status("POST", "/v1/plan", br#"{"files":[{"path":"x"}]}"#).unwrap(),
        400
    );
    assert_eq!(status("GET", "/v2/containers", b"").unwrap(), 404);
    assert_eq!(
        status("GET", "/v1/containers/..%2f..%2fetc", b"").unwrap(),
        404
    );
    assert_eq!(
        status("GET", "/v1/containers/..%2f..%2fetc/logs", b"").unwrap(),
        404
    );
    assert_eq!(
        status("GET", "/v1/containers?selector=x", b"").unwrap(),
        400
    );
    assert_eq!(
        status("POST", "/v1/containers/web/explode", b"").unwrap(),
        404
    );
    assert_eq!(status("DELETE", "/v1/containers", b"").unwrap(), 405);
    for (path, code) in [
        ("/v1/events?tail=many", 400),
        ("/v1/sync", 405),
        ("/nothing", 404),
    ] {
        let (status, body) = ask(&socket, "GET", path, b"").unwrap();
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(status, code, "{problem}");
        assert!(problem["message"].is_string(), "{problem}");
    }
    let long = format!("/v1/{}", "a".repeat(64 << 10));
    assert!(status("GET", &long, b"").map_or(true, |code| code >= 400));
    still_serves(&world);
}

#[test]
fn a_follower_that_reads_nothing_delays_nobody() {
    let world = World::started();
    let mut stalled: Vec<UnixStream> = Vec::new();
    for path in ["/v1/watch", "/v1/events?follow=true"] {
        let mut stream = UnixStream::connect(world.socket()).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nhost: d\r\n\r\n").unwrap();
        stalled.push(stream);
    }
    for n in 0..40 {
        world.write("bad.yaml", &format!("not: [a, spec, {n}"));
        still_serves(&world);
    }
    drop(stalled);
    still_serves(&world);
}
