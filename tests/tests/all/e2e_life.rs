//! One container from its file to its end, on the shipped programs and the real kernel.

use std::fs;
use std::time::Duration;

use tests::eventually::{eventually, throughout, until};
use tests::world::{SOON, World};

/// A container with one process that says its number every tenth of a second.
pub(crate) const WORKER: &str = r#"apiVersion: reconciler/v1
kind: Container
metadata: {name: worker}
spec:
  rootfs: {directory: /srv/rootfs/busybox}
  limits: {memory: 64Mi, pids: 32}
  processes:
    - name: count
      command: [/bin/sh, -c, "n=0; while :; do echo line $n; n=$((n+1)); sleep 0.1; done"]
"#;

#[test]
fn a_spec_becomes_a_container_and_goes_when_its_file_goes() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    let status = world.wait_phase("worker", "Running");
    assert_eq!(status["restarts"], 0);
    let pid = world.pid("worker", "count").expect("a pid");
    assert!(fs::exists(format!("/proc/{pid}")).expect("look at /proc"));
    world.remove("worker.yaml");
    world.wait_gone("worker");
    assert!(!fs::exists(format!("/proc/{pid}")).expect("look at /proc"));
    world.finish();
}

#[test]
fn killing_the_daemon_harms_no_container_and_the_next_one_adopts_it() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    let status = world.wait_phase("worker", "Running");
    let pid = world.pid("worker", "count").expect("a pid");
    for _ in 0..3 {
        world.kill9();
        assert!(fs::exists(format!("/proc/{pid}")).expect("look at /proc"));
        world.start();
        let after = world.wait_phase("worker", "Running");
        assert_eq!(world.pid("worker", "count"), Some(pid));
        assert_eq!(after["pid"], status["pid"]);
        assert_eq!(after["restarts"], 0);
        let version = world.json(&["version", "-o", "json"]);
        assert_eq!(version["daemon"]["adopted"], 1, "{version:#}");
        assert_eq!(version["daemon"]["restarted"], 0);
    }
    let lines = numbers(&world, "worker");
    let expected: Vec<u64> = (0..lines.len() as u64).collect();
    assert_eq!(lines, expected, "output was lost or repeated");
    world.finish();
}

/// The numbers that the worker has said so far, from the log files.
pub(crate) fn numbers(world: &World, name: &str) -> Vec<u64> {
    let output = world.cli(&["logs", name]);
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect()
}

#[test]
fn a_limit_edited_in_the_file_changes_under_the_same_pid() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let pid = world.pid("worker", "count");
    world.write(
        "worker.yaml",
        &WORKER.replace("64Mi, pids: 32", "96Mi, pids: 48, cpu: 500m"),
    );
    until("the limit to be the new one", SOON, || {
        let status = world.status("worker");
        status["usage"]["memoryLimitBytes"] == 96 << 20 && status["generation"] == 2
    });
    world.wait_phase("worker", "Running");
    assert_eq!(world.pid("worker", "count"), pid);
    let enforced: Vec<String> = world
        .cgroups()
        .iter()
        .filter_map(|place| fs::read_dir(place).ok())
        .flat_map(|entries| entries.flatten())
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("worker."))
        .filter_map(|entry| {
            let v1 = entry.path().join("memory.limit_in_bytes");
            fs::read_to_string(v1)
                .or_else(|_| fs::read_to_string(entry.path().join("memory.max")))
                .ok()
        })
        .collect();
    assert_eq!(enforced, ["100663296\n"]);
    world.finish();
}

#[test]
fn a_cosmetic_edit_makes_no_generation_and_no_step() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let before = world.json(&["events", "-o", "json"]);
    let text = WORKER.replace("kind: Container\n", "# a comment\nkind: 'Container'\n");
    world.write("worker.yaml", &text);
    assert!(world.cli(&["sync", "--wait"]).status.success());
    throughout("generation 1", Duration::from_secs(1), || {
        world.status("worker")["generation"] == 1
    });
    assert_eq!(world.json(&["events", "-o", "json"]), before);
    world.finish();
}

