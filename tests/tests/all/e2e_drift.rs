//! What somebody changes by hand comes back by itself, and is told.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tests::eventually::{eventually, until};
use tests::host::kill;
use tests::world::{SOON, World};

use crate::e2e_life::WORKER;

/// How long a repair may take where the kernel tells of the change.
const TOLD: Duration = Duration::from_secs(2);

/// The worker's cgroup directories, one for each hierarchy.
fn cgroups_of_worker(world: &World) -> Vec<PathBuf> {
    world
        .cgroups()
        .iter()
        .filter_map(|place| fs::read_dir(place).ok())
        .flat_map(|entries| entries.flatten().map(|entry| entry.path()))
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with("worker."))
        })
        .collect()
}

fn event_reasons(world: &World) -> Vec<String> {
    let output = world.cli(&["events", "-o", "json"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok();
    let value = serde_json::from_str::<serde_json::Value>(&text)
        .unwrap_or_else(|_| text.lines().filter_map(line).collect());
    let all = value
        .as_array()
        .or_else(|| value["events"].as_array())
        .cloned()
        .unwrap_or_default();
    all.iter()
        .filter_map(|event| event["reason"].as_str().map(str::to_owned))
        .collect()
}

fn expect_event(world: &World, reason: &str) {
    eventually(&format!("an event {reason}"), SOON, || {
        let reasons = event_reasons(world);
        if reasons.iter().any(|have| have == reason) {
            Ok(())
        } else {
            Err(format!("{reasons:?}"))
        }
    });
}

fn running(extra: &str) -> (World, serde_json::Value, Option<u64>) {
    let mut world = World::new();
    world.start();
    world.write(
        "worker.yaml",
        &WORKER.replace("spec:\n", &format!("spec:\n{extra}")),
    );
    let status = world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    (world, status, count)
}

/// Runs a command inside the container's namespaces, as root of the host.
fn inside(pid: u64, namespaces: &str, command: &[&str]) {
    let output = Command::new("/bin/busybox")
        .arg("nsenter")
        .args(namespaces.split(' '))
        .args(["-t", &pid.to_string(), "--"])
        .args(command)
        .output()
        .expect("enter the container");
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// A file of the worker's cgroups, by its name in version 1 or, where that is not there, in
/// version 2; with what each shall hold.
fn limit_file(world: &World, v1: (&str, &str), v2: (&str, &str)) -> (PathBuf, String) {
    let places = cgroups_of_worker(world);
    let found = [v1, v2].into_iter().find_map(|(name, holds)| {
        let path = places.iter().map(|place| place.join(name));
        let path = path.into_iter().find(|path| path.exists())?;
        Some((path, holds.to_owned()))
    });
    found.expect("the limit's file")
}

#[test]
fn each_limit_rewritten_by_hand_is_restored_within_two_seconds() {
    let mut world = World::new();
    world.start();
    let limits = "memory: 64Mi, swap: 1Mi, cpu: 500m, cpuWeight: 200, cpuSet: '0', pids: 32";
    let text = WORKER.replace("memory: 64Mi, pids: 32", limits);
    world.write("worker.yaml", &text);
    world.wait_phase("worker", "Running");
    let count = world.pid("worker", "count");
    let of = |v1: (&str, &str), v2: (&str, &str)| limit_file(&world, v1, v2);
    let memory = of(
        ("memory.limit_in_bytes", "67108864"),
        ("memory.max", "67108864"),
    );
    let swap = of(
        ("memory.memsw.limit_in_bytes", "68157440"),
        ("memory.swap.max", "1048576"),
    );
    let cpu = of(("cpu.cfs_quota_us", "50000"), ("cpu.max", "50000 100000"));
    let weight = of(("cpu.shares", "2048"), ("cpu.weight", "200"));
    let set = of(("cpuset.cpus", "0"), ("cpuset.cpus", "0"));
    let pids = of(("pids.max", "32"), ("pids.max", "32"));
    // Two at a time: six repairs one after the other would be taken for a fight.
    let hands = [
        [(&memory, "40000000"), (&swap, "69000000")],
        [(&cpu, "70000"), (&weight, "512")],
        [(&set, "0-1"), (&pids, "77")],
    ];
    for pair in hands {
        for ((file, _), value) in pair {
            fs::write(file, value).unwrap_or_else(|err| panic!("{}: {err}", file.display()));
        }
        let since = Instant::now();
        for ((file, holds), _) in pair {
            until(&format!("{} to be {holds}", file.display()), TOLD, || {
                fs::read_to_string(file).is_ok_and(|text| text.trim() == holds)
            });
        }
        assert!(since.elapsed() < TOLD);
    }
    assert_eq!(world.pid("worker", "count"), count);
    expect_event(&world, "LimitsRepaired");
    world.finish();
}

#[test]
fn processes_moved_out_of_their_cgroup_are_put_back_without_a_restart() {
    let (world, status, count) = running("");
    let init = status["pid"].as_u64().expect("a pid");
    for place in cgroups_of_worker(&world) {
        let outside = place
            .parent()
            .and_then(std::path::Path::parent)
            .expect("a parent")
            .to_owned();
        fs::write(outside.join("cgroup.procs"), init.to_string()).expect("move it out");
    }
    assert!(world.cli(&["sync", "worker"]).status.success());
    until("it to be back", SOON, || {
        cgroups_of_worker(&world).iter().all(|place| {
            fs::read_to_string(place.join("cgroup.procs"))
                .is_ok_and(|text| text.lines().any(|line| line == init.to_string()))
        })
    });
    world.wait_phase("worker", "Running");
    assert_eq!(world.pid("worker", "count"), count);
    expect_event(&world, "CgroupRejoined");
    world.finish();
}

#[test]
fn a_lost_mount_is_made_again_without_a_restart() {
    let (world, status, count) =
        running("  mounts: [{path: /scratch, tmpfs: 1Mi}, {path: /var/lib/db, volume: db}]\n");
    let init = status["pid"].as_u64().expect("a pid");
    let mounted = |what: &str| {
        fs::read_to_string(format!("/proc/{init}/mountinfo")).is_ok_and(|text| {
            text.lines()
                .any(|line| line.split(' ').nth(4) == Some(what))
        })
    };
    for what in ["/scratch", "/var/lib/db"] {
        assert!(mounted(what), "{what} is mounted");
        inside(init, "-m", &["/bin/busybox", "umount", what]);
        until(&format!("{what} to be back"), TOLD, || mounted(what));
    }
    assert_eq!(world.pid("worker", "count"), count);
    expect_event(&world, "MountRestored");
    world.finish();
}

#[test]
fn what_was_done_to_a_mount_or_a_covered_path_is_undone_and_what_lies_on_one_is_left() {
    let (world, status, count) = running(
        "  mounts: [{path: /scratch, tmpfs: 1Mi}, {path: /conf, volume: conf, readOnly: true}]\n",
    );
    let init = status["pid"].as_u64().expect("a pid");
    let lines = |what: &str| -> Vec<String> {
        let text = fs::read_to_string(format!("/proc/{init}/mountinfo")).expect("read the mounts");
        let on = |line: &&str| line.split(' ').nth(4) == Some(what);
        text.lines().filter(on).map(str::to_owned).collect()
    };
    let is_read_only = || {
        let top = lines("/conf").pop().unwrap_or_default();
        top.split(' ')
            .nth(5)
            .is_some_and(|flags| flags.split(',').any(|flag| flag == "ro"))
    };
    assert!(is_read_only());
    inside(
        init,
        "-m",
        &[
            "/bin/busybox",
            "mount",
            "-o",
            "remount,bind,rw",
            "none",
            "/conf",
        ],
    );
    until("it to be read-only again", TOLD, is_read_only);
    expect_event(&world, "MountRestored");
    inside(
        init,
        "-m",
        &["/bin/busybox", "mount", "-t", "tmpfs", "over", "/scratch"],
    );
    until("it to be told", SOON, || {
        world.status("worker")["drift"]
            .to_string()
            .contains("mounted over /scratch")
    });
    assert_eq!(lines("/scratch").len(), 2, "it is not ours to unmount");
    inside(init, "-m", &["/bin/busybox", "umount", "/scratch"]);
    assert_eq!(lines("/scratch").len(), 1);
    for path in ["/proc/interrupts", "/proc/sys"] {
        assert_eq!(lines(path).len(), 1, "{path} is covered");
        inside(init, "-m", &["/bin/busybox", "umount", path]);
        until(&format!("{path} to be covered"), TOLD, || {
            lines(path).len() == 1
        });
    }
    let remount = ["mount", "-o", "remount,bind,rw", "none", "/proc/sys"];
    inside(init, "-m", &[&["/bin/busybox"], &remount[..]].concat());
    until("/proc/sys to be read-only again", TOLD, || {
        let top = lines("/proc/sys").pop().unwrap_or_default();
        let flags = top.split(' ').nth(5);
        flags.is_some_and(|flags| flags.split(',').any(|flag| flag == "ro"))
    });
    expect_event(&world, "PathCovered");
    world.wait_phase("worker", "Running");
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}

#[test]
fn a_lowered_loopback_is_raised_again() {
    let (world, status, count) = running("");
    let init = status["pid"].as_u64().expect("a pid");
    let is_up = || {
        let output = Command::new("/bin/busybox")
            .args([
                "nsenter",
                "-n",
                "-t",
                &init.to_string(),
                "--",
                "/bin/busybox",
                "ip",
                "link",
                "show",
                "lo",
            ])
            .output()
            .expect("look at the link");
        String::from_utf8_lossy(&output.stdout).contains(",UP")
    };
    assert!(is_up(), "the loopback is up from the start");
    inside(
        init,
        "-n",
        &["/bin/busybox", "ip", "link", "set", "lo", "down"],
    );
    assert!(world.cli(&["sync", "worker"]).status.success());
    until("the loopback to be up", SOON, is_up);
    assert_eq!(world.pid("worker", "count"), count);
    world.finish();
}

#[test]
fn a_killed_process_is_started_again_and_told() {
    let (world, status, count) = running("");
    kill(count.expect("a pid"));
    until("a new one", TOLD, || {
        world.pid("worker", "count").is_some() && world.pid("worker", "count") != count
    });
    let after = world.wait_phase("worker", "Running");
    assert_eq!(after["pid"], status["pid"]);
    assert_eq!(after["restarts"], 1);
    assert_eq!(after["processes"][0]["lastExit"], "killed by KILL");
    expect_event(&world, "ProcessExited");
    world.finish();
}

#[test]
fn strangers_things_stay_as_they_are() {
    let mut world = World::new();
    world.start();
    world.write("worker.yaml", WORKER);
    world.wait_phase("worker", "Running");
    let place = world
        .cgroups()
        .into_iter()
        .next()
        .expect("a cgroup of ours");
    let strangers: Vec<PathBuf> = ["stranger", "worker", "worker.x", "worker.007"]
        .iter()
        .map(|name| place.join(name))
        .collect();
    for stranger in &strangers {
        fs::create_dir(stranger).expect("make a stranger's cgroup");
    }
    let beside = world.path("run").join(world.instance()).join("notes.txt");
    fs::write(&beside, "a stranger's").expect("write a stranger's file");
    world.remove("worker.yaml");
    world.wait_gone("worker");
    world.kill9();
    world.start();
    for stranger in &strangers {
        assert!(stranger.exists(), "{} was removed", stranger.display());
        fs::remove_dir(stranger).expect("remove a stranger's cgroup");
    }
    assert_eq!(fs::read_to_string(&beside).expect("read"), "a stranger's");
    fs::remove_file(beside).expect("remove a stranger's file");
    world.finish();
}

#[test]
fn a_settled_host_is_left_in_peace() {
    let (world, _, _) = running("");
    let trace = world.path("trace");
    let pid = world.daemon_pid().to_string();
    if !std::path::Path::new("/usr/bin/strace").exists() {
        // The counting needs a tracer; the law is also held by the simulation.
        tests::skip("strace is not installed: mutating system calls were not counted");
        world.finish();
        return;
    }
    let mut tracer = Command::new("/usr/bin/strace")
        .args(["-f", "-q", "-p", &pid, "-o"])
        .arg(&trace)
        .args(["-e", "trace=mkdir,mkdirat,rmdir,unlink,unlinkat,rename,renameat,renameat2,mount,umount2,move_mount,fsopen,open_tree,kill,pidfd_send_signal,bpf,symlink,link,linkat,chmod,fchmod,chown,fchown"])
        .spawn()
        .expect("start the tracer");
    until("the tracer to be attached", SOON, || {
        fs::read_to_string(format!("/proc/{pid}/status"))
            .is_ok_and(|text| !text.contains("TracerPid:\t0\n"))
    });
    for _ in 0..3 {
        assert!(world.cli(&["sync", "--wait"]).status.success());
    }
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(tracer.id()).expect("a pid fits")),
        nix::sys::signal::SIGINT,
    )
    .expect("end the tracer");
    tracer.wait().expect("reap the tracer");
    let calls = fs::read_to_string(&trace).expect("read the trace");
    // Asking which device filter is attached is a look.
    let asks = [
        "BPF_PROG_QUERY",
        "BPF_PROG_GET_FD_BY_ID",
        "BPF_OBJ_GET_INFO_BY_FD",
    ];
    let mutating: Vec<&str> = calls
        .lines()
        .filter(|line| line.contains('(') && !asks.iter().any(|ask| line.contains(ask)))
        .collect();
    assert!(mutating.is_empty(), "a settled host saw {mutating:#?}");
    world.finish();
}
