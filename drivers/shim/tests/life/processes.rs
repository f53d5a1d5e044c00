//! Processes: started, ended, reported.

use shim_proto::launch::{Process, Rlimit};
use shim_proto::message::{Answer, Ask, ExitKind, FailureKind, Forget, Signal, Stop};

use crate::world::{World, can_run, script, wait_for};

#[test]
fn exits_are_told_as_they_were() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    for (name, text, kind, value) in [
        ("zero", "exit 0", ExitKind::Code, 0),
        ("three", "echo out; echo err >&2; exit 3", ExitKind::Code, 3),
        ("signal", "kill -USR1 $$", ExitKind::Signal, libc::SIGUSR1),
        ("segv", "kill -SEGV $$", ExitKind::Signal, libc::SIGSEGV),
    ] {
        client.start(script(name, text));
        let exit = client.exit_of(name);
        assert_eq!(
            (exit.kind(), exit.value, exit.asked),
            (kind, value, false),
            "{name}"
        );
        assert!(exit.ended_ms >= exit.started_ms && exit.started_ms > 0);
    }
    let log = world.log("three");
    assert!(
        log.contains(" stdout F out\n") && log.contains(" stderr F err\n"),
        "{log:?}"
    );
    let three = client.process("three").unwrap();
    assert_eq!(
        (three.digest, three.files, three.restart_epoch),
        (vec![7; 16], vec![8; 16], 9)
    );
    assert_eq!(three.starts, 1);
    world.end();
}

#[test]
fn several_processes_live_side_by_side_and_are_started_again() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    for name in ["a", "b", "c"] {
        client.start(script(name, "echo up; exec sleep 1000"));
    }
    let report = client.report();
    let names: Vec<_> = report
        .processes
        .iter()
        .map(|process| process.name.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    for process in &report.processes {
        assert!(process.pid > 0 && process.start > 0 && process.last_exit.is_none());
        let line = || std::fs::read(format!("/proc/{}/cmdline", process.pid)).ok();
        wait_for("the host's pid to be the program's", || {
            (line()? == b"sleep\x001000\0").then_some(())
        });
    }
    let again = client.refused(Ask::Start(script("a", "true")));
    assert_eq!(again.kind(), FailureKind::Stale);
    assert!(matches!(client.stop("a", 10_000), Answer::Done(_)));
    let exit = client.exit_of("a");
    assert_eq!(
        (exit.kind(), exit.value, exit.asked),
        (ExitKind::Signal, libc::SIGTERM, true)
    );
    client.start(script("a", "exit 5"));
    assert_eq!(client.exit_of("a").value, 5);
    assert_eq!(client.process("a").unwrap().starts, 2);
    let forget = |name: &str| Ask::Forget(Forget { name: name.into() });
    assert!(matches!(client.ask(forget("a")), Answer::Done(_)));
    assert_eq!(client.refused(forget("b")).kind(), FailureKind::Stale);
    wait_for("a to be forgotten", || {
        client.process("a").is_none().then_some(())
    });
    client.start(script("d", "exit 1"));
    assert_eq!(client.exit_of("d").value, 1);
    assert_eq!(
        client.process("d").unwrap().starts,
        1,
        "a place used again begins anew"
    );
    world.end();
}

#[test]
fn an_old_picture_changes_nothing() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    client.start(script("a", "exec sleep 1000"));
    let (name, signal) = (String::from("a"), libc::SIGTERM.unsigned_abs());
    let stop = |starts| {
        Ask::Stop(Stop {
            name: name.clone(),
            signal,
            grace_ms: 0,
            starts,
        })
    };
    let kill = |starts| {
        Ask::Signal(Signal {
            name: name.clone(),
            signal,
            starts,
            files: Vec::new(),
        })
    };
    for ask in [stop(0), stop(2), kill(0), kill(2)] {
        assert_eq!(client.refused(ask).kind(), FailureKind::Stale);
    }
    let process = client.process("a").unwrap();
    assert!(process.pid != 0 && process.stopping_ms == 0);
    let files = vec![3; 16];
    let usr1 = Signal {
        name: "a".into(),
        signal: 0,
        starts: 1,
        files: files.clone(),
    };
    assert_eq!(
        client.refused(Ask::Signal(usr1.clone())).kind(),
        FailureKind::Terminal
    );
    let winch = Signal {
        signal: libc::SIGWINCH.unsigned_abs(),
        ..usr1
    };
    assert!(matches!(client.ask(Ask::Signal(winch)), Answer::Done(_)));
    wait_for("the digest", || {
        (client.process("a")?.files == files).then_some(())
    });
    world.end();
}