#[test]
fn a_changed_command_restarts_that_process_only() {
    let mut world = World::new();
    world.start();
    let two = "    - name: other\n      command: [/bin/sleep, \"100000\"]\n";
    world.write("worker.yaml", &format!("{WORKER}{two}"));
    let status = world.wait_phase("worker", "Running");
    let (count, other) = (world.pid("worker", "count"), world.pid("worker", "other"));
    world.write(
        "worker.yaml",
        &format!("{WORKER}{}", two.replace("100000", "100001")),
    );
    until("the other to be a new one", SOON, || {
        world.pid("worker", "other").is_some() && world.pid("worker", "other") != other
    });
    let after = world.wait_phase("worker", "Running");
    assert_eq!(world.pid("worker", "count"), count);
    assert_eq!(after["pid"], status["pid"], "the container's init stays");
    world.write("worker.yaml", WORKER);
    until("the other to be gone", SOON, || {
        world.status("worker")["processes"]
            .as_array()
            .is_some_and(|all| all.len() == 1)
    });
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}

#[test]
fn a_changed_root_makes_the_container_anew_once() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    let before = world.wait_phase("worker", "Running");
    world.write(
        "worker.yaml",
        &WORKER.replace("spec:\n", "spec:\n  hostname: renamed\n"),
    );
    until("a new init", SOON, || {
        let status = world.status("worker");
        status["pid"].is_u64() && status["pid"] != before["pid"]
    });
    let after = world.wait_phase("worker", "Running");
    let pid = after["pid"].as_u64().expect("a pid");
    let name = nix_hostname_of(pid);
    assert_eq!(name, "renamed");
    world.finish();
}

/// Host name of the container that a pid is in, asked by joining its namespace.
fn nix_hostname_of(pid: u64) -> String {
    let output = std::process::Command::new("/bin/busybox")
        .args([
            "nsenter",
            "-u",
            "-t",
            &pid.to_string(),
            "/bin/busybox",
            "hostname",
        ])
        .output()
        .expect("ask for the host name");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[test]
fn restart_policies_say_what_follows_an_exit() {
    let mut world = World::new();
    world.start();
    let spec = |name: &str, policy: &str, code: u32| {
        let delays = match policy {
            "never" => "",
            _ => ", backoff: {initial: 50ms, max: 400ms}",
        };
        format!(
            "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: {name}}}\nspec:\n  \
             rootfs: {{directory: /srv/rootfs/busybox}}\n  processes:\n    - name: p\n      \
             command: [/bin/sh, -c, \"exit {code}\"]\n      restart: {{policy: {policy}{delays}}}\n"
        )
    };
    world.write("never.yaml", &spec("never", "never", 3));
    world.write("well.yaml", &spec("well", "onFailure", 0));
    world.write("bad.yaml", &spec("bad", "onFailure", 7));
    world.write("always.yaml", &spec("always", "always", 0));
    until("the failing one to have been started again", SOON, || {
        world.status("bad")["restarts"].as_u64() >= Some(2)
    });
    until(
        "the ever running one to have been started again",
        SOON,
        || world.status("always")["restarts"].as_u64() >= Some(2),
    );
    assert_eq!(world.status("bad")["processes"][0]["lastExit"], "exited 7");
    let never = eventually("the one-shot to have ended", SOON, || {
        let status = world.status("never");
        if status["processes"][0]["lastExit"] == "exited 3" {
            Ok(status)
        } else {
            Err(status.to_string())
        }
    });
    assert_eq!(never["restarts"], 0);
    let well = world.wait_phase("well", "Completed");
    assert_eq!(well["restarts"], 0);
    world.finish();
}

#[test]
fn a_person_stops_and_starts_a_container_and_that_is_remembered() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    let before = world.wait_phase("worker", "Running");
    assert!(world.cli(&["stop", "worker"]).status.success());
    let stopped = world.wait_phase("worker", "Stopped");
    assert_eq!(stopped["pid"], before["pid"], "the container itself stays");
    assert!(stopped["overrideNote"].is_string(), "{stopped:#}");
    world.kill9();
    world.start();
    world.wait_phase("worker", "Stopped");
    assert!(world.cli(&["start", "worker"]).status.success());
    let after = world.wait_phase("worker", "Running");
    assert!(after["overrideNote"].is_null());
    let pid = world.pid("worker", "count");
    assert!(world.cli(&["restart", "worker"]).status.success());
    until("a new process", SOON, || {
        world.pid("worker", "count").is_some() && world.pid("worker", "count") != pid
    });
    world.finish();
}

