//! People who take part in processes, on the shipped programs and the real kernel.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tests::eventually::{eventually, until};
use tests::host::kill;
use tests::world::{SOON, World, bin};

const GAME: &str = r#"apiVersion: reconciler/v1
kind: Container
metadata: {name: game}
spec:
  rootfs: {directory: /srv/rootfs/busybox}
  processes:
    - name: server
      stdin: open
      restart: {policy: never}
      command:
        - /bin/sh
        - -c
        - |
          echo up
          while read word; do
            echo "$word to you"; echo "heard $word" >&2
            case $word in
              ask) printf 'who? '; read name; echo "you are $name";;
              much) seq 1 300000;;
              bye) exit 7;;
            esac
          done
          echo "nothing more is read"
    - name: other
      command: [/bin/sleep, "100000"]
"#;

fn started(spec: &str) -> World {
    let mut world = World::new();
    world.start();
    world.write("game.yaml", spec);
    world.wait_phase("game", "Running");
    world
}

fn client(world: &World, arguments: &[&str]) -> Command {
    let mut command = Command::new(bin("reconciler"));
    command
        .arg("attach")
        .args(arguments)
        .env("RECONCILER_SOCKET", world.socket())
        .env("NO_COLOR", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Somebody who takes part and reads all the time.
struct Reader {
    child: Child,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Reader {
    fn new(world: &World, arguments: &[&str]) -> Self {
        let mut child = client(world, arguments).spawn().expect("start");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let mut output = child.stdout.take().expect("piped");
        let into = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count) = output.read(&mut bytes) {
                if count == 0 {
                    return;
                }
                let read = bytes.get(..count).unwrap_or_default();
                into.lock().expect("not poisoned").extend_from_slice(read);
            }
        });
        Self { child, seen }
    }

    fn text(&self) -> String {
        let seen = self.seen.lock().expect("not poisoned");
        String::from_utf8_lossy(&seen).into_owned()
    }

    fn until(&self, wanted: &str) {
        eventually(&format!("{wanted:?} to come"), SOON, || {
            let text = self.text();
            text.contains(wanted).then_some(()).ok_or(text)
        });
    }

    fn say(&mut self, text: &str) {
        let input = self.child.stdin.as_mut().expect("piped");
        input.write_all(text.as_bytes()).expect("write");
    }

    fn end(self) -> Output {
        self.child.wait_with_output().expect("wait")
    }
}

fn life(world: &World) -> PathBuf {
    let lives = fs::read_dir(world.path("run").join(world.instance())).expect("list lives");
    let mut lives = lives.flatten().map(|entry| entry.path());
    let own = |path: &PathBuf| {
        path.file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with("game."))
    };
    lives.find(own).expect("a life")
}

fn shim(world: &World) -> u64 {
    let text = fs::read_to_string(life(world).join("shim.id")).expect("read an id");
    let pid = text.split_whitespace().next().expect("a pid");
    pid.parse().expect("a number")
}

#[test]
fn what_is_typed_reaches_a_process_and_what_it_writes_everybody() {
    let mut world = started(GAME);
    let pid = world.pid("game", "server").expect("a pid");
    let other = world.pid("game", "other");
    let mut first = Reader::new(&world, &["-i", "--tail", "9", "game/server"]);
    first.until("up\n");
    let silent = Reader::new(&world, &["--tail", "9", "game/server"]);
    silent.until("up\n");
    first.say("hello\n");
    first.until("hello to you\n");
    silent.until("hello to you\n");
    // A line that is not finished is seen, and two may type.
    let mut second = Reader::new(&world, &["-i", "--tail", "1", "game/server"]);
    second.say("ask\n");
    first.until("who? ");
    first.say("me\n");
    second.until("you are me\n");
    assert!(!second.text().contains("up\n"), "{}", second.text());
    // Who goes leaves the process as it is, also by the end of what he types.
    drop(second.child.stdin.take());
    second.child.kill().expect("kill the client");
    second.child.wait().expect("reap");
    // A supervisor and a daemon that are killed cost those who take part, and no process.
    kill(shim(&world));
    assert_eq!(first.end().status.code(), Some(137));
    assert_eq!(silent.end().status.code(), Some(137));
    let mut third = eventually("a new supervisor", SOON, || {
        let mut third = Reader::new(&world, &["-i", "game/server"]);
        third.say("again\n");
        let mut told = Err(String::new());
        for _ in 0..50 {
            std::thread::sleep(Duration::from_millis(20));
            told = Err(third.text());
            if third.text().contains("again to you\n") {
                return Ok(third);
            }
        }
        third.child.kill().expect("kill the client");
        third.child.wait().expect("reap");
        told
    });
    world.kill9();
    assert_eq!(third.child.wait().expect("wait").code(), Some(125));
    world.start();
    world.wait_phase("game", "Running");
    assert_eq!(world.pid("game", "server"), Some(pid));
    // Its end is told with its last words, to all.
    let mut last = Reader::new(&world, &["-i", "game/server"]);
    let silent = Reader::new(&world, &["--tail", "9", "game/server"]);
    silent.until("again to you\n");
    last.say("bye\n");
    let (last_text, silent_text) = (Arc::clone(&last.seen), Arc::clone(&silent.seen));
    assert_eq!(last.end().status.code(), Some(7));
    let output = silent.end();
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stderr).contains("heard bye\n"));
    for text in [last_text, silent_text] {
        until("the last words", SOON, || {
            let text = text.lock().expect("not poisoned");
            text.ends_with(b"bye to you\n")
        });
    }
    let output = world.cli(&["attach", "game/server"]);
    assert_eq!(output.status.code(), Some(125), "it does not run");
    assert_eq!(world.pid("game", "other"), other);
    world.finish();
}

