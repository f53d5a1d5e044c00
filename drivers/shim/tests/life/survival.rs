//! Kills, hostile bytes, torn files: the container goes on, or ends cleanly.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use prost::Message as _;
use shim_proto::launch::{File, Logs, Process};
use shim_proto::message::{Answer, Ask, ExitKind, FailureKind, Forget};

use crate::world::{PATIENCE, World, can_run, script, wait_for};

/// A sequence of moments that is the same in each run.
fn moments(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    })
}

#[test]
fn a_killed_shim_costs_no_line_and_no_exit() {
    if !can_run() {
        return;
    }
    let seed = 20_261_121;
    println!("seed {seed}");
    let world = World::launched();
    const LINES: u32 = 300_000;
    let text = format!("i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); done; exit 9");
    let mut client = world.client();
    let logs = Some(Logs {
        max_bytes: 64 << 20,
        max_files: 2,
        ..Logs::default()
    });
    // Not in the first place: a new shim hears of others before it hears of this one.
    client.start(script("q", "exec sleep 1000"));
    client.start(Process {
        logs,
        ..script("p", &text)
    });
    let (p, q) = (client.process("p").unwrap(), client.process("q").unwrap());
    let (init, _) = world.id("init.id").unwrap();
    let runs = || std::path::Path::new(&format!("/proc/{}", p.pid)).exists();
    let mut kills = 0;
    for moment in moments(seed).take(60) {
        std::thread::sleep(Duration::from_micros(moment % 15_000));
        world.kill("shim.id");
        kills += u32::from(runs());
        if moment % 3 == 0 {
            std::thread::sleep(Duration::from_micros(moment % 5000));
        }
        world.adopt();
    }
    println!("{kills} kills while it wrote");
    assert!(kills >= 20, "{kills}");
    let mut client = world.client();
    let exit = client.exit_of("p");
    assert_eq!((exit.kind(), exit.value), (ExitKind::Code, 9));
    let last = format!("line {}\n", LINES - 1);
    wait_for("the last line", || {
        world.output("p").ends_with(&last).then_some(())
    });
    let expected: String = (0..LINES)
        .map(|number| format!("line {number}\n"))
        .collect();
    let output = world.output("p");
    if output != expected {
        let wrong = output
            .lines()
            .zip(expected.lines())
            .find(|(got, want)| got != want);
        let (got, want) = (output.len(), expected.len());
        panic!("{got} bytes instead of {want}, first {wrong:?}");
    }
    let after = client.process("q").unwrap();
    assert_eq!(
        (after.pid, after.start, after.starts),
        (q.pid, q.start, q.starts)
    );
    assert_eq!(client.report().init.unwrap().pid, init.unsigned_abs());
    world.end();
}

#[test]
fn an_end_while_no_shim_lives_is_not_lost() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    client.start(script(
        "p",
        "while [ ! -e /tmp/go ]; do sleep 0.01; done; echo last words; exit 6",
    ));
    let pid = client.process("p").unwrap().pid;
    client.start(script(
        "stubborn",
        "trap '' TERM; echo up; while :; do sleep 1; done",
    ));
    wait_for("its output", || {
        world.output("stubborn").contains("up").then_some(())
    });
    assert!(matches!(client.stop("stubborn", 200), Answer::Done(_)));
    world.kill("shim.id");
    std::fs::write(format!("/proc/{pid}/root/tmp/go"), "").unwrap();
    wait_for("it to end", || {
        (!std::path::Path::new(&format!("/proc/{pid}")).exists()).then_some(())
    });
    world.adopt();
    let mut client = world.client();
    let exit = client.exit_of("p");
    assert_eq!((exit.kind(), exit.value), (ExitKind::Code, 6));
    wait_for("its last words", || {
        (world.output("p") == "last words\n").then_some(())
    });
    let exit = client.exit_of("stubborn");
    assert_eq!(
        (exit.kind(), exit.value, exit.asked),
        (ExitKind::Signal, 9, true),
        "the grace outlived the shim"
    );
    world.end();
}

#[test]
fn a_killed_init_is_told_and_its_records_stay() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    client.run(&world, "done", "exit 4");
    client.start(script("p", "echo up; exec sleep 1000"));
    wait_for("its output", || (world.output("p") == "up\n").then_some(()));
    world.kill("init.id");
    let check = |world: &World| {
        let mut client = world.client();
        wait_for("the end to be seen", || {
            client.report().init.is_none().then_some(())
        });
        let exit = client.exit_of("p");
        assert_eq!(exit.kind(), ExitKind::Unseen);
        assert_eq!(client.exit_of("done").value, 4);
        let failure = client.refused(Ask::Start(script("x", "true")));
        assert_eq!(failure.kind(), FailureKind::Stale);
        exit.ended_ms
    };
    let seen = check(&world);
    world.kill("shim.id");
    world.adopt();
    assert_eq!(check(&world), seen, "the next shim tells the same");
    let forget = Ask::Forget(Forget { name: "p".into() });
    assert!(matches!(world.client().ask(forget), Answer::Done(_)));
    assert!(world.client().process("p").is_none());
    world.end();
}