#[test]
fn a_stop_that_is_ignored_ends_in_a_kill_after_its_grace() {
    let mut world = World::new();
    world.start();
    let stubborn = WORKER.replace("n=0;", "trap '' TERM; n=0;").replace(
        "processes:\n    - name: count\n",
        "processes:\n    - name: count\n      stop: {grace: 500ms}\n",
    );
    world.write("worker.yaml", &stubborn);
    world.wait_phase("worker", "Running");
    until("it to have said something", SOON, || {
        !numbers(&world, "worker").is_empty()
    });
    assert!(world.cli(&["stop", "worker"]).status.success());
    let stopped = world.wait_phase("worker", "Stopped");
    assert_eq!(stopped["processes"][0]["lastExit"], "killed by KILL");
    world.finish();
}

#[test]
fn a_suspended_container_is_left_exactly_as_it_is() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let pid = world.pid("worker", "count").expect("a pid");
    world.write(
        "worker.yaml",
        &WORKER.replace("spec:\n", "spec:\n  suspend: true\n"),
    );
    until("it to be suspended", SOON, || {
        world.status("worker")["phase"] == "Suspended"
    });
    tests::host::kill(pid);
    throughout("nobody restarts it", Duration::from_secs(1), || {
        world.status("worker")["phase"] == "Suspended" && world.status("worker")["restarts"] == 0
    });
    world.write("worker.yaml", WORKER);
    until("it to be restarted", SOON, || {
        world.status("worker")["restarts"] == 1
    });
    world.finish();
}

#[test]
fn time_to_live_ends_a_container() {
    let mut world = World::new();
    world.start();
    world.write(
        "worker.yaml",
        &WORKER.replace("spec:\n", "spec:\n  ttl: 2s\n"),
    );
    world.wait_phase("worker", "Running");
    until("its processes to be gone", SOON, || {
        world.status("worker")["pid"].is_null()
    });
    world.finish();
}

