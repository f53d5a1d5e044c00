//! The watched directory: what counts, what does not, and what never means "delete".

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::eventually::{eventually, throughout, until};
use tests::world::{SOON, World};

use crate::e2e_life::WORKER;

fn named(name: &str) -> String {
    WORKER.replace("name: worker", &format!("name: {name}"))
}

fn table(world: &World) -> String {
    String::from_utf8_lossy(&world.cli(&["status"]).stdout).into_owned()
}

#[test]
fn a_refused_edit_keeps_the_running_container_and_shows_where_the_fault_is() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    world.write(
        "worker.yaml",
        &WORKER.replace("memory: 64Mi", "memroy: 64Mi"),
    );
    let shown = eventually("the refusal", SOON, || {
        let output = world.cli(&["describe", "worker"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if text.contains("memroy") {
            Ok(text)
        } else {
            Err(text)
        }
    });
    assert!(shown.contains("worker.yaml:6:"), "{shown}");
    assert!(shown.contains("memory"), "it says what was meant: {shown}");
    let status = world.status("worker");
    assert!(!world.condition(&status, "Accepted"));
    assert_eq!(world.pid("worker", "count"), count);
    // The last accepted spec survives a restart of the daemon while the file is still bad.
    world.kill9();
    world.start();
    assert_eq!(world.pid("worker", "count"), count);
    assert!(!world.condition(&world.status("worker"), "Accepted"));
    world.write("worker.yaml", WORKER);
    until("it to be accepted again", SOON, || {
        world.condition(&world.status("worker"), "Accepted")
    });
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}

#[test]
fn a_bad_spec_hurts_only_the_container_it_names() {
    let mut world = World::new();
    world.start();
    let nested = "{a: ".repeat(20_000);
    world.write("bomb.yaml", &nested);
    world.write(
        "nowhere.yaml",
        &named("nowhere").replace("/srv/rootfs/busybox", "/no/such/root"),
    );
    world.write(
        "nothing.yaml",
        &named("nothing").replace("/bin/sh", "/bin/none"),
    );
    for number in 0..5 {
        world.write(
            &format!("good{number}.yaml"),
            &named(&format!("good{number}")),
        );
    }
    for number in 0..5 {
        world.wait_phase(&format!("good{number}"), "Running");
    }
    let why = |name: &str, wanted: &str| {
        eventually(&format!("why {name} says {wanted}"), SOON, || {
            let text = String::from_utf8_lossy(&world.cli(&["why", name]).stdout).into_owned();
            if text.contains(wanted) {
                Ok(())
            } else {
                Err(text)
            }
        });
    };
    why("nowhere", "/no/such/root");
    why("nothing", "/bin/none");
    until("the bomb to be told", SOON, || {
        table(&world).contains("bomb.yaml")
    });
    world.finish();
}

#[test]
fn droppings_of_editors_and_backups_are_no_specs() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    let other = named("other");
    let specs = world.path("specs");
    for name in [
        ".worker.yaml.swp",
        "worker.yaml~",
        "#worker.yaml#",
        "4913",
        "worker.yaml.bak",
        "worker.yaml.tmp",
        ".goutputstream-X",
        "worker.yaml.rpmsave",
        ".DS_Store",
        ".hidden.yaml",
    ] {
        fs::write(specs.join(name), world.localised(&other)).expect("drop a file");
    }
    symlink("/nowhere", specs.join(".#worker.yaml")).expect("drop a link");
    fs::create_dir(specs.join("folder.yaml")).expect("drop a folder");
    assert!(world.cli(&["sync", "--wait"]).status.success());
    throughout("only the worker", Duration::from_secs(1), || {
        world.cli(&["status", "other"]).status.code() == Some(4)
    });
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}

#[test]
fn of_two_files_with_one_name_the_incumbent_keeps_it() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    // Sorted before the incumbent, so that order alone would hand it the name.
    world.write("a-copy.yaml", &WORKER.replace("64Mi", "32Mi"));
    until("both to be told", SOON, || {
        let text = table(&world);
        text.contains("a-copy.yaml")
    });
    let status = world.status("worker");
    assert_eq!(status["usage"]["memoryLimitBytes"], 64 << 20);
    assert_eq!(status["generation"], 1);
    assert_eq!(world.pid("worker", "count"), count);
    world.kill9();
    world.start();
    assert_eq!(world.status("worker")["generation"], 1);
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}

#[test]
fn a_vanished_directory_deletes_nothing() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    fs::rename(world.path("specs"), world.path("aside")).expect("take it away");
    drop(world.cli(&["sync"]));
    throughout("the worker runs", Duration::from_secs(2), || {
        world.pid("worker", "count") == count
    });
    world.kill9();
    world.spawn();
    until("the daemon to answer", SOON, || {
        world.cli(&["version"]).status.success()
    });
    throughout("the worker runs", Duration::from_secs(2), || {
        fs::exists(format!("/proc/{}", count.expect("a pid"))).expect("look at /proc")
    });
    fs::rename(world.path("aside"), world.path("specs")).expect("bring it back");
    world.wait_phase("worker", "Running");
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}