#[test]
fn an_init_killed_on_the_way_is_told_at_once() {
    if !can_run() {
        return;
    }
    let seed = 20_261_127;
    println!("seed {seed}");
    let mut on_the_way = 0;
    for moment in moments(seed).take(12) {
        let mut world = World::new();
        // Many files, so that there is a way.
        world.launch.files = (0..2000)
            .map(|at| File {
                path: format!("/etc/many/{at}"),
                user: "root".into(),
                mode: 0o644,
                digest: vec![1; 16],
                ..File::default()
            })
            .collect();
        let launch = world.launch.encode_to_vec();
        std::fs::write(world.directory().join("launch"), launch).unwrap();
        world.run_shim("launch");
        wait_for("an init", || world.id("init.id"));
        std::thread::sleep(Duration::from_micros(moment % 20_000));
        world.kill("init.id");
        // Far below what a root may take to be assembled.
        let told = wait_for("the end to be told", || match world.failure() {
            Some(failure) => Some(Some(failure)),
            None => world.try_connect().map(|_| None),
        });
        let Some(failure) = told else { continue };
        on_the_way += 1;
        assert_eq!(failure.kind(), FailureKind::Retry, "{failure:?}");
    }
    assert!(on_the_way > 3, "{on_the_way} were killed on the way");
}

#[test]
fn a_shim_killed_together_with_its_init_leaves_the_records() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    client.run(&world, "done", "exit 4");
    client.start(script("p", "exec sleep 1000"));
    world.kill("shim.id");
    world.kill("init.id");
    world.adopt();
    let mut client = world.client();
    assert!(client.report().init.is_none());
    assert_eq!(client.exit_of("done").value, 4);
    assert_eq!(client.exit_of("p").kind(), ExitKind::Unseen);
    world.end();
}

#[test]
fn hostile_bytes_harm_nobody() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    client.start(script("p", "exec sleep 1000"));
    let before = client.process("p").unwrap();
    let socket = |name: &str| {
        let socket = UnixStream::connect(world.directory().join(name)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        socket
    };
    for name in ["shim.sock", "init.sock", "exits", "shim.lock", "init.id"] {
        let facts = std::fs::metadata(world.directory().join(name)).unwrap();
        let mode = facts.permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{name} is root's alone");
    }
    let mut pieces: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.0\r\n\r\n".to_vec(),
        vec![0xff; 100_000],
        vec![0; 100_000],
        vec![5],
        (1u32 << 20).to_le_bytes().to_vec(),
        [&4u32.to_le_bytes()[..], &[0xff; 4]].concat(),
    ];
    pieces.extend(moments(7).take(30).map(|seed| {
        moments(seed)
            .take(usize::try_from(seed % 3000).unwrap())
            .map(|moment| moment.to_le_bytes()[0])
            .collect()
    }));
    for bytes in &pieces {
        let mut hostile = socket("shim.sock");
        // It may hang up before all is sent.
        hostile.write_all(bytes).ok();
        hostile.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        hostile.read_to_end(&mut answer).ok();
        let after = world.client().process("p").unwrap();
        assert_eq!((after.pid, after.starts), (before.pid, before.starts));
    }
    // Half a frame each, held open: more than may be connected at once.
    let held: Vec<UnixStream> = (0..20)
        .map(|_| {
            let mut socket = socket("shim.sock");
            socket.write_all(&[200, 0, 0, 0, 1]).unwrap();
            socket
        })
        .collect();
    assert_eq!(world.client().process("p").unwrap().pid, before.pid);
    drop(held);
    // The init's own socket: waits behind the shim, and is no order when it comes up.
    let mut inner = socket("init.sock");
    inner.write_all(&[0xff; 1000]).unwrap();
    world.kill("shim.id");
    let mut answer = Vec::new();
    inner.read_to_end(&mut answer).ok();
    drop(inner);
    world.adopt();
    let after = wait_for("the table", || world.client().process("p"));
    assert_eq!((after.pid, after.starts), (before.pid, before.starts));
    world.end();
}

