//! What is lost when something dies: nothing that is healthy.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;
use tests::eventually::{eventually, until};
use tests::host::{kill, signal};
use tests::world::{SOON, World};

use crate::e2e_life::{WORKER, numbers};

/// The runtime directory of the only life of `worker`.
fn life(world: &World) -> PathBuf {
    life_of(world, "worker")
}

/// The runtime directory of the only life of a container.
fn life_of(world: &World, name: &str) -> PathBuf {
    let place = world.path("run").join(world.instance());
    let mut lives: Vec<PathBuf> = fs::read_dir(&place)
        .expect("list the runtime directory")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(&format!("{name}.")))
        })
        .collect();
    assert_eq!(lives.len(), 1, "{lives:?}");
    lives.remove(0)
}

fn id_in(world: &World, file: &str) -> u64 {
    let text = fs::read_to_string(life(world).join(file)).expect("read an id");
    text.split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok())
        .expect("a pid")
}

#[test]
fn a_killed_shim_costs_no_process_no_output_and_no_exit_status() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let (init, count) = (
        world.status("worker")["pid"].clone(),
        world.pid("worker", "count"),
    );
    for _ in 0..3 {
        let shim = id_in(&world, "shim.id");
        kill(shim);
        until("a new shim", SOON, || {
            fs::read_to_string(life(&world).join("shim.id"))
                .is_ok_and(|text| !text.starts_with(&format!("{shim} ")))
        });
        let status = world.wait_phase("worker", "Running");
        assert_eq!(status["pid"], init);
        assert_eq!(world.pid("worker", "count"), count);
        assert_eq!(status["restarts"], 0);
    }
    let said = numbers(&world, "worker").len();
    until("more output", SOON, || {
        numbers(&world, "worker").len() > said + 3
    });
    let lines = numbers(&world, "worker");
    assert_eq!(
        lines,
        (0..lines.len() as u64).collect::<Vec<_>>(),
        "output was lost or repeated"
    );
    world.finish();
}

#[test]
fn a_hung_supervisor_is_told_and_harms_nothing() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.write(
        "doomed.yaml",
        &WORKER.replace("name: worker", "name: doomed"),
    );
    let init = world.wait_phase("worker", "Running")["pid"].clone();
    world.wait_phase("doomed", "Running");
    let count = world.pid("worker", "count");
    let shim_of = |name: &str| {
        let text = fs::read_to_string(life_of(&world, name).join("shim.id")).expect("read an id");
        let pid = text
            .split_whitespace()
            .next()
            .and_then(|pid| pid.parse().ok());
        pid.expect("a pid")
    };
    let (hung, doomed): (u64, u64) = (shim_of("worker"), shim_of("doomed"));
    signal(hung, Signal::SIGSTOP);
    signal(doomed, Signal::SIGSTOP);
    // One of them shall go, the other shall change; a third is no matter of theirs.
    world.remove("doomed.yaml");
    world.write("worker.yaml", &WORKER.replace("64Mi", "48Mi"));
    world.write("third.yaml", &WORKER.replace("name: worker", "name: third"));
    world.wait_phase("third", "Running");
    until("it to be told", SOON, || {
        world.status("worker")["phase"] == "Unknown"
    });
    until("what needs no supervisor", SOON, || {
        world.status("worker")["usage"]["memoryLimitBytes"] == 48 << 20
    });
    assert!(fs::exists(format!("/proc/{hung}")).expect("look at /proc"));
    until("the hung one to be replaced", 2 * SOON, || {
        !fs::exists(format!("/proc/{hung}")).unwrap_or(true)
    });
    let status = world.wait_phase("worker", "Running");
    assert_eq!(status["pid"], init);
    assert_eq!(status["restarts"], 0);
    assert_eq!(world.pid("worker", "count"), count);
    let lines = numbers(&world, "worker");
    assert!(
        lines.is_sorted_by(|one, next| one + 1 == *next),
        "{lines:?}"
    );
    let events = world.cli(&["events", "worker"]).stdout;
    let events = String::from_utf8_lossy(&events);
    assert!(events.contains("hangs"), "{events}");
    world.wait_gone("doomed");
    world.finish();
}

#[test]
fn a_shim_killed_while_the_daemon_is_down_is_replaced() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    let shim = id_in(&world, "shim.id");
    world.kill9();
    kill(shim);
    world.start();
    let status = world.wait_phase("worker", "Running");
    assert_eq!(world.pid("worker", "count"), count);
    assert_eq!(status["restarts"], 0);
    world.finish();
}

