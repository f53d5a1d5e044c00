//! What the tests stand on: seeds, children, file systems of their own.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::engine::EngineKind;
use crate::outcome::{Health, Opened};
use crate::store::{Options, Store};

/// Both engines.
pub(super) const KINDS: [EngineKind; 2] = [EngineKind::Sled, EngineKind::Redb];

/// Reads the environment; the tests are a shell of their own.
#[expect(
    clippy::disallowed_methods,
    reason = "tests take their measure from the environment"
)]
pub(super) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// Returns a number from the environment.
pub(super) fn number(name: &str, default: u64) -> u64 {
    setting(name).map_or(default, |text| text.parse().unwrap())
}

/// A small generator (splitmix64), enough to choose moments and places.
#[derive(Clone, Debug)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// Returns dice with a seed from `STORE_SEED` or drawn, and prints it.
    pub(super) fn thrown(what: &str) -> Self {
        let seed = number("STORE_SEED", {
            let mut bytes = [0; 8];
            File::open("/dev/urandom")
                .unwrap()
                .read_exact(&mut bytes)
                .unwrap();
            u64::from_le_bytes(bytes) >> 16
        });
        println!("{what}: STORE_SEED={seed}");
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// Options without ballast and with a new copy every now and then, in `directory`.
pub(super) fn options(directory: &Path) -> Options {
    Options {
        ballast_bytes: 0,
        deadline_seconds: 20,
        export_every: 16,
        ..Options::new(directory)
    }
}

/// Opens; the reserve is the shipped one.
pub(super) fn open(directory: &Path, kind: EngineKind) -> (Store, Opened) {
    Store::open_with(&options(directory), kind, 16 << 20).unwrap()
}

/// Opens what must be well.
pub(super) fn open_sound(directory: &Path, kind: EngineKind) -> Store {
    let (store, opened) = open(directory, kind);
    assert_eq!(opened.health, Health::Sound);
    store
}

/// Starts this binary again at [`super::child::entry`].
pub(super) fn child(words: &[&str]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args([
            "--exact",
            "tests::child::entry",
            "--nocapture",
            "--test-threads=1",
        ])
        .env("STORE_CHILD", words.join("\n"))
        .stdin(Stdio::null());
    command
}

/// Runs a child to its end and returns whether it was well, and all it said.
pub(super) fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

/// Kills and reaps a child whatever happens.
#[derive(Debug)]
pub(super) struct Reaped(pub(super) Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Returns what a child says, line by line, as it says it.
pub(super) fn lines(child: &mut Child) -> Receiver<String> {
    let (to, from) = mpsc::channel();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if to.send(line).is_err() {
                break;
            }
        }
    });
    from
}

/// Waits until a child says a line that begins so, and returns it.
pub(super) fn await_line(lines: &Receiver<String>, begin: &str) -> String {
    loop {
        let line = lines.recv_timeout(Duration::from_secs(60)).unwrap();
        if line.starts_with(begin) {
            return line;
        }
    }
}

/// Gives this thread, and the children it starts, mounts of their own: they go with the last
/// of them, however that ends, and so do the loop devices below them. Prints why not.
pub(super) fn has_own_mounts(what: &str) -> bool {
    let own = unshare(CloneFlags::CLONE_NEWNS).and_then(|()| {
        let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
    });
    if let Err(errno) = own {
        println!("SKIPPED {what}: no mounts of its own: {errno}");
    }
    own.is_ok()
}

/// Returns whether loop devices and ext4 are to be had. Prints why not.
pub(super) fn has_loops(what: &str) -> bool {
    let missing: Vec<&str> = ["/dev/loop-control", "/sbin/mkfs.ext4", "/bin/mount"]
        .into_iter()
        .filter(|path| !Path::new(path).exists())
        .collect();
    if !missing.is_empty() {
        println!("SKIPPED {what}: there is no {}", missing.join(", no "));
    }
    missing.is_empty()
}

/// A mount that goes with its owner.
#[derive(Debug)]
pub(super) struct Mounted(PathBuf);

impl Mounted {
    /// Mounts an ext4 image whose journal is committed by fsync only.
    pub(super) fn image(image: &Path, at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let mut tool = Command::new("/bin/mount");
        tool.args(["-t", "ext4", "-o", "loop,commit=600"])
            .arg(image)
            .arg(at);
        let (is_well, said) = run(&mut tool);
        assert!(is_well, "mount: {said}");
        Self(at.to_owned())
    }

    /// Mounts memory of `bytes`.
    pub(super) fn memory(bytes: u64, at: &Path) -> Self {
        std::fs::create_dir_all(at).unwrap();
        let size = format!("size={bytes}");
        let flags = MsFlags::empty();
        mount(Some("tmpfs"), at, Some("tmpfs"), flags, Some(size.as_str())).unwrap();
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Detached: whatever still has a file open there keeps it only for as long.
        if let Err(errno) = umount2(&self.0, MntFlags::MNT_DETACH) {
            println!("{} stays mounted: {errno}", self.0.display());
        }
    }
}

/// Copies a sparse file.
pub(super) fn copy_sparse(from: &Path, to: &Path) {
    let mut tool = Command::new("/bin/cp");
    tool.arg("--sparse=always").arg(from).arg(to);
    let (is_well, said) = run(&mut tool);
    assert!(is_well, "cp: {said}");
}

/// Copies a directory with all in it.
pub(super) fn copy_tree(from: &Path, to: &Path) {
    let mut tool = Command::new("/bin/cp");
    tool.args(["-a", "--sparse=always"]).arg(from).arg(to);
    let (is_well, said) = run(&mut tool);
    assert!(is_well, "cp: {said}");
}