#[test]
fn what_ignores_term_is_killed_after_its_grace_with_its_session() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let text = "trap '' TERM; (trap '' TERM; sleep 999) & echo up; while :; do sleep 1; done";
    client.start(script("deaf", text));
    wait_for("its output", || {
        world.output("deaf").contains("up").then_some(())
    });
    let before = std::time::Instant::now();
    assert!(matches!(client.stop("deaf", 300), Answer::Done(_)));
    let stopping = client.process("deaf").unwrap();
    assert!(stopping.pid != 0 && stopping.stopping_ms != 0);
    assert!(
        matches!(client.stop("deaf", 60_000), Answer::Done(_)),
        "later is not longer"
    );
    let exit = client.exit_of("deaf");
    assert_eq!(
        (exit.kind(), exit.value, exit.asked),
        (ExitKind::Signal, libc::SIGKILL, true)
    );
    assert!(before.elapsed().as_millis() >= 300);
    wait_for("its session to go", || {
        (pids_inside(&world).len() == 1).then_some(())
    });
    world.end();
}

#[test]
fn a_process_that_obeys_leaves_nothing_of_its_session() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    client.start(script(
        "web",
        "(trap '' TERM; sleep 999) & echo up; exec sleep 999",
    ));
    wait_for("its output", || {
        world.output("web").contains("up").then_some(())
    });
    client.stop("web", 60_000);
    assert_eq!(client.exit_of("web").value, libc::SIGTERM);
    wait_for("its session to go", || {
        (pids_inside(&world).len() == 1).then_some(())
    });
    world.end();
}

#[test]
fn what_cannot_start_says_why() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    std::fs::write(world.path("root/bin/noexec"), "x").unwrap();
    let base = script("p", "true");
    let hard = u64::MAX - 1;
    let cases: [(Process, &str); 8] = [
        (
            Process {
                command: vec!["nope".into()],
                ..base.clone()
            },
            "command nope not found",
        ),
        (
            Process {
                command: vec!["/bin/noexec".into()],
                ..base.clone()
            },
            "may not run",
        ),
        (
            Process {
                user: "nobody".into(),
                ..base.clone()
            },
            "has no user nobody",
        ),
        (
            Process {
                user: "4294967296".into(),
                ..base.clone()
            },
            "4294967296 is over",
        ),
        (
            Process {
                user: "70000".into(),
                ..base.clone()
            },
            "not in the container's range",
        ),
        (
            Process {
                work_dir: "/nope".into(),
                ..base.clone()
            },
            "no such directory",
        ),
        (
            Process {
                work_dir: "/proc/self/fd/3".into(),
                ..base.clone()
            },
            "descriptor",
        ),
        (
            Process {
                command: vec![],
                ..base.clone()
            },
            "command is empty",
        ),
    ];
    for (process, expected) in cases {
        let failure = client.refused(Ask::Start(process));
        assert_eq!(failure.kind(), FailureKind::Terminal, "{failure:?}");
        assert!(failure.cause.contains(expected), "{expected}: {failure:?}");
    }
    let report = client.process("p").unwrap();
    let exit = report.last_exit.unwrap();
    assert_eq!((report.pid, exit.kind()), (0, ExitKind::NotStarted));
    for fd in 3..64 {
        let work_dir = format!("/proc/self/fd/{fd}");
        let failure = client.refused(Ask::Start(Process {
            work_dir,
            ..base.clone()
        }));
        assert_eq!(failure.kind(), FailureKind::Terminal, "{failure:?}");
    }
    let limit = Rlimit {
        resource: libc::RLIMIT_NOFILE,
        soft: 1,
        hard,
    };
    let failure = client.refused(Ask::Start(Process {
        rlimits: vec![limit],
        ..base.clone()
    }));
    assert!(
        failure.what.contains("raise the hard limit nofile"),
        "{failure:?}"
    );
    assert_eq!(failure.kind(), FailureKind::Terminal, "{failure:?}");
    let (exit, _) = client.run(&world, "p", "exit 0");
    assert_eq!(
        (exit.kind(), exit.value),
        (ExitKind::Code, 0),
        "and it can still be started"
    );
    world.end();
}