#[test]
fn a_mass_deletion_waits_for_a_person() {
    let mut world = World::new();
    world.start();
    let names: Vec<String> = (0..8).map(|number| format!("c{number}")).collect();
    for name in &names {
        world.write(&format!("{name}.yaml"), &named(name));
    }
    for name in &names {
        world.wait_phase(name, "Running");
    }
    for name in &names {
        world.remove(&format!("{name}.yaml"));
    }
    until("the deletion to be held back", SOON, || {
        world.json(&["version", "-o", "json"])["daemon"]["heldDeletes"]["names"]
            .as_array()
            .is_some_and(|held| held.len() == names.len())
    });
    assert!(table(&world).contains("allow-deletes"), "{}", table(&world));
    for name in &names {
        assert_eq!(world.status(name)["phase"], "Running");
    }
    assert!(
        !world
            .cli(&["sync", "--allow-deletes", "3"])
            .status
            .success(),
        "fewer than held"
    );
    assert!(
        world
            .cli(&["sync", "--allow-deletes", "8"])
            .status
            .success()
    );
    for name in &names {
        world.wait_gone(name);
    }
    world.finish();
}

#[test]
fn a_slow_writer_is_taken_once_and_whole() {
    let mut world = World::new();
    world.start();
    let text = world.localised(&WORKER.replace("pids: 32", "pids: 33"));
    let mut file = fs::File::create(world.path("specs").join("worker.yaml")).expect("create");
    for piece in text.as_bytes().chunks(16) {
        file.write_all(piece).expect("write a piece");
        file.sync_data().expect("let it be seen");
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(file);
    let status = world.wait_phase("worker", "Running");
    assert_eq!(status["generation"], 1, "no half of it was ever taken");
    world.finish();
}

#[test]
fn a_git_checkout_of_500_files_back_and_forth_disturbs_nothing() {
    const FILES: usize = 500;
    const RUNNING: usize = 6;
    let text = |number: usize, limit: &str| {
        let text = named(&format!("g{number}")).replace("64Mi", limit);
        match number < RUNNING {
            true => text,
            false => text.replace("spec:\n", "spec:\n  state: stopped\n"),
        }
    };
    let mut world = World::new();
    let specs = world.path("specs");
    let git = |arguments: &[&str]| {
        let output = Command::new("git")
            .args([
                "-c",
                "user.name=t",
                "-c",
                "user.email=t@example.org",
                "-c",
                "init.defaultBranch=main",
            ])
            .arg("-C")
            .arg(&specs)
            .args(arguments)
            .output()
            .expect("run git");
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    git(&["init", "-q"]);
    for number in 0..FILES {
        world.write(&format!("g{number}.yaml"), &text(number, "64Mi"));
    }
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "one"]);
    git(&["checkout", "-q", "-b", "other"]);
    for number in 0..FILES {
        world.write(&format!("g{number}.yaml"), &text(number, "80Mi"));
    }
    git(&["commit", "-q", "-a", "-m", "two"]);
    git(&["checkout", "-q", "main"]);
    world.start();
    let pids: Vec<_> = (0..RUNNING)
        .map(|number| {
            let name = format!("g{number}");
            world.wait_phase(&name, "Running");
            world.pid(&name, "count")
        })
        .collect();
    for _ in 0..3 {
        git(&["checkout", "-q", "other"]);
        git(&["checkout", "-q", "main"]);
    }
    git(&["checkout", "-q", "other"]);
    for (number, pid) in pids.iter().enumerate() {
        let name = format!("g{number}");
        until("the new limit", SOON, || {
            world.status(&name)["usage"]["memoryLimitBytes"] == 80 << 20
        });
        assert_eq!(world.pid(&name, "count"), *pid);
        assert_eq!(world.status(&name)["restarts"], 0);
    }
    let list = world.json(&["status", "-o", "json"]);
    assert_eq!(list["containers"].as_array().map(Vec::len), Some(FILES));
    let why = String::from_utf8_lossy(&world.cli(&["why", "g0"]).stdout).into_owned();
    assert!(why.contains("by t on ") && why.contains(": two"), "{why}");
    world.write("g0.yaml", &text(0, "90Mi"));
    until("the edit to be told", SOON, || {
        String::from_utf8_lossy(&world.cli(&["why", "g0"]).stdout).contains("edited since")
    });
    world.finish();
}

#[test]
fn links_out_of_the_directory_show_nothing_of_what_they_point_to() {
    let mut world = World::new();
    world.start();
    let secret = world.path("secret.yaml");
    fs::write(&secret, "topsecret-marker: [").expect("write a secret");
    symlink(&secret, world.path("specs").join("link.yaml")).expect("link it");
    symlink("/dev/zero", world.path("specs").join("zero.yaml")).expect("link a device");
    nix::unistd::mkfifo(
        &world.path("specs").join("pipe.yaml"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .expect("make a pipe");
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let shown = [
        table(&world),
        String::from_utf8_lossy(&world.cli(&["events"]).stdout).into_owned(),
        world.log_tail(),
    ]
    .join("\n");
    assert!(!shown.contains("topsecret"), "{shown}");
    world.finish();
}

#[test]
fn a_change_is_seen_at_once_and_not_only_at_the_next_listing() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    // Once could fall just before a listing; so often in a row cannot.
    for generation in 2..8 {
        let since = Instant::now();
        let pids = format!("pids: {}", 32 + generation);
        world.write("worker.yaml", &WORKER.replace("pids: 32", &pids));
        until("the next generation", SOON, || {
            world.status("worker")["observedGeneration"] == generation
        });
        let took = since.elapsed();
        assert!(took < Duration::from_secs(3), "took {took:?}");
    }
    world.finish();
}