#[test]
fn volumes_and_persistent_roots_outlive_the_container_and_ephemeral_roots_do_not() {
    let mut world = World::new();
    world.start();
    let spec = |writable: &str, host: &str| {
        format!(
            "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: keep}}\nspec:\n  \
             hostname: {host}\n  rootfs: {{directory: /srv/rootfs/busybox, writable: {writable}}}\n  \
             mounts: [{{path: /var/lib/db, volume: db}}]\n  processes:\n    - name: p\n      command: \
             [/bin/sh, -c, \"echo root >> /root/mark; echo volume >> /var/lib/db/mark; \
             wc -l /root/mark /var/lib/db/mark; exec sleep 100000\"]\n"
        )
    };
    let counts = |world: &World| {
        let output = world.cli(&["logs", "keep"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = |what: &str| {
            let line = text.lines().rev().find(|line| line.ends_with(what))?;
            line.split_whitespace().rev().nth(1)?.parse::<u32>().ok()
        };
        (count("/root/mark"), count("/var/lib/db/mark"))
    };
    let expect = |world: &World, wanted: (u32, u32)| {
        eventually("the counts", SOON, || {
            let seen = counts(world);
            if seen == (Some(wanted.0), Some(wanted.1)) {
                Ok(())
            } else {
                Err(format!("{seen:?}, want {wanted:?}"))
            }
        });
    };
    world.write("keep.yaml", &spec("ephemeral", "a"));
    expect(&world, (1, 1));
    world.write("keep.yaml", &spec("ephemeral", "b"));
    expect(&world, (1, 2));
    world.write("keep.yaml", &spec("persistent", "c"));
    expect(&world, (1, 3));
    world.write("keep.yaml", &spec("persistent", "d"));
    expect(&world, (2, 4));
    world.remove("keep.yaml");
    world.wait_gone("keep");
    world.write("keep.yaml", &spec("persistent", "e"));
    expect(&world, (3, 5));
    world.finish();
}

#[test]
fn a_changed_file_restarts_signals_or_does_nothing_as_it_says() {
    let mut world = World::new();
    world.start();
    let spec = |content: &str, change: &str, silent: &str| {
        format!(
            "apiVersion: reconciler/v1\nkind: Container\nmetadata: {{name: conf}}\nspec:\n  \
             rootfs: {{directory: /srv/rootfs/busybox}}\n  files:\n    - {{path: /etc/app.conf, \
             content: \"{content}\\n\", mode: \"0640\", user: app, onChange: \"{change}\"}}\n    - \
             {{path: /etc/silent.conf, content: \"{silent}\\n\", onChange: none}}\n  \
             processes:\n    - name: p\n      command: [/bin/sh, -c, \"trap 'echo reload \
             $(cat /etc/app.conf)' HUP; echo start $(cat /etc/app.conf); \
             stat -c '%a %U' /etc/app.conf; while :; do sleep 0.05; done\"]\n"
        )
    };
    let said = |world: &World, wanted: &str| {
        until(&format!("it to say {wanted}"), SOON, || {
            String::from_utf8_lossy(&world.cli(&["logs", "conf"]).stdout).contains(wanted)
        });
    };
    world.write("conf.yaml", &spec("one", "signal:HUP", "a"));
    said(&world, "start one");
    said(&world, "640 app");
    let pid = world.pid("conf", "p");
    world.write("conf.yaml", &spec("two", "signal:HUP", "a"));
    said(&world, "reload two");
    assert_eq!(world.pid("conf", "p"), pid);
    world.write("conf.yaml", &spec("three", "restart", "a"));
    said(&world, "start three");
    let pid = world.pid("conf", "p");
    world.write("conf.yaml", &spec("three", "restart", "four"));
    let root = eventually("the container's pid", SOON, || {
        world.wait_phase("conf", "Running")["pid"]
            .as_u64()
            .ok_or("none".to_owned())
    });
    until("the file to be the new one", SOON, || {
        fs::read_to_string(format!("/proc/{root}/root/etc/silent.conf"))
            .is_ok_and(|text| text == "four\n")
    });
    assert_eq!(world.pid("conf", "p"), pid);
    world.finish();
}

#[test]
fn the_daemon_may_open_many_files_and_its_containers_as_many_as_it_was_given() {
    let open_files = |pid: u64| {
        let text = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let line = text.lines().find(|line| line.starts_with("Max open files"));
        let words = line.into_iter().flat_map(str::split_ascii_whitespace);
        let words: Vec<String> = words.skip(3).take(2).map(str::to_owned).collect();
        (words[0].clone(), words[1].clone())
    };
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("read a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 1024, hard).expect("lower a limit");
    let given = open_files(std::process::id().into());
    assert_ne!(given.0, given.1);
    let mut world = World::new();
    world.start();
    let own = open_files(world.daemon_pid().into());
    assert_eq!(own, (given.1.clone(), given.1.clone()), "as many as it may");
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let status = world.status("worker");
    let pid = status["processes"][0]["pid"].as_u64().expect("it runs");
    assert_eq!(open_files(pid), given);
    world.finish();
}