#[test]
fn who_reads_slowly_stalls_nobody_and_misses_nothing_unsaid() {
    let world = started(GAME);
    let mut typist = Reader::new(&world, &["-i", "game/server"]);
    let slow = |world: &World| client(world, &["game/server"]).spawn().expect("start");
    let mut reader = slow(&world);
    // Both take part once an answer came.
    typist.say("one\n");
    typist.until("one to you\n");
    std::thread::sleep(Duration::from_millis(300));
    typist.say("much\n");
    typist.until("300000\n");
    typist.say("bye\n");
    assert_eq!(typist.end().status.code(), Some(7));
    // Only now does he read, all of it.
    let mut text = String::new();
    reader
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut text)
        .expect("read");
    assert_eq!(reader.wait().expect("wait").code(), Some(7));
    let numbers: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert_eq!(numbers.len(), 300_000, "lines of {}", text.len());
    assert!(
        numbers
            .iter()
            .zip(1..)
            .all(|(number, wanted)| *number == wanted)
    );
    // Where rotation removed what he did not read, that is said.
    let few = "      logs: {maxBytes: 64Ki, maxFiles: 2}\n      command:\n        - /bin/sh";
    let spec = GAME.replacen("      command:\n        - /bin/sh", few, 1);
    world.write("game.yaml", &spec);
    until("the process to run again", SOON, || {
        world.pid("game", "server").is_some()
    });
    let mut typist = Reader::new(&world, &["-i", "--tail", "1", "game/server"]);
    let mut reader = slow(&world);
    typist.until("up\n");
    std::thread::sleep(Duration::from_millis(300));
    typist.say("much\nbye\n");
    assert_eq!(typist.end().status.code(), Some(7));
    text.clear();
    reader
        .stdout
        .take()
        .expect("piped")
        .read_to_string(&mut text)
        .expect("read");
    let output = reader.wait_with_output().expect("wait");
    assert_eq!(output.status.code(), Some(7));
    assert!(String::from_utf8_lossy(&output.stderr).contains("output is missing here"));
    assert!(text.ends_with("bye to you\n"), "{}", text.len());
    world.finish();
}

#[test]
fn who_cannot_take_part_is_told_why() {
    let world = started(GAME);
    let refused = |arguments: &[&str], code: i32, why: &str| {
        let output = world.cli(&[&["attach"], arguments].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(why), "{told}");
    };
    refused(&["game"], 126, "other, server");
    refused(&["-i", "game/other"], 126, "stdin: open");
    refused(&["game/none"], 125, "no process none");
    refused(&["none"], 125, "none");
    // What a process reads is its own business: only that one begins anew.
    let (server, other) = (world.pid("game", "server"), world.pid("game", "other"));
    let spec = GAME.replace(
        "    - name: other\n",
        "    - name: other\n      stdin: open\n",
    );
    world.write("game.yaml", &spec);
    until("the other to begin anew", SOON, || {
        let now = world.pid("game", "other");
        now.is_some() && now != other
    });
    assert_eq!(world.pid("game", "server"), server);
    assert!(
        fs::read_link(format!(
            "/proc/{}/fd/0",
            world.pid("game", "other").expect("a pid")
        ))
        .expect("read a link")
        .to_string_lossy()
        .starts_with("pipe:")
    );
    world.finish();
}