#[test]
fn an_exit_while_nobody_looks_is_told_as_it_was() {
    let mut world = World::new();
    world.start();
    let text = WORKER.replace(
        "command: [/bin/sh, -c, \"n=0; while :; do echo line $n; n=$((n+1)); sleep 0.1; done\"]",
        "command: [/bin/sh, -c, \"while ! test -e /tmp/go; do sleep 0.05; done; echo last; exit 42\"]\n      restart: {policy: never}",
    );
    world.write("worker.yaml", &text);
    let status = world.wait_phase("worker", "Running");
    let (root, shim) = (
        status["pid"].as_u64().expect("a pid"),
        id_in(&world, "shim.id"),
    );
    let process = world.pid("worker", "count").expect("a pid");
    world.kill9();
    kill(shim);
    until("the shim to be gone", SOON, || {
        !fs::exists(format!("/proc/{shim}")).unwrap_or(true)
    });
    fs::write(format!("/proc/{root}/root/tmp/go"), "").expect("let it end");
    until("it to have ended", SOON, || {
        !fs::exists(format!("/proc/{process}")).unwrap_or(true)
    });
    world.start();
    let status = eventually("the exit to be told", SOON, || {
        let status = world.status("worker");
        if status["processes"][0]["lastExit"].is_string() {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    });
    assert_eq!(status["processes"][0]["lastExit"], "exited 42");
    assert_eq!(status["restarts"], 0);
    let logs = String::from_utf8_lossy(&world.cli(&["logs", "worker"]).stdout).into_owned();
    assert!(logs.contains("last"), "{logs}");
    world.finish();
}

#[test]
fn a_dead_init_means_a_new_life_and_nothing_of_the_old_one_stays() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    let before = world.wait_phase("worker", "Running");
    let old = life(&world);
    kill(before["pid"].as_u64().expect("a pid"));
    until("a new init", SOON, || {
        let status = world.status("worker");
        status["pid"].is_u64() && status["pid"] != before["pid"]
    });
    world.wait_phase("worker", "Running");
    assert!(!old.exists(), "the old life was cleaned away");
    world.finish();
}

#[test]
fn a_kill_at_any_moment_of_a_creation_is_finished_or_undone() {
    let mut world = World::new();
    for delay_ms in [0_u64, 3, 6, 10, 15, 20, 30, 45, 60, 90, 130, 200] {
        world.spawn();
        until("the socket", SOON, || {
            world.cli(&["version"]).status.success()
        });
        world.write("worker.yaml", WORKER);
        // The moment is what varies; the outcome may not.
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        world.kill9();
        world.start();
        world.wait_phase("worker", "Running");
        assert!(life(&world).exists());
        world.remove("worker.yaml");
        std::thread::sleep(std::time::Duration::from_millis(delay_ms));
        world.kill9();
        world.start();
        world.wait_gone("worker");
        world.kill9();
    }
    world.finish();
}

#[test]
fn a_shim_or_init_killed_in_any_phase_is_followed_by_a_whole_container() {
    let mut world = World::new();
    world.start();
    let stubborn = WORKER.replace("[/bin/sh, -c, \"n=0", "[/bin/sh, -c, \"trap '' TERM; n=0");
    let text = format!("{stubborn}      stop: {{grace: 600ms}}\n");
    // The first file names the victim; the wait is the moment in its victim's life.
    let victims = ["shim.id", "init.id"].into_iter().cycle();
    for (file, wait_ms) in victims.zip([0_u64, 0, 2, 2, 5, 5, 12, 12]) {
        world.write("worker.yaml", &text);
        let pid = eventually("a victim", SOON, || {
            let lives = fs::read_dir(world.path("run").join(world.instance()));
            let ids = lives.into_iter().flatten().flatten().filter_map(|life| {
                let id = fs::read_to_string(life.path().join(file)).ok()?;
                id.split_whitespace().next()?.parse::<i32>().ok()
            });
            ids.last().ok_or(String::from("nobody"))
        });
        std::thread::sleep(std::time::Duration::from_millis(wait_ms));
        // It may have ended already, which is a phase too.
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).ok();
        let init = world.wait_phase("worker", "Running")["pid"].as_u64();
        // And while it is asked to end.
        world.remove("worker.yaml");
        until("it to be asked", SOON, || {
            // The third in a row would be held back as a slow mass deletion.
            drop(world.cli(&["sync", "--allow-deletes", "1"]));
            world.status("worker")["processes"][0]["state"] != "running"
        });
        if file == "init.id" {
            let init = i32::try_from(init.expect("a pid")).expect("a pid fits");
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(init), Signal::SIGKILL).ok();
        }
        world.wait_gone("worker");
    }
    world.finish();
}

