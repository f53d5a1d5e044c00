//! Commands run beside the container's processes.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::process::{Signal, pidfd_send_signal};
use shim_proto::exec::{EXECS_MAX, Exec, Executing, STATUS_BYTES, Window, decode_status};
use shim_proto::launch::Process;
use shim_proto::message::{Answer, Ask, ExitKind, Failure, FailureKind};

use crate::world::{Client, PATIENCE, World, can_run, script, wait_for};

/// A command that runs.
struct Command {
    told: Executing,
    pidfd: OwnedFd,
    status: File,
    /// Standard input if asked for, output, errors; or the terminal.
    ends: Vec<File>,
}

impl Command {
    /// What it wrote until its end.
    fn read(&mut self, place: usize) -> String {
        let mut text = String::new();
        let mut bytes = [0; 4096];
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.ends[place].read(&mut bytes) {
                Ok(0) => return text,
                Ok(count) => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
                Err(err) if err.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                // A terminal without a program (`EIO`).
                Err(_) => return text,
            }
        }
        panic!("waited in vain for the end of {text:?}");
    }

    /// Reads until a text has come.
    fn read_until(&mut self, place: usize, wanted: &str) -> String {
        let mut text = String::new();
        let mut bytes = [0; 4096];
        wait_for(wanted, || {
            if let Ok(count) = self.ends[place].read(&mut bytes) {
                text.push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
            text.contains(wanted).then_some(())
        });
        text
    }

    /// How it ended; none if its container did.
    fn status(&mut self) -> Option<(ExitKind, i32)> {
        let mut bytes = [0; STATUS_BYTES];
        match self.status.read_exact(&mut bytes) {
            Ok(()) => decode_status(bytes),
            Err(_) => None,
        }
    }

    fn runs(&self) -> bool {
        std::path::Path::new(&format!("/proc/{}", self.told.pid)).exists()
    }
}

fn exec(text: &str) -> Exec {
    Exec {
        process: Some(script("exec", text)),
        ..Exec::default()
    }
}

fn on_terminal(text: &str) -> Exec {
    Exec {
        terminal: Some(Window {
            rows: 33,
            columns: 111,
        }),
        ..exec(text)
    }
}

fn try_run(client: &mut Client, exec: Exec) -> Result<Command, Failure> {
    match client.ask(Ask::Exec(exec)) {
        Answer::Executing(told) => {
            let mut descriptors = std::mem::take(&mut client.descriptors);
            assert_eq!(descriptors.len(), told.descriptors as usize);
            let ends = descriptors.split_off(2).into_iter().map(File::from);
            let ends = ends.collect();
            let status = descriptors.pop().unwrap().into();
            let pidfd = descriptors.pop().unwrap();
            Ok(Command {
                told,
                pidfd,
                status,
                ends,
            })
        }
        Answer::Failure(failure) => Err(failure),
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn run(client: &mut Client, exec: Exec) -> Command {
    try_run(client, exec).unwrap_or_else(|failure| panic!("{failure:?}"))
}

/// How many descriptors a process holds.
fn descriptors_of(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .count()
}

#[test]
fn a_command_reads_writes_and_tells_how_it_ended() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let with_input = Exec {
        input: true,
        ..exec("cat; echo trouble >&2; exit 7")
    };
    let mut command = run(&mut client, with_input);
    assert_eq!(command.ends.len(), 3);
    let mut input = command.ends.remove(0);
    input.write_all(b"one\ntwo\n").unwrap();
    drop(input);
    assert_eq!(command.read(0), "one\ntwo\n");
    assert_eq!(command.read(1), "trouble\n");
    assert_eq!(command.status(), Some((ExitKind::Code, 7)));

    // Without input it reads the end of a file at once.
    let mut command = run(&mut client, exec("cat; echo $?"));
    assert_eq!(command.read(0), "0\n");
    assert_eq!(command.status(), Some((ExitKind::Code, 0)));

    let mut command = run(&mut client, exec("exec sleep 1000"));
    pidfd_send_signal(&command.pidfd, Signal::TERM).unwrap();
    assert_eq!(command.status(), Some((ExitKind::Signal, 15)));
    // Nothing of all that is a process of the container's.
    assert!(client.report().processes.is_empty());
}

#[test]
fn what_cannot_run_says_why_as_a_shell_would() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let command = |words: &[&str], user: &str| Exec {
        process: Some(Process {
            command: words.iter().map(|word| (*word).into()).collect(),
            user: user.into(),
            ..script("exec", "")
        }),
        ..Exec::default()
    };
    let mut refused = |exec| try_run(&mut client, exec).err().expect("it cannot run");
    let failure = refused(command(&["nosuch"], "root"));
    assert!(failure.no_such_command, "{failure:?}");
    assert!(failure.cause.contains("nosuch not found"), "{failure:?}");
    let failure = refused(command(&["/etc/passwd"], "root"));
    assert!(
        !failure.no_such_command && failure.errno == libc::EACCES,
        "{failure:?}"
    );
    let failure = refused(command(&["true"], "nobody-here"));
    assert!(failure.what.contains("nobody-here") || failure.cause.contains("nobody-here"));
    assert!(!failure.no_such_command);
    let failure = refused(command(&[], "root"));
    assert!(failure.cause.contains("empty"), "{failure:?}");
    // And nothing is left of them.
    let (init, _) = world.id("init.id").unwrap();
    let before = descriptors_of(init);
    for _ in 0..20 {
        refused(command(&["nosuch"], "root"));
    }
    wait_for("the init to let go", || {
        (descriptors_of(init) == before).then_some(())
    });
}