#[test]
fn limits_are_lowered_for_the_process_alone() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let rlimits = vec![
        Rlimit {
            resource: libc::RLIMIT_NOFILE,
            soft: 100,
            hard: 200,
        },
        Rlimit {
            resource: libc::RLIMIT_CORE,
            soft: 0,
            hard: 0,
        },
    ];
    let text = "ulimit -Sn; ulimit -Hn; ulimit -Hc; umask; pwd";
    client.start(Process {
        rlimits,
        work_dir: "/tmp".into(),
        ..script("low", text)
    });
    client.exit_of("low");
    assert_eq!(world.output("low"), "100\n200\n0\n0022\n/tmp\n");
    let (_, plain) = client.run(&world, "plain", "ulimit -Hn");
    assert_ne!(plain, "200\n");
    world.end();
}

#[test]
fn orphans_and_zombies_are_reaped() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let text = "i=0; while [ $i -lt 1500 ]; do (true &) ; i=$((i+1)); done; echo done";
    let (exit, output) = client.run(&world, "storm", text);
    assert_eq!(
        (exit.kind(), exit.value, output.as_str()),
        (ExitKind::Code, 0, "done\n")
    );
    wait_for("only the init to be left", || {
        (pids_inside(&world).len() == 1).then_some(())
    });
    world.end();
}

#[test]
fn changes_are_told_unasked() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut watcher = world.client();
    watcher.report();
    let mut client = world.client();
    client.start(script("a", "exit 0"));
    assert_eq!(watcher.hear().unwrap(), shim_proto::end::Heard::Changed);
    assert!(watcher.fd() > 2);
    world.end();
}

/// Host pids whose pid namespace is the container's.
fn pids_inside(world: &World) -> Vec<i32> {
    let (init, _) = world.id("init.id").unwrap();
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let inside = namespace(init);
    assert!(inside.is_some());
    std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| namespace(*pid) == inside)
        .collect()
}

#[test]
fn files_are_placed_replaced_and_remembered() {
    if !can_run() {
        return;
    }
    let file = |content: &str, digest: u8| shim_proto::launch::File {
        path: "/etc/motd".into(),
        content: content.into(),
        mode: 0o644,
        user: "root".into(),
        digest: vec![digest; 16],
    };
    let mut world = World::new();
    world.launch.files = vec![file("one\n", 1)];
    world.launch();
    let mut client = world.client();
    assert_eq!(client.run(&world, "a", "cat /etc/motd").1, "one\n");
    assert_eq!(client.report().files[0].digest, [1; 16]);
    assert!(matches!(
        client.ask(Ask::WriteFile(file("two\n", 2))),
        Answer::Done(_)
    ));
    assert_eq!(client.run(&world, "b", "cat /etc/motd").1, "two\n");
    world.kill("shim.id");
    world.adopt();
    let files = world.client().report().files;
    assert_eq!(
        (files.len(), &files[0].path[..], &files[0].digest[..]),
        (1, "/etc/motd", &[2; 16][..])
    );
    world.end();
}
