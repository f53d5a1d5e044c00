//! Disks that are full, and a store that goes away under the daemon.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use tests::eventually::{eventually, until};
use tests::world::{SOON, World};

use crate::e2e_life::{WORKER, numbers};

/// Fills a file system to the last byte.
fn fill(directory: &Path) {
    let mut file = File::create(directory.join("fill")).expect("make a file");
    let mut block = vec![0u8; 1 << 20];
    while !block.is_empty() {
        if file.write_all(&block).is_err() {
            block.truncate(block.len() / 2);
        }
    }
}

fn ender() -> String {
    let mut lines: Vec<&str> = WORKER.lines().collect();
    let at = lines.iter().position(|line| line.contains("command:"));
    lines[at.expect("a command")] = concat!(
        "      command: [/bin/sh, -c, \"until test -e /go; do sleep 0.05; done; exit 42\"]\n",
        "      restart: {policy: never}"
    );
    lines.join("\n").replace("name: worker", "name: ender")
}

#[test]
fn a_full_disk_loses_no_exit_and_passes_by_itself() {
    let mut world = World::new();
    world.limit_disk("state", 64 << 20);
    world.limit_disk("run", 1 << 20);
    world.limit_disk("log", 1 << 20);
    world.start();
    world.write("worker.yaml", WORKER);
    world.write("ender.yaml", &ender());
    let init = world.wait_phase("worker", "Running")["pid"].clone();
    let root = world.wait_phase("ender", "Running")["pid"].clone();
    let count = world.pid("worker", "count");
    // Room for what runs already was set aside; what is new says why it cannot be.
    fill(&world.path("log"));
    fill(&world.path("run"));
    fs::write(format!("/proc/{root}/root/go"), "").expect("let it end");
    world.write("late.yaml", &WORKER.replace("name: worker", "name: late"));
    eventually("the exit to be told", SOON, || {
        let told = world.status("ender")["processes"][0]["lastExit"].clone();
        if told == "exited 42" {
            Ok(())
        } else {
            Err(told.to_string())
        }
    });
    eventually("the full disk to be told", SOON, || {
        let status = world.status("late");
        if status["lastError"].to_string().contains("No space left") {
            Ok(())
        } else {
            Err(status.to_string())
        }
    });
    let doctor = String::from_utf8_lossy(&world.cli(&["doctor"]).stdout).into_owned();
    let rows = doctor.lines().filter(|line| line.contains("room in "));
    let full = rows.filter(|line| line.starts_with("missing"));
    assert_eq!(full.count(), 2, "{doctor}");
    fill(&world.path("state"));
    world.write("worker.yaml", &WORKER.replace("64Mi", "48Mi"));
    eventually("the full store to be told", SOON, || {
        let output = world.cli(&["status"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let told = text.contains("the store cannot be written")
            && text.contains("worker.yaml: it could not be stored, and is tried again: no space");
        if told { Ok(()) } else { Err(text) }
    });
    assert_eq!(world.pid("worker", "count"), count);
    for name in ["log", "run", "state"] {
        fs::remove_file(world.path(name).join("fill")).expect("make room");
    }
    until("the edit to hold", SOON, || {
        world.status("worker")["usage"]["memoryLimitBytes"] == 48 << 20
    });
    let status = world.wait_phase("worker", "Running");
    assert_eq!(status["pid"], init);
    assert_eq!(status["restarts"], 0);
    assert_eq!(world.pid("worker", "count"), count);
    world.wait_phase("late", "Running");
    let said = numbers(&world, "worker").len();
    until("more output", SOON, || {
        numbers(&world, "worker").len() > said + 3
    });
    let lines = numbers(&world, "worker");
    assert!(
        lines.is_sorted_by(|one, next| one + 1 == *next),
        "{lines:?}"
    );
    world.finish();
}

#[test]
fn a_store_that_is_deleted_under_the_daemon_is_made_again_and_harms_nothing() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    let init = world.wait_phase("worker", "Running")["pid"].clone();
    let count = world.pid("worker", "count");
    let store = world.path("state").join(world.instance()).join("store");
    fs::remove_dir_all(&store).expect("delete the store");
    world.write("worker.yaml", &WORKER.replace("64Mi", "48Mi"));
    until("the edit to hold", SOON, || {
        world.status("worker")["usage"]["memoryLimitBytes"] == 48 << 20
    });
    // What is acknowledged now is in the new one: no file says it.
    assert!(world.cli(&["stop", "worker"]).status.success());
    assert!(store.join("lock").exists());
    world.wait_phase("worker", "Stopped");
    world.kill9();
    world.start();
    world.wait_phase("worker", "Stopped");
    assert!(world.cli(&["start", "worker"]).status.success());
    let status = world.wait_phase("worker", "Running");
    assert_eq!(status["pid"], init, "only its process was stopped");
    assert_ne!(world.pid("worker", "count"), count);
    world.finish();
}
