//! What the program tells of itself, as its readers take it: real shells, with a person's keys
//! where that can be had, and real readers of manual pages.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use axum::routing::get;
use axum::{Json, Router};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::daemon::{Daemon, PATIENCE, Ran, list, reconciler, view};
use crate::terminal::terminal;

/// Whether a program is there; says what is not shown where it is not.
fn is_there(program: &str) -> bool {
    let found = ["/bin", "/usr/bin"]
        .iter()
        .any(|place| Path::new(place).join(program).exists());
    if !found {
        eprintln!("skipped: {program} is not installed here");
    }
    found
}

fn script(shell: &str) -> String {
    Ran::from(&reconciler(&["completion", shell]).output().unwrap()).good()
}

fn containers() -> Daemon {
    let mut shop = view("shop", "Running", true);
    let mut second = shop["status"]["processes"][0].clone();
    second["name"] = "second".into();
    shop["status"]["processes"]
        .as_array_mut()
        .unwrap()
        .push(second);
    let all = list(&[
        view("web-frontend", "Running", true),
        shop,
        view("worker", "Failed", true),
    ]);
    Daemon::start(Router::new().route("/containers", get(|| async { Json(all) })))
}

/// A shell that finds the program, the script in `script`, and nothing of the tester's.
fn shell(daemon: &Daemon, kind: &str, args: &[&str]) -> Command {
    let home = daemon.directory.path();
    fs::write(home.join("script"), script(kind)).unwrap();
    fs::write(home.join("a-file"), "").unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_reconciler"))
        .parent()
        .unwrap();
    let mut command = Command::new(kind);
    command
        .args(args)
        .env_clear()
        .env("PATH", format!("{}:/usr/bin:/bin", program.display()))
        .env("HOME", home)
        .env("TERM", "dumb")
        .env("PS1", "$ ")
        .env("RECONCILER_SOCKET", daemon.socket())
        .current_dir(home);
    command
}

/// A person at a shell.
struct Person {
    hand: File,
    seen: String,
}

