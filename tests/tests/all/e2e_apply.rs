//! Specs that lie in the store: applied, read back, deleted.

use std::process::Output;

use tests::eventually::until;
use tests::world::{SOON, World};

use crate::e2e_life::WORKER;
use crate::e2e_recovery::lose_store;

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes a text beside the watched directory; returns its path.
fn text(world: &World, name: &str, text: &str) -> String {
    let path = world.path(name);
    std::fs::write(&path, world.localised(text)).expect("write a text");
    path.to_string_lossy().into_owned()
}

#[test]
fn what_is_applied_runs_changes_under_the_same_pid_and_goes_when_it_is_deleted() {
    let mut world = World::new();
    world.start();
    let first = text(&world, "mine.yaml", WORKER);
    let output = world.cli(&["apply", "-f", &first, "--wait"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(said(&output), "worker created (generation 1)\n");
    let pid = world.pid("worker", "count");
    assert!(pid.is_some());

    let edited = WORKER.replace("64Mi, pids: 32", "96Mi, pids: 48");
    let second = text(&world, "mine.yaml", &edited);
    let dry = said(&world.cli(&["apply", "-f", &second, "--dry-run"]));
    assert!(dry.contains("limits.memory  64Mi -> 96Mi"), "{dry}");
    assert_eq!(world.status("worker")["generation"], 1);
    let output = world.cli(&["apply", "-f", &second, "--wait"]);
    assert_eq!(said(&output), "worker configured (generation 2)\n");
    let output = world.cli(&["apply", "-f", &second]);
    assert_eq!(said(&output), "worker unchanged (generation 2)\n");
    let spec = said(&world.cli(&["get", "worker", "-o", "yaml"]));
    for line in ["kind: Container", "memory: 96Mi", "policy: always"] {
        assert!(spec.contains(line), "{line} is not in {spec}");
    }

    // It outlives the daemon, and no listing of a directory takes it away.
    world.kill9();
    world.start();
    let synced = world.cli(&["sync", "--wait"]);
    assert!(synced.status.success(), "{}", said(&synced));
    assert_eq!(world.pid("worker", "count"), pid);

    let history = said(&world.cli(&["history", "worker"]));
    let rows = history.lines().skip(1);
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 2, "{history}");
    assert_eq!([rows[0][0], rows[0][2], rows[0][3]], ["1", "api", "-"]);
    assert_eq!([rows[1][0], rows[1][2]], ["2*", "api"]);
    assert_eq!(rows[1][3..], ["spec.limits.memory,", "spec.limits.pids"]);
    let diff = said(&world.cli(&["diff", "worker", "@2..@1"]));
    assert!(diff.contains("spec.limits.memory  96Mi -> 64Mi"), "{diff}");
    let output = world.cli(&["rollback", "worker", "--wait"]);
    assert_eq!(
        said(&output),
        "worker: generation 3 is as generation 1 was\n"
    );
    assert_eq!(
        world.status("worker")["usage"]["memoryLimitBytes"],
        64 << 20
    );
    assert_eq!(world.pid("worker", "count"), pid);

    let output = world.cli(&["delete", "worker", "--wait"]);
    assert_eq!(said(&output), "worker: it is being removed\n");
    assert!(output.status.success());
    assert_eq!(
        world.cli(&["delete", "worker"]).status.code(),
        Some(4),
        "it is not there any more"
    );
    world.finish();
}

#[test]
fn a_container_from_a_file_is_changed_in_that_file_only() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let pid = world.pid("worker", "count");
    let other = text(&world, "mine.yaml", &WORKER.replace("64Mi", "96Mi"));
    let place = world.path("specs").join("worker.yaml");
    let place = format!("{}:1", place.display());
    for arguments in [
        &["apply", "-f", &other][..],
        &["delete", "worker"],
        &["rollback", "worker", "--to", "1"],
    ] {
        let output = world.cli(arguments);
        assert_eq!(output.status.code(), Some(1), "{}", said(&output));
        assert!(said(&output).contains(&place), "{}", said(&output));
    }
    // All or none: a sound text beside a refused one is not taken either.
    let sound = text(&world, "sound.yaml", &WORKER.replace("worker", "sound"));
    let output = world.cli(&["apply", "-f", &sound, &other]);
    assert!(said(&output).contains("nothing was applied"));
    assert_eq!(world.cli(&["status", "sound"]).status.code(), Some(4));
    // The other way round: the file is refused until the applied one is deleted.
    let output = world.cli(&["apply", "-f", &sound, "--wait"]);
    assert!(output.status.success(), "{}", said(&output));
    world.write("sound.yaml", &WORKER.replace("worker", "sound"));
    until("the file to be refused", SOON, || {
        said(&world.cli(&["status"])).contains("held by a spec applied over the socket")
    });
    assert!(world.cli(&["delete", "sound"]).status.success());
    until("the file to be taken", SOON, || {
        let status = world.status("sound");
        status["phase"] == "Running" && status["generation"] == 2
    });
    assert_eq!(world.pid("worker", "count"), pid);
    world.finish();
}

#[test]
fn an_applied_container_runs_on_with_the_store_lost_and_is_taken_up_when_applied_again() {
    let mut world = World::new();
    world.start();
    let mine = text(&world, "mine.yaml", WORKER);
    let output = world.cli(&["apply", "-f", &mine, "--wait"]);
    assert!(output.status.success(), "{}", said(&output));
    let pid = world.pid("worker", "count").expect("a pid");
    world.kill9();
    lose_store(&world);
    world.start();
    until("it to be told", SOON, || {
        said(&world.cli(&["status"])).contains("without a known spec, left alone: worker")
    });
    for _ in 0..3 {
        assert!(world.cli(&["sync"]).status.success());
    }
    assert!(std::fs::exists(format!("/proc/{pid}")).is_ok_and(|lives| lives));
    until("it to be taken again", SOON, || {
        world
            .cli(&["apply", "-f", &mine, "--wait"])
            .status
            .success()
    });
    assert_eq!(world.pid("worker", "count"), Some(pid));
    until("safe mode to be left", SOON, || {
        !said(&world.cli(&["status"])).contains("safe mode")
    });
    let output = world.cli(&["delete", "worker", "--wait"]);
    assert!(output.status.success(), "{}", said(&output));
    world.finish();
}