#[test]
fn everything_returns_after_a_reboot() {
    let mut world = World::new();
    world.start();
    let text = WORKER.replace("spec:\n", "spec:\n  mounts: [{path: /data, volume: db}]\n");
    world.write("worker.yaml", &text);
    let before = world.wait_phase("worker", "Running");
    let root = before["pid"].as_u64().expect("a pid");
    let volume = world
        .path("state")
        .join(world.instance())
        .join("volumes/db");
    fs::write(volume.join("kept"), "kept").expect("write to the volume");
    let shim = id_in(&world, "shim.id");
    // What a reboot does to this instance: every process ends, the runtime directory (a
    // memory file system) and the cgroups are gone.
    world.kill9();
    kill(shim);
    kill(root);
    until("all to be dead", SOON, || {
        [root, shim]
            .iter()
            .all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap_or(true))
    });
    fs::remove_dir_all(world.path("run").join(world.instance()))
        .expect("wipe the runtime directory");
    world.clear_cgroups();
    world.start();
    let after = world.wait_phase("worker", "Running");
    let root = after["pid"].as_u64().expect("a pid");
    assert_eq!(
        fs::read_to_string(format!("/proc/{root}/root/data/kept")).expect("read"),
        "kept"
    );
    world.finish();
}

/// Removes what a daemon that does not run keeps, and leaves the files of containers.
pub(crate) fn lose_store(world: &World) {
    for entry in fs::read_dir(world.path("state").join(world.instance()))
        .expect("list")
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !["ephemeral", "persistent", "volumes"].contains(&name.as_str()) {
            let path = entry.path();
            if path.is_dir() {
                fs::remove_dir_all(path)
            } else {
                fs::remove_file(path)
            }
            .expect("lose the store");
        }
    }
}

#[test]
fn a_lost_store_is_rebuilt_and_running_containers_are_adopted() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    world.kill9();
    lose_store(&world);
    world.start();
    world.wait_phase("worker", "Running");
    assert_eq!(world.pid("worker", "count"), count);
    assert_eq!(world.status("worker")["restarts"], 0);
    let version = world.json(&["version", "-o", "json"]);
    assert_eq!(version["daemon"]["adopted"], 1, "{version:#}");
    assert_eq!(version["daemon"]["restarted"], 0, "{version:#}");
    world.finish();
}

#[test]
fn a_damaged_store_destroys_nothing() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    world.stop();
    let db = find(&world.path("state"), "db").expect("the store's file");
    let mut bytes = fs::read(&db).expect("read the store");
    let middle = bytes.len() / 8;
    for byte in bytes.iter_mut().take(middle) {
        *byte ^= 0x5a;
    }
    fs::write(&db, bytes).expect("damage the store");
    // The directory is taken away too: nothing but the marks says that the worker is wanted.
    fs::rename(world.path("specs"), world.path("aside")).expect("take the directory away");
    world.spawn();
    until("the daemon to answer", SOON, || {
        world.cli(&["version"]).status.success()
    });
    eventually("the worker to be seen", SOON, || {
        let list = world.json(&["status", "-o", "json"]);
        if list.to_string().contains("worker") {
            Ok(())
        } else {
            Err(list.to_string())
        }
    });
    assert!(fs::exists(format!("/proc/{}", count.expect("a pid"))).expect("look at /proc"));
    fs::rename(world.path("aside"), world.path("specs")).expect("bring the directory back");
    world.wait_phase("worker", "Running");
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}

fn find(directory: &std::path::Path, name: &str) -> Option<PathBuf> {
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let path = entry.path();
        if entry.file_name() == name && path.is_file() {
            return Some(path);
        }
        if let Some(found) = path.is_dir().then(|| find(&path, name)).flatten() {
            return Some(found);
        }
    }
    None
}

#[test]
fn a_second_daemon_on_one_state_directory_is_refused_before_it_touches_anything() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    let second = world
        .daemon_command()
        .output()
        .expect("start a second daemon");
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("in use by process"), "{said}");
    assert_eq!(world.pid("worker", "count"), count);
    // No shim holds the lock: with the daemon gone the next one starts at once.
    world.kill9();
    world.start();
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}

#[test]
fn files_whose_record_was_lost_are_written_again_under_the_same_pid() {
    let mut world = World::new();
    world.start();
    let file = "spec:\n  files: [{path: /etc/app.conf, content: \"wanted\\n\", onChange: none}]\n";
    world.write("worker.yaml", &WORKER.replace("spec:\n", file));
    let root = world.wait_phase("worker", "Running")["pid"]
        .as_u64()
        .expect("a pid");
    let count = world.pid("worker", "count");
    let inside = format!("/proc/{root}/root/etc/app.conf");
    let holds = |text: &str| fs::read_to_string(&inside).is_ok_and(|have| have == text);
    assert!(holds("wanted\n"));
    fs::write(&inside, "by hand\n").expect("write to the file");
    fs::remove_file(life(&world).join("files")).expect("lose the record");
    kill(id_in(&world, "shim.id"));
    until("the file to be as wanted", SOON, || holds("wanted\n"));
    assert_eq!(world.wait_phase("worker", "Running")["pid"], root);
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}
