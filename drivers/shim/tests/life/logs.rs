//! Output: whole, bounded, and no harm to anybody when the disk refuses.

use shim_proto::launch::{Logs, Process};

use crate::world::{World, can_run, script, unframe, wait_for};

#[test]
fn a_burst_before_the_end_is_whole() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    for round in 0..20 {
        let name = format!("burst{round}");
        client.start(script(&name, "yes 123456789 | head -c 200000"));
        client.exit_of(&name);
        // Told only when it is in the log.
        let output = world.output(&name);
        assert_eq!(output.len(), 200_000, "round {round}");
        assert!(output.lines().all(|line| line == "123456789"));
    }
    world.end();
}

#[test]
fn what_a_process_leaves_behind_is_heard_on() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    client.start(script(
        "p",
        "(while [ ! -e /tmp/go ]; do sleep 0.01; done; echo late) & echo early",
    ));
    client.exit_of("p");
    assert_eq!(world.output("p"), "early\n");
    client.run(&world, "q", "echo > /tmp/go");
    wait_for("the late line", || {
        (world.output("p") == "early\nlate\n").then_some(())
    });
    world.end();
}

#[test]
fn files_are_rotated_and_bounded() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let logs = Some(Logs {
        max_bytes: 100_000,
        max_files: 3,
        ..Logs::default()
    });
    client.start(Process {
        logs,
        ..script("p", "seq 1 100000")
    });
    client.exit_of("p");
    let read = |name: &str| std::fs::read_to_string(world.path("logs").join(name)).ok();
    let kept = ["p.log.2", "p.log.1", "p.log"].map(|name| read(name).unwrap());
    assert!(read("p.log.3").is_none());
    let text: String = kept.iter().map(|log| unframe(log)).collect();
    let numbers: Vec<u32> = text
        .lines()
        .skip(1)
        .map(|line| line.parse().unwrap())
        .collect();
    assert_eq!(numbers.last(), Some(&100_000), "the tail is never lost");
    assert!(
        numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]),
        "and nothing in between"
    );
    // A file is full when it has `max_bytes`; one piece of at most 64 KiB may come on top.
    assert!(kept.iter().all(|log| log.len() < 100_000 + 80_000));
    world.end();
}

#[test]
fn discarded_output_costs_no_file_and_no_wait() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let logs = Some(Logs {
        discard: true,
        ..Logs::default()
    });
    client.start(Process {
        logs,
        ..script("p", "yes | head -c 5000000; exit 4")
    });
    assert_eq!(client.exit_of("p").value, 4);
    assert!(!world.path("logs/p.log").exists());
    world.end();
}

/// A small disk of the test's own.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn new(world: &World, bytes: u64) -> Self {
        let path = world.path("logs");
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        let flags = rustix::mount::MountFlags::empty();
        rustix::mount::mount("rxshim", &path, "tmpfs", flags, options.as_c_str()).unwrap();
        Self(path)
    }

    fn grow(&self, bytes: u64) {
        let options = std::ffi::CString::new(format!("size={bytes}")).unwrap();
        rustix::mount::mount_remount(
            &self.0,
            rustix::mount::MountFlags::empty(),
            options.as_c_str(),
        )
        .unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        rustix::mount::unmount(&self.0, rustix::mount::UnmountFlags::DETACH).unwrap();
    }
}

#[test]
fn a_full_disk_makes_who_asked_for_it_wait_and_nobody_else() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let disk = SmallDisk::new(&world, 256 << 10);
    world.launch();
    let mut client = world.client();
    let logs = |drop| {
        Some(Logs {
            max_bytes: 64 << 20,
            max_files: 2,
            drop,
            discard: false,
        })
    };
    client.start(Process {
        logs: logs(false),
        ..script("waits", "seq 1 60000; exit 7")
    });
    wait_for("the disk to be full", || {
        (world.log("waits").len() > 150_000).then_some(())
    });
    client.start(Process {
        logs: logs(true),
        ..script("drops", "seq 1 60000; exit 8")
    });
    assert_eq!(client.exit_of("drops").value, 8, "it does not wait");
    wait_for("drops to be counted", || {
        (client.process("drops")?.dropped_bytes > 0).then_some(())
    });
    assert!(
        client.process("waits").unwrap().pid != 0,
        "it waits, and is not harmed"
    );
    let (exit, _) = client.run(&world, "other", "exit 2");
    assert_eq!(exit.value, 2);
    disk.grow(64 << 20);
    assert_eq!(client.exit_of("waits").value, 7);
    let text = world.output("waits");
    let expected: String = (1..=60_000).map(|number| format!("{number}\n")).collect();
    assert!(
        text == expected,
        "not a byte is missing or there twice: {} bytes",
        text.len()
    );
    world.end();
    drop(disk);
}

/// Proportional memory of a process in KiB: all of it, and what is its own.
fn memory_kib(pid: i32) -> (u64, u64) {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let field = |name: &str| -> u64 {
        let fields = text.lines().filter_map(|line| line.strip_prefix(name));
        fields
            .map(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().unwrap())
            .sum()
    };
    (field("Pss:"), field("Private_Dirty:"))
}

#[test]
fn memory_is_flat_whatever_is_written() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    client.start(script("idle", "exec sleep 1000"));
    let both = || ["shim.id", "init.id"].map(|name| memory_kib(world.id(name).unwrap().0));
    let before = both();
    let logs = Some(Logs {
        max_bytes: 1 << 20,
        max_files: 2,
        ..Logs::default()
    });
    let line = "head -c 3000000 /dev/zero; yes | head -c 3000000; seq 1 300000";
    client.start(Process {
        logs,
        ..script("flood", line)
    });
    client.exit_of("flood");
    for round in 0..50 {
        client.run(&world, "again", &format!("exit {}", round % 7));
    }
    // Buffers of the flood go when there is nothing left to do.
    let after = wait_for("memory to be given back", || {
        let after = both();
        let pairs = before.iter().zip(&after);
        let is_flat = pairs
            .into_iter()
            .all(|((_, own), (_, own_after))| *own_after < own + 64);
        is_flat.then_some(after)
    });
    println!("shim, init: (pss, own) KiB {before:?}, after a flood {after:?}");
    world.end();
}