#[test]
fn a_command_is_confined_as_processes_are() {
    if !can_run() {
        return;
    }
    let mut world = World::new();
    world.add_cgroup("pids", false);
    world.launch();
    let mut client = world.client();
    let text = "cat /proc/self/cgroup /proc/self/uid_map; \
        busybox grep -E '^(Cap|NoNew|Seccomp|Groups)' /proc/self/status; \
        for ns in /proc/self/ns/*; do busybox readlink $ns; done; \
        busybox ls /proc/self/fd | busybox wc -l; umask; pwd";
    let (_, told) = client.run(&world, "p", text);
    let mut command = run(&mut client, exec(text));
    assert_eq!(command.read(0), told);
    // Its descriptors 0 to 2, the directory, and the other side of nothing.
    assert!(told.contains("\n4\n"), "{told}");
    let cgroup =
        std::fs::read_to_string(format!("/proc/{}/cgroup", world.id("init.id").unwrap().0));
    assert!(cgroup.unwrap().contains(&format!("rxshim-{}", world.name)));
}

#[test]
fn a_terminal_is_the_containers_own_and_of_the_size_asked_for() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let as_web = |mut exec: Exec| {
        if let Some(process) = &mut exec.process {
            process.user = "web".into();
        }
        exec
    };
    let text = "busybox tty; busybox stty size; busybox stat -c %u $(busybox tty); \
        echo to-the-terminal >/dev/tty; read line; echo got $line; exit 3";
    let mut command = run(&mut client, as_web(on_terminal(text)));
    assert_eq!(command.ends.len(), 1);
    let told = command.read_until(0, "to-the-terminal");
    for wanted in ["/dev/pts/0", "33 111", "1000"] {
        assert!(told.contains(wanted), "{wanted}: {told}");
    }
    command.ends[0].write_all(b"hello\r").unwrap();
    assert!(command.read(0).contains("got hello"));
    assert_eq!(command.status(), Some((ExitKind::Code, 3)));

    // A changed size is told, and the interrupt character interrupts.
    let text = "trap 'busybox stty size; exec sleep 1000' WINCH; echo ready; \
        while :; do sleep 0.1; done";
    let mut command = run(&mut client, on_terminal(text));
    command.read_until(0, "ready");
    let size = rustix::termios::Winsize {
        ws_row: 10,
        ws_col: 20,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&command.ends[0], size).unwrap();
    command.read_until(0, "10 20");
    command.ends[0].write_all(b"\x03").unwrap();
    assert_eq!(command.status(), Some((ExitKind::Signal, 2)));
}

#[test]
fn a_changed_dev_does_not_lead_a_terminal_elsewhere() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let (exit, _) = client.run(
        &world,
        "p",
        "busybox rm /dev/ptmx && busybox ln -s /dev/null /dev/ptmx && busybox mv /dev/pts /dev/x; true",
    );
    assert_eq!(exit.value, 0);
    let mut command = run(&mut client, on_terminal("busybox stty size"));
    assert!(command.read(0).contains("33 111"));
}

