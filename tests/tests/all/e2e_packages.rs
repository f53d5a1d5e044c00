//! One law for each package that was chosen for this project and is seen nowhere else in the
//! end-to-end tests. `tests/README.md` has the whole table.

use std::process::{Command, Stdio};

use tests::eventually::{eventually, until};
use tests::world::{SOON, World, bin};

use crate::e2e_life::WORKER;

/// tokio: one thread of answers would be held by the first follower.
#[test]
fn many_followers_delay_nobody_else() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let mut followers: Vec<_> = (0..16)
        .map(|number| {
            let arguments: &[&str] = if number % 2 == 0 {
                &["events", "-w"]
            } else {
                &["logs", "-f", "worker"]
            };
            Command::new(bin("reconciler"))
                .args(arguments)
                .env("RECONCILER_SOCKET", world.socket())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("start a follower")
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(world.status("worker")["phase"], "Running");
    }
    for follower in &mut followers {
        assert!(
            follower.try_wait().expect("look").is_none(),
            "a follower follows"
        );
        follower.kill().expect("end a follower");
        follower.wait().expect("reap a follower");
    }
    world.finish();
}

/// sled: intent outlives both the daemon and the directory it came from.
#[test]
fn intent_is_kept_without_its_file() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    let before = world.wait_phase("worker", "Running");
    world.kill9();
    std::fs::rename(world.path("specs"), world.path("aside")).expect("take the directory away");
    tests::host::kill(before["pid"].as_u64().expect("a pid"));
    world.spawn();
    // The container died while nobody looked, and its file cannot be read: it comes back.
    eventually("the worker to be made anew from the store", SOON, || {
        let status = world.status("worker");
        let anew = status["pid"].is_u64() && status["pid"] != before["pid"];
        if anew {
            Ok(())
        } else {
            Err(format!("{status:#}\n{}", world.log_tail()))
        }
    });
    std::fs::rename(world.path("aside"), world.path("specs")).expect("bring it back");
    world.finish();
}

/// backoff: the delays grow up to their cap, and an edit forgets them.
#[test]
fn delays_between_restarts_grow_to_their_cap_and_an_edit_forgets_them() {
    let mut world = World::new();
    world.start();
    let spec = |code: u32, initial: &str, max: &str| {
        format!(
            "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: crash}}\nspec:\n  rootfs: \
             {{directory: /srv/rootfs/busybox}}\n  processes:\n    - name: p\n      command: [/bin/sh, \
             -c, \"cat /proc/uptime; exit {code}\"]\n      restart: {{policy: always, backoff: {{initial: \
             {initial}, max: {max}}}}}\n"
        )
    };
    world.write("crash.yaml", &spec(1, "100ms", "400ms"));
    until("seven starts", SOON, || {
        world.status("crash")["restarts"].as_u64() >= Some(6)
    });
    eventually("the next start to be told", SOON, || {
        let status = world.status("crash");
        if status["phase"] == "Backoff" && status["nextRetryMs"].is_u64() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    assert!(String::from_utf8_lossy(&world.cli(&["status"]).stdout).contains("Backoff"));
    // As drawn: 100, 200, and from the third on 400 ms, each half as much more or less.
    let drawn = delays(&world);
    assert!(drawn.len() >= 6, "{drawn:?}");
    assert!((50..=150).contains(&drawn[0]), "{drawn:?}");
    let capped = |delay: &u64| (200..=600).contains(delay);
    assert!(drawn.iter().skip(2).all(capped), "{drawn:?}");
    // As kept: no start came before its delay was over.
    let begun = starts(&world);
    let gaps = begun.windows(2).map(|pair| (pair[1] - pair[0]) * 1_000.0);
    let kept = gaps
        .zip(&drawn)
        .all(|(gap, delay)| gap + 20.0 >= *delay as f64);
    assert!(kept, "{begun:?} after {drawn:?}");
    // A long delay is forgotten with the next edit.
    world.write("crash.yaml", &spec(1, "1h", "1h"));
    until("the long wait", SOON, || {
        world.status("crash")["generation"] == 2 && world.status("crash")["phase"] == "Backoff"
    });
    world.write(
        "crash.yaml",
        &spec(0, "100ms", "400ms").replace("policy: always", "policy: onFailure"),
    );
    world.wait_phase("crash", "Completed");
    world.finish();
}

/// The delays that were drawn, in milliseconds, in order.
fn delays(world: &World) -> Vec<u64> {
    let output = world.cli(&["events", "crash"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let told = text
        .lines()
        .filter_map(|line| line.split(" starts again in ").nth(1));
    told.filter_map(|rest| rest.split("ms").next()?.parse().ok())
        .collect()
}

/// When the process was started, in seconds, from what it said.
fn starts(world: &World) -> Vec<f64> {
    let output = world.cli(&["logs", "crash"]);
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.rsplit(' ').nth(1)?.parse().ok())
        .collect()
}

/// serde: what people read is what programs read.
#[test]
fn every_answer_is_json_when_asked() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    for arguments in [
        &["status", "-o", "json"][..],
        &["status", "worker", "-o", "json"],
        &["describe", "worker", "-o", "json"],
        &["why", "worker", "-o", "json"],
        &["plan", "-o", "json"],
        &["doctor", "-o", "json"],
        &["version", "-o", "json"],
        &["schema"],
    ] {
        let output = world.cli(arguments);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&text);
        assert!(
            parsed.is_ok_and(|value| !value.is_null()),
            "{arguments:?} said {text}"
        );
    }
    // And what it holds is what was read from the file, through store and core.
    let described = world
        .json(&["describe", "worker", "-o", "json"])
        .to_string();
    for part in ["\"worker\"", "67108864", "count", "line $n"] {
        assert!(described.contains(part), "{part} is not in {described}");
    }
    world.finish();
}
