//! A kill for memory is told as one, once, and to whom it happened.

use std::fs;

use tests::eventually::{eventually, throughout, until};
use tests::host::kill;
use tests::world::{SOON, World};

/// A container that waits for `/tmp/go` and then does something, with 8 MiB.
fn spec(then: &str) -> String {
    format!(
        r#"apiVersion: reconciler/v1
kind: Container
metadata: {{name: worker}}
spec:
  rootfs: {{directory: /srv/rootfs/busybox}}
  limits: {{memory: 8Mi, pids: 32}}
  processes:
    - name: main
      command: [/bin/sh, -c, "while ! test -e /tmp/go; do sleep 0.05; done; {then}"]
      restart: {{policy: never}}
"#
    )
}

/// Started, with its init and its process.
fn waiting(then: &str) -> (World, u64, u64) {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", &spec(then));
    let status = world.wait_phase("worker", "Running");
    let init = status["pid"].as_u64().expect("a pid");
    let main = world.pid("worker", "main").expect("a pid");
    (world, init, main)
}

fn go(init: u64) {
    fs::write(format!("/proc/{init}/root/tmp/go"), "").expect("let it go on");
}

fn is_gone(pid: u64) -> bool {
    !fs::exists(format!("/proc/{pid}")).unwrap_or(true)
}

/// What every event of a kill for memory says, oldest first.
fn kills(world: &World) -> Vec<String> {
    let events = world.json(&["describe", "worker", "-o", "json"])["events"].clone();
    let kills = events
        .as_array()
        .into_iter()
        .flatten()
        .filter(|event| event["reason"] == "OOMKilled");
    kills
        .filter_map(|event| event["message"].as_str().map(str::to_owned))
        .collect()
}

/// Waits for the one event, which another daemon does not tell again.
fn told_once(world: &mut World) -> String {
    let told = eventually("the kill to be told", SOON, || match &kills(world)[..] {
        [one] => Ok(one.clone()),
        other => Err(format!("{other:?}")),
    });
    world.kill9();
    world.start();
    eventually("it to be adopted", SOON, || {
        let status = world.status("worker");
        if status["processes"].is_array() {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    throughout("one event", std::time::Duration::from_secs(3), || {
        kills(world).len() == 1
    });
    told
}

#[test]
fn a_kill_for_memory_is_counted_and_told() {
    let (mut world, init, _) = waiting("exec tail /dev/zero");
    go(init);
    let told = told_once(&mut world);
    assert!(
        told.starts_with("main was killed by KILL (out of memory); "),
        "{told}"
    );
    assert!(
        told.ends_with(" at most were in use, the limit is 8Mi"),
        "{told}"
    );
    let status = world.status("worker");
    assert_eq!(
        status["processes"][0]["lastExit"],
        "OOMKilled, killed by KILL (out of memory)"
    );
    let healthy = status["conditions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|one| one["kind"] == "Healthy")
        .expect("the condition")
        .clone();
    assert_eq!(healthy["reason"], "OOMKilled", "{healthy}");
    for command in ["why", "describe"] {
        let said = String::from_utf8_lossy(&world.cli(&[command, "worker"]).stdout).into_owned();
        assert!(said.contains("OOMKilled"), "{command}: {said}");
    }
    world.finish();
}

#[test]
fn a_kill_for_memory_while_no_daemon_runs_is_told_by_the_next() {
    let (mut world, init, main) = waiting("exec tail /dev/zero");
    world.kill9();
    go(init);
    until("it to be killed", SOON, || is_gone(main));
    world.start();
    let told = told_once(&mut world);
    assert!(told.starts_with("main was killed"), "{told}");
    world.finish();
}

#[test]
fn a_kill_for_memory_in_a_life_that_is_over_is_told() {
    let (mut world, init, main) = waiting("exec tail /dev/zero");
    world.kill9();
    go(init);
    until("it to be killed", SOON, || is_gone(main));
    kill(init);
    until("the init to be gone", SOON, || is_gone(init));
    world.start();
    let told = told_once(&mut world);
    assert!(told.starts_with("main was killed"), "{told}");
    world.finish();
}

#[test]
fn a_child_killed_for_memory_blames_no_process() {
    let (mut world, init, main) = waiting("tail /dev/zero; while :; do sleep 1; done");
    go(init);
    // Version 1 tells nobody: a look is asked for.
    eventually("the kill to be told", SOON, || {
        assert!(world.cli(&["sync"]).status.success());
        match kills(&world).len() {
            1 => Ok(()),
            other => Err(format!("{other} events")),
        }
    });
    let told = told_once(&mut world);
    assert!(
        told.starts_with("a process inside, none of its own"),
        "{told}"
    );
    let process = world.status("worker")["processes"][0].clone();
    assert_eq!(process["pid"].as_u64(), Some(main), "{process}");
    assert!(process["lastExit"].is_null(), "{process}");
    world.finish();
}
