//! Commands run in containers, on the shipped programs and the real kernel.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::Pid;
use tests::eventually::{eventually, until};
use tests::world::{SOON, World, bin};

const SLEEPER: &str = r#"apiVersion: reconciler/v1
kind: Container
metadata: {name: box}
spec:
  rootfs: {directory: /srv/rootfs/busybox}
  limits: {memory: 128Mi, pids: 256}
  env: {COLOR: green}
  processes:
    - name: app
      command: [/bin/sleep, "100000"]
      user: app
      workDir: /tmp
      env: {LEVEL: info}
    - name: other
      command: [/bin/sleep, "100000"]
"#;

fn started() -> World {
    let mut world = World::new();
    world.start();
    world.write("box.yaml", SLEEPER);
    world.wait_phase("box", "Running");
    world
}

/// The client with its three streams piped.
fn exec(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(bin("reconciler"));
    command
        .arg("exec")
        .args(arguments)
        .env("RECONCILER_SOCKET", world.socket())
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(world: &World, arguments: &[&str]) -> Output {
    world.cli(&[&["exec"], arguments].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn text_of(output: &Output) -> (String, String) {
    (text(&output.stdout), text(&output.stderr))
}

/// How many `sleep` of that many seconds run.
fn sleepers(seconds: &str) -> usize {
    let all = fs::read_dir("/proc").expect("list /proc").flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let wanted = format!("sleep\0{seconds}\0");
    lines.filter(|line| text(line) == wanted).count()
}

#[test]
fn a_command_runs_as_the_process_it_is_named_after() {
    let world = started();
    let script = "echo $COLOR $LEVEL $(id -u) $(pwd); echo trouble >&2";
    let output = run(&world, &["box", "--", "sh", "-c", script]);
    assert_eq!(text(&output.stdout), "green info 1000 /tmp\n");
    assert_eq!(text(&output.stderr), "trouble\n");
    assert_eq!(output.status.code(), Some(0));
    // The other one, and what is said otherwise.
    let output = run(&world, &["box/other", "sh", "-c", script]);
    assert_eq!(text(&output.stdout), "green 0 /\n");
    let otherwise = [
        "-u",
        "app:extra",
        "-e",
        "LEVEL=a=b",
        "-w",
        "/www",
        "box/other",
        "sh",
        "-c",
        "echo $LEVEL $(id -u):$(id -g) $(pwd) $#",
        "x",
        "-y",
    ];
    let output = run(&world, &otherwise);
    assert_eq!(text(&output.stdout), "a=b 1000:2000 /www 1\n");
    // In the container's groups, behind its filters, and holding nothing of anybody.
    let look = "cat /proc/self/cgroup; grep -E '^(Cap|NoNew|Seccomp:)' /proc/self/status; \
        ls /proc/self/fd | wc -l";
    let output = run(&world, &["box/other", "--", "sh", "-c", look]);
    let told = text(&output.stdout);
    let other = world.pid("box", "other").expect("a pid");
    for line in fs::read_to_string(format!("/proc/{other}/status"))
        .expect("read")
        .lines()
    {
        if ["Cap", "NoNew", "Seccomp:"]
            .iter()
            .any(|start| line.starts_with(start))
        {
            assert!(told.contains(line), "{line} is not in {told}");
        }
    }
    assert!(told.ends_with("\n4\n"), "{told}");
    world.finish();
}

#[test]
fn a_container_without_processes_takes_commands() {
    let mut world = World::new();
    world.start();
    let text = SLEEPER.split("  processes:").next().expect("a first part");
    world.write("box.yaml", text);
    eventually("the container to be made", SOON, || {
        let output = run(&world, &["box", "--", "sh", "-c", "echo $(id -u) $(pwd)"]);
        let told = text_of(&output);
        (told.0 == "0 /\n").then_some(()).ok_or(told.1)
    });
    world.finish();
}

#[test]
fn exit_codes_are_those_of_a_shell() {
    let world = started();
    let code = |arguments: &[&str]| {
        let output = run(&world, arguments);
        (output.status.code().expect("a code"), text(&output.stderr))
    };
    assert_eq!(code(&["box", "--", "sh", "-c", "exit 7"]).0, 7);
    assert_eq!(code(&["box", "--", "sh", "-c", "kill -9 $$"]).0, 137);
    let (number, why) = code(&["box", "--", "nosuch"]);
    assert!(
        number == 127 && why.contains("nosuch not found"),
        "{number} {why}"
    );
    let (number, why) = code(&["box", "--", "/etc/passwd"]);
    assert!(
        number == 126 && why.contains("may not run"),
        "{number} {why}"
    );
    let (number, why) = code(&["-u", "nobody-here", "box", "--", "true"]);
    assert!(
        number == 126 && why.contains("nobody-here"),
        "{number} {why}"
    );
    let (number, why) = code(&["-w", "/nowhere", "box", "--", "true"]);
    assert!(number == 126 && why.contains("/nowhere"), "{number} {why}");
    let (number, why) = code(&["nobody", "--", "true"]);
    assert!(
        number == 125 && why.contains("no container nobody"),
        "{number} {why}"
    );
    let (number, why) = code(&["box/none", "--", "true"]);
    assert!(
        number == 125 && why.contains("no process none"),
        "{number} {why}"
    );
    assert_eq!(code(&["-t", "box", "--", "true"]).0, 64);
    assert_eq!(code(&["box"]).0, 64);
    assert!(world.cli(&["stop", "box", "--wait"]).status.success());
    let (number, why) = code(&["box", "--", "true"]);
    // A stopped container keeps its init, or has none: either way the answer says so.
    assert!(
        number == 0 || (number == 125 && why.contains("does not run")),
        "{number} {why}"
    );
    world.finish();
}

#[test]
fn what_goes_in_comes_out_however_slowly_it_is_read() {
    let world = started();
    const BYTES: usize = 40 << 20;
    let mut child = exec(&world, &["-i", "box", "--", "cat"])
        .spawn()
        .expect("start");
    let mut input = child.stdin.take().expect("piped");
    let writer = std::thread::spawn(move || {
        let chunk: Vec<u8> = (0..=u8::MAX).cycle().take(65_521).collect();
        let mut left = BYTES;
        while left > 0 {
            let count = left.min(chunk.len());
            input.write_all(&chunk[..count]).expect("write");
            left -= count;
        }
    });
    let mut output = child.stdout.take().expect("piped");
    let mut bytes = vec![0; 1 << 20];
    let (mut total, mut place) = (0, 0_usize);
    while let Ok(count) = output.read(&mut bytes) {
        if count == 0 {
            break;
        }
        for byte in &bytes[..count] {
            assert_eq!(usize::from(*byte), place % 65_521 % 256, "at {total}");
            place += 1;
        }
        total += count;
        if total % 11 == 0 {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    writer.join().expect("all was written");
    assert_eq!(total, BYTES);
    assert_eq!(child.wait().expect("wait").code(), Some(0));
    // A reader that begins late finds all of it, and the code too: whatever the command had
    // written when it ended, be it on the way or still in its pipe.
    for count in 1..=40 {
        let script = format!("dd if=/dev/zero bs=32768 count={count} 2>/dev/null; exit 9");
        let mut child = exec(&world, &["box", "--", "sh", "-c", &script])
            .spawn()
            .expect("start");
        std::thread::sleep(Duration::from_millis(100));
        let mut all = Vec::new();
        let mut output = child.stdout.take().expect("piped");
        output.read_to_end(&mut all).expect("read");
        let code = child.wait().expect("wait").code();
        assert_eq!((all.len(), code), (count * 32_768, Some(9)));
    }
    // What a command leaves behind is not waited for.
    let output = run(&world, &["box", "--", "sh", "-c", "sleep 6205 & echo done"]);
    assert_eq!(text(&output.stdout), "done\n");
    world.finish();
}

/// `exec -it` on a terminal of the test's own.
struct Terminal {
    outer: File,
    inner: OwnedFd,
    child: Child,
}

impl Terminal {
    fn new(world: &World, arguments: &[&str]) -> Self {
        let size = Winsize {
            ws_row: 31,
            ws_col: 99,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pair = openpty(Some(&size), None).expect("a terminal");
        let inner = || Stdio::from(pair.slave.try_clone().expect("one more descriptor"));
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
            .arg(bin("reconciler"))
            .args(["exec", "-it"])
            .args(arguments)
            .env("RECONCILER_SOCKET", world.socket())
            .env("TERM", "vt220")
            .stdin(inner())
            .stdout(inner())
            .stderr(inner())
            .spawn()
            .expect("start on a terminal");
        Self {
            outer: pair.master.into(),
            inner: pair.slave,
            child,
        }
    }

    fn type_in(&mut self, keys: &str) {
        self.outer.write_all(keys.as_bytes()).expect("type");
    }

    /// Reads until a text was shown.
    fn until(&mut self, wanted: &str) -> String {
        let mut shown = String::new();
        let mut bytes = [0; 4096];
        while !shown.contains(wanted) {
            // Ends by the program's end at the latest; nextest bounds the rest.
            let count = self.outer.read(&mut bytes).expect("read the terminal");
            shown.push_str(&text(&bytes[..count]));
        }
        shown
    }

    fn is_raw(&self) -> bool {
        let settings = tcgetattr(&self.inner).expect("settings of the terminal");
        !settings.local_flags.contains(LocalFlags::ICANON)
    }
}

#[test]
fn a_terminal_is_ones_own_and_given_back() {
    let world = started();
    let mut terminal = Terminal::new(&world, &["box/other", "--", "sh"]);
    terminal.type_in("echo $TERM-$(busybox stty size)-$(busybox tty)\r");
    terminal.until("vt220-31 99-/dev/pts/0");
    assert!(terminal.is_raw());
    // Keys are the command's: an interrupt ends what the shell runs, not the shell.
    terminal.type_in("sleep 6305\r");
    until("the sleep to run", SOON, || sleepers("6305") == 1);
    terminal.type_in("\u{3}");
    until("the sleep to be interrupted", SOON, || {
        sleepers("6305") == 0
    });
    // Another size reaches it.
    let outer = terminal.outer.try_clone().expect("one more descriptor");
    let status = Command::new("stty")
        .args(["rows", "20", "cols", "40"])
        .stdin(outer)
        .status();
    assert!(status.expect("run stty").success());
    eventually("the new size", SOON, || {
        terminal.type_in("busybox stty size; echo $((40+2))\r");
        let shown = terminal.until("42\r\n");
        shown.contains("20 40").then_some(()).ok_or(shown)
    });
    terminal.type_in("exit 5\r");
    let code = terminal.child.wait().expect("wait").code();
    assert_eq!(code, Some(5));
    assert!(!terminal.is_raw(), "the terminal was not given back");

    // Ended by a signal it gives the terminal back too, and the command goes.
    let mut terminal = Terminal::new(
        &world,
        &["box", "--", "sh", "-c", "echo up; exec sleep 6405"],
    );
    terminal.until("up");
    until("the client to listen", SOON, || terminal.is_raw());
    let setsid = terminal.child.id();
    let client = fs::read_to_string(format!("/proc/{setsid}/task/{setsid}/children"));
    let client = client
        .expect("children")
        .trim()
        .parse()
        .unwrap_or(setsid.cast_signed());
    kill(Pid::from_raw(client), Signal::SIGTERM).expect("end the client");
    terminal.child.wait().expect("wait");
    assert!(!terminal.is_raw(), "the terminal was not given back");
    until("the command to go", SOON, || sleepers("6405") == 0);
    world.finish();
}

#[test]
fn who_goes_hangs_up_and_signals_are_passed_on() {
    let world = started();
    let daemon = world.daemon_pid();
    let held = |pid: u32| {
        fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("list")
            .count()
    };
    let init = world.status("box")["pid"].as_u64().expect("a pid");
    let init = u32::try_from(init).expect("a pid");
    let before = (held(daemon), held(init));
    let start = |seconds: &str| {
        let script = format!("echo up; exec sleep {seconds}");
        let child = exec(&world, &["-i", "box", "--", "sh", "-c", &script]).spawn();
        let mut child = child.expect("start");
        let mut up = [0; 3];
        let output = child.stdout.as_mut().expect("piped");
        output.read_exact(&mut up).expect("it says that it is up");
        until("the command to run", SOON, || sleepers(seconds) == 1);
        child
    };
    let pid = |child: &Child| Pid::from_raw(child.id().cast_signed());
    // A signal for the client is one for the command.
    let mut child = start("6501");
    kill(pid(&child), Signal::SIGINT).expect("interrupt the client");
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    // A client that is killed.
    let mut child = start("6502");
    child.kill().expect("kill the client");
    child.wait().expect("reap");
    until("the command to go", SOON, || sleepers("6502") == 0);
    until("descriptors to be let go", SOON, || {
        (held(daemon), held(init)) == before
    });
    // The container ends, and its commands with it.
    let child = start("6504");
    world.remove("box.yaml");
    let output = child.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(137), "{}", text(&output.stderr));
    world.wait_gone("box");
    world.finish();
}

#[test]
fn a_killed_daemon_takes_commands_along_and_no_container() {
    let mut world = started();
    let mut child = exec(&world, &["-i", "box", "--", "sleep", "6503"])
        .spawn()
        .expect("start");
    until("the command to run", SOON, || sleepers("6503") == 1);
    let app = world.pid("box", "app");
    world.kill9();
    assert_eq!(child.wait().expect("wait").code(), Some(125));
    until("the command to go", SOON, || sleepers("6503") == 0);
    world.start();
    world.wait_phase("box", "Running");
    assert_eq!(world.pid("box", "app"), app);
    world.finish();
}

#[test]
fn a_hundred_at_once_are_no_more_than_a_hundred_ones() {
    let world = started();
    let mut children: Vec<Child> = (0..100)
        .map(|number: u32| {
            let script = format!("read line; echo $line; exit {number}");
            exec(&world, &["-i", "box", "--", "sh", "-c", &script])
                .spawn()
                .expect("start")
        })
        .collect();
    // All wait for a line: the daemon answers others meanwhile.
    let running = || {
        run(
            &world,
            &["box", "--", "sh", "-c", "ps | grep -c 'read line'"],
        )
    };
    eventually("a hundred to run", SOON, || {
        let count: usize = text(&running().stdout).trim().parse().unwrap_or(0);
        // The looker's own line among them.
        (count > 100).then_some(()).ok_or(count.to_string())
    });
    assert_eq!(world.wait_phase("box", "Running")["restarts"], 0);
    for (number, child) in children.iter_mut().enumerate() {
        let mut input = child.stdin.take().expect("piped");
        writeln!(input, "line {number}").expect("write");
    }
    for (number, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().expect("wait");
        assert_eq!(text(&output.stdout), format!("line {number}\n"));
        assert_eq!(output.status.code(), i32::try_from(number).ok());
    }
    world.finish();
}