#[test]
fn a_command_that_nobody_asks_for_any_more_ends() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let (init, _) = world.id("init.id").unwrap();
    let before = descriptors_of(init);
    let mut polite = run(
        &mut client,
        exec(
            "exec 2>/dev/null; trap 'echo bye >/tmp/bye; exit' HUP; echo set; while :; do sleep 0.05; done",
        ),
    );
    let mut stubborn = run(
        &mut client,
        exec("trap '' HUP; echo set; sleep 1000 & sleep 1000"),
    );
    let on_terminal = run(&mut client, on_terminal("exec sleep 1000"));
    polite.read_until(0, "set");
    stubborn.read_until(0, "set");
    let pids = [&polite, &stubborn, &on_terminal].map(|command| command.told.pid);
    let runs = |pid: u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    let began = Instant::now();
    drop((polite, on_terminal));
    wait_for("the polite ones to go", || {
        (!runs(pids[0]) && !runs(pids[2])).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(5));
    let mut command = run(&mut client, exec("cat /tmp/bye"));
    assert_eq!(command.read(0), "bye\n");
    assert!(stubborn.runs());
    drop(stubborn);
    std::thread::sleep(Duration::from_secs(1));
    assert!(runs(pids[1]), "it has its time");
    wait_for("the stubborn one to go", || (!runs(pids[1])).then_some(()));
    // What it began is of its session and goes with it.
    let mut command = run(
        &mut client,
        exec("busybox ps -o args | busybox grep -c '^sleep'"),
    );
    assert_eq!(command.read(0), "0\n");
    wait_for("the init to let go", || {
        (descriptors_of(init) == before).then_some(())
    });
}

#[test]
fn a_killed_shim_does_not_disturb_a_command() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut command = run(
        &mut world.client(),
        exec("echo one; sleep 1; echo two; exit 5"),
    );
    world.kill("shim.id");
    world.adopt();
    let mut client = world.client();
    let mut other = run(&mut client, exec("exit 6"));
    assert_eq!(command.read(0), "one\ntwo\n");
    assert_eq!(command.status(), Some((ExitKind::Code, 5)));
    assert_eq!(other.status(), Some((ExitKind::Code, 6)));
}

#[test]
fn the_end_of_the_container_is_the_end_of_a_command() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let mut command = run(&mut client, exec("exec sleep 1000"));
    world.end();
    assert_eq!(command.status(), None);
    assert!(!command.runs());
    assert_eq!(command.read(0), "");
}

#[test]
fn many_run_at_once_and_one_too_many_is_refused() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let (init, _) = world.id("init.id").unwrap();
    let (shim, _) = world.id("shim.id").unwrap();
    let before = (descriptors_of(init), descriptors_of(shim));
    let mut all: Vec<Command> = (0..EXECS_MAX)
        .map(|_| {
            let exec = Exec {
                input: true,
                ..exec("exec cat")
            };
            run(&mut client, exec)
        })
        .collect();
    let failure = try_run(&mut client, exec("true")).err().expect("refused");
    assert_eq!(failure.kind(), FailureKind::Retry, "{failure:?}");
    for (number, command) in all.iter_mut().enumerate() {
        let mut input = command.ends.remove(0);
        write!(input, "{number}").unwrap();
    }
    for (number, command) in all.iter_mut().enumerate() {
        assert_eq!(command.read(0), number.to_string());
        assert_eq!(command.status(), Some((ExitKind::Code, 0)));
    }
    drop(all);
    wait_for("both to let go", || {
        ((descriptors_of(init), descriptors_of(shim)) == before).then_some(())
    });
    // Processes still start beside them.
    assert_eq!(client.run(&world, "p", "exit 4").0.value, 4);
}

#[test]
fn a_limit_that_only_the_host_can_raise_is_raised_for_a_command_too() {
    if !can_run() {
        return;
    }
    let world = World::launched();
    let mut client = world.client();
    let limit = shim_proto::launch::Rlimit {
        resource: libc::RLIMIT_NOFILE,
        soft: 100,
        hard: 200,
    };
    let mut wanted = exec("ulimit -n; ulimit -Hn");
    if let Some(process) = &mut wanted.process {
        process.rlimits = vec![limit];
    }
    let mut command = run(&mut client, wanted.clone());
    assert_eq!(command.read(0), "100\n200\n");
    // One that not even the host may raise is told, and nothing runs.
    if let Some(process) = &mut wanted.process {
        process.rlimits = vec![shim_proto::launch::Rlimit {
            soft: 1,
            hard: 1 << 40,
            ..limit
        }];
    }
    let failure = try_run(&mut client, wanted).err().expect("refused");
    assert!(failure.what.contains("nofile"), "{failure:?}");
}