#[test]
fn a_torn_launch_is_a_failure_and_no_container() {
    if !can_run() {
        return;
    }
    let world = World::new();
    let whole = world.launch.encode_to_vec();
    for torn in [0, 1, whole.len() / 2, whole.len() - 3, whole.len() - 1] {
        std::fs::write(world.directory().join("launch"), &whole[..torn]).unwrap();
        world.run_shim("launch");
        let failure = wait_for("the failure", || world.failure());
        assert_eq!(failure.kind(), FailureKind::Terminal);
        assert!(failure.what.contains("launch description"), "{failure:?}");
        assert!(world.id("init.id").is_none() && world.try_connect().is_none());
        std::fs::remove_file(world.directory().join("failure")).unwrap();
    }
    let mut other = world.launch.clone();
    other.incarnation = 2;
    std::fs::write(world.directory().join("launch"), other.encode_to_vec()).unwrap();
    world.run_shim("launch");
    let failure = wait_for("the failure", || world.failure());
    assert!(failure.cause.contains(".2"), "{failure:?}");
}

#[test]
fn a_root_that_cannot_be_entered_is_a_failure_and_can_be_tried_again() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    let cgroup = world.add_cgroup("unified", true);
    let lower = world.launch.root.as_ref().unwrap().lower.clone();
    world.launch.root.as_mut().unwrap().lower = "/nonexistent".into();
    std::fs::write(
        world.directory().join("launch"),
        world.launch.encode_to_vec(),
    )
    .unwrap();
    world.run_shim("launch");
    wait_for("the failure", || world.failure());
    wait_for("nothing to be left", || {
        let procs = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
        (procs.is_empty() && world.id("init.id").is_none()).then_some(())
    });
    world.launch.root.as_mut().unwrap().lower = lower;
    std::fs::remove_file(world.directory().join("failure")).unwrap();
    world.launch();
    assert!(world.failure().is_none());
    assert!(world.client().report().init.is_some());
    world.end();
}

#[test]
fn a_second_shim_goes_away() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let first = world.id("shim.id");
    let mut client = world.client();
    for mode in ["launch", "adopt"] {
        world.run_shim(mode);
        let lock = std::fs::File::open(world.directory().join("shim.lock")).unwrap();
        let held = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared);
        assert!(held.is_err(), "the lock is held");
        assert_eq!(world.id("shim.id"), first);
        assert!(client.report().init.is_some());
    }
    wait_for("the others to give up", || {
        (shims_of(&world) == 1).then_some(())
    });
    world.end();
    let lock = std::fs::File::open(world.directory().join("shim.lock")).unwrap();
    wait_for("the lock", || {
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared).ok()
    });
}

#[test]
fn a_launch_again_after_a_kill_takes_over_what_lives() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    world.client().start(script("p", "exec sleep 1000"));
    let pid = world.client().process("p").unwrap().pid;
    world.kill("shim.id");
    let lock = std::fs::File::open(world.directory().join("shim.lock")).unwrap();
    let free = rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockShared);
    assert!(free.is_ok(), "the init does not hold the shim's lock");
    drop(lock);
    world.run_shim("launch");
    let after = wait_for("the table", || world.try_connect()?.process("p"));
    assert_eq!(after.pid, pid);
    world.end();
}

#[test]
fn an_end_leaves_nothing() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    let cgroup = world.add_cgroup("unified", true);
    world.launch();
    let mut client = world.client();
    client.start(script(
        "p",
        "(sleep 1000 &) ; trap '' TERM; while :; do sleep 1; done",
    ));
    let shim = world.id("shim.id").unwrap().0;
    world.end();
    wait_for("the shim to go", || {
        (!std::path::Path::new(&format!("/proc/{shim}")).exists()).then_some(())
    });
    assert_eq!(
        std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap(),
        ""
    );
    wait_for("the cgroup to empty", || std::fs::remove_dir(&cgroup).ok());
    assert!(!world.directory().join("shim.sock").exists());
    assert!(world.directory().join("exits").exists(), "the records stay");
}

#[test]
fn a_shim_whose_directory_is_gone_goes_too() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let shim = world.id("shim.id").unwrap().0;
    world.kill("init.id");
    std::fs::remove_dir_all(world.directory()).unwrap();
    wait_for("the shim to go", || {
        (!std::path::Path::new(&format!("/proc/{shim}/exe")).exists()).then_some(())
    });
}

/// Counts the processes whose command line is that of a shim of this life.
fn shims_of(world: &World) -> usize {
    let start = format!("reconciler-shim\0test\0{}.1\0", world.name);
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok())
        .filter(|line| line.starts_with(start.as_bytes()))
        .count()
}