impl Person {
    fn types(&mut self, keys: &str) {
        self.hand.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads on until the text that was not looked at yet holds what is looked for.
    #[track_caller]
    fn sees(&mut self, wanted: &str) {
        let begin = Instant::now();
        loop {
            if let Some(at) = self.seen.find(wanted) {
                self.seen.drain(..at + wanted.len());
                return;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "no {wanted:?} in {:?}",
                self.seen
            );
            let second = Timespec {
                tv_sec: 1,
                tv_nsec: 0,
            };
            let mut fds = [PollFd::new(&self.hand, PollFlags::IN)];
            if poll(&mut fds, Some(&second)).unwrap() > 0 {
                let mut buffer = [0; 4096];
                // `pty(7)`: EIO once the shell has ended.
                let count = self.hand.read(&mut buffer).unwrap_or(0);
                assert!(count > 0, "ended without {wanted:?}: {:?}", self.seen);
                self.seen
                    .push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        }
    }
}

/// Types into a shell at a terminal of its own; ends it.
fn at_shell(mut shell: Command, act: impl FnOnce(&mut Person)) {
    let (ours, theirs) = terminal();
    let theirs = || theirs.as_fd().try_clone_to_owned().unwrap();
    let mut child = shell
        .stdin(theirs())
        .stdout(theirs())
        .stderr(theirs())
        .spawn()
        .unwrap();
    let mut person = Person {
        hand: ours.into(),
        seen: String::new(),
    };
    act(&mut person);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn bash_completes_commands_options_and_names_at_the_key() {
    assert!(is_there("bash"), "bash is part of every Debian");
    let daemon = containers();
    let checked = Command::new("bash")
        .args(["-n", "-c", &script("bash")])
        .output()
        .unwrap();
    assert!(
        checked.status.success() && checked.stderr.is_empty(),
        "{checked:?}"
    );
    at_shell(
        shell(&daemon, "bash", &["--norc", "--noprofile", "-i"]),
        |person| {
            person.sees("$ ");
            person.types("source ./script; echo rea''dy\n");
            person.sees("ready");
            person.types("reconciler descr\t");
            person.sees("ibe ");
            person.types("web\t");
            person.sees("-frontend");
            person.types(" --out\t");
            person.sees("put");
            person.types(" ya\t");
            person.sees("ml");
            // Two begin with it: both are shown.
            person.types("\u{15}reconciler stop w\t\t");
            person.sees("web-frontend");
            person.sees("worker");
            person.types("\u{15}reconciler logs shop/s\t");
            person.sees("econd");
            person.types("\u{15}reconciler explain limits.memo\t");
            person.sees("ry");
            person.types("\u{15}reconciler validate a-f\t");
            person.sees("ile");
        },
    );
}

#[test]
fn zsh_completes_names_at_the_key_from_its_first_use() {
    if !is_there("zsh") {
        return;
    }
    let daemon = containers();
    let mut loads = shell(&daemon, "zsh", &["-f", "-i"]);
    let functions = daemon.directory.path().join("functions");
    fs::create_dir(&functions).unwrap();
    fs::rename(
        daemon.directory.path().join("script"),
        functions.join("_reconciler"),
    )
    .unwrap();
    // Without an editor that draws a prompt anew, a dumb terminal shows what a person sees.
    loads.env("PROMPT", "$ ");
    at_shell(loads, |person| {
        person.sees("$ ");
        person.types(
            "fpath=(./functions $fpath); autoload -U compinit; compinit -u -D; echo rea''dy\n",
        );
        person.sees("ready");
        person.types("reconciler describe web\t");
        person.sees("-frontend");
    });
}

#[test]
fn fish_completes_names() {
    if !is_there("fish") {
        return;
    }
    let daemon = containers();
    let asks = "source ./script; complete -C 'reconciler describe w'; complete -C 'reconciler ver'";
    let ran = Ran::from(
        &shell(&daemon, "fish", &["--no-config", "-c", asks])
            .output()
            .unwrap(),
    );
    let words: Vec<String> = ran.good().lines().map(|l| l.replace('\t', " ")).collect();
    let version = "version Print the version of this command and of the daemon";
    assert_eq!(words, ["web-frontend Running", "worker Failed", version]);
}

#[test]
fn without_a_daemon_names_are_none_and_nothing_waits() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("sock");
    // Somebody listens and never answers.
    let _deaf = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let asked = |socket: &Path, word: &str| {
        let mut command = reconciler(&["--", "reconciler", "describe", word]);
        command
            .env("RECONCILER_COMPLETE", "bash")
            .env("_CLAP_COMPLETE_INDEX", "2");
        command.env("RECONCILER_SOCKET", socket);
        Ran::from(&command.output().unwrap()).good()
    };
    let begin = Instant::now();
    assert_eq!(asked(&socket, "w"), "");
    assert!(
        begin.elapsed() < Duration::from_secs(10),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(asked(Path::new("/nonexistent/sock"), "w"), "");
    assert!(asked(Path::new("/nonexistent/sock"), "--out").contains("--output"));
}

#[test]
fn a_shell_that_is_not_known_is_a_wrong_call() {
    let mut command = reconciler(&["--", "reconciler", ""]);
    let ran = Ran::from(&command.env("RECONCILER_COMPLETE", "tcsh").output().unwrap());
    let error = ran.bad(64);
    assert!(error.contains("unknown shell `tcsh`"), "{error}");
}

/// Writes all pages; returns their folder.
fn pages() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("man1");
    let written = Ran::from(
        &reconciler(&["man", inside.to_str().unwrap()])
            .output()
            .unwrap(),
    );
    let told: Vec<String> = written.good().lines().map(str::to_owned).collect();
    let mut there: Vec<String> = fs::read_dir(&inside)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect();
    there.sort();
    let mut sorted = told.clone();
    sorted.sort();
    assert_eq!(sorted, there);
    assert!(told.len() > 20, "{told:?}");
    directory
}

#[test]
fn each_manual_page_passes_its_readers_without_a_warning() {
    let directory = pages();
    let readers: [(&str, &[&str]); 2] = [
        ("man", &["--warnings", "-l"]),
        ("mandoc", &["-T", "lint", "-W", "error"]),
    ];
    for (reader, arguments) in readers {
        if !is_there(reader) {
            continue;
        }
        for page in fs::read_dir(directory.path().join("man1")).unwrap() {
            let page = page.unwrap().path();
            let read = Command::new(reader)
                .args(arguments)
                .arg(&page)
                .env("LC_ALL", "C.UTF-8")
                .stdin(Stdio::null())
                .output()
                .unwrap();
            let complaint = String::from_utf8_lossy(&read.stderr);
            assert!(
                read.status.success() && complaint.is_empty(),
                "{page:?}: {read:?}"
            );
        }
    }
}

#[test]
fn a_page_has_what_help_has() {
    let directory = pages();
    let read = |name: &str| {
        fs::read_to_string(directory.path().join("man1").join(name))
            .unwrap()
            .replace('\\', "")
    };
    let status = read("reconciler-status.1");
    for wanted in [
        "SH NAME\nreconciler-status",
        ".SH SYNOPSIS",
        "--selector",
        ".SH EXAMPLES",
        "reconciler status -l app=shop -w",
        ".SH \"EXIT STATUS\"",
    ] {
        assert!(status.contains(wanted), "{wanted}: {status}");
    }
    let whole = Ran::from(&reconciler(&["man"]).output().unwrap()).good();
    assert_eq!(whole.replace('\\', ""), read("reconciler.1"));
    for page in fs::read_dir(directory.path().join("man1")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".1").unwrap();
        // Those of `store` are named on its own page.
        if name != "reconciler" && name.matches('-').count() == 1 {
            assert!(
                whole.replace('\\', "").contains(name),
                "{name} is not named: {whole}"
            );
        }
    }
}

#[test]
fn a_directory_that_cannot_be_written_is_1_and_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "mine").unwrap();
    let ran = Ran::from(
        &reconciler(&["man", file.to_str().unwrap()])
            .output()
            .unwrap(),
    );
    let error = ran.bad(1);
    assert!(
        error.contains(&format!("cannot write {}", file.display())),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
}
