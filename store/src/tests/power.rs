//! Power cuts: the store on a file system on an image, the writer killed at any moment, and
//! then nothing believed but what the image holds.
//!
//! A copy of the image right after the kill is what had been handed to the device: what only
//! sat in the page cache of that file system is not in it. The device itself is a kind one,
//! which keeps what it was given, in order.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::workload::place;
use super::world::{self, Dice, Mounted, Reaped, child, run};

const IMAGE_BYTES: u64 = 256 << 20;
/// Cuts on one store, each on what the last one left, before a new one is made.
const CHAIN: u64 = 4;

/// Which writer, and how large its values are.
#[derive(Clone, Copy, Debug)]
struct Trial {
    /// Through the facade, or the engine alone: there no other file's fsync helps.
    is_facade: bool,
    /// `own` or `shipped`.
    engine: &'static str,
    value_bytes_max: u64,
}

/// A room on disk with an empty file system to start from.
struct Bench {
    room: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let room = tempfile::tempdir().unwrap();
        let template = room.path().join("template");
        std::fs::File::create(&template)
            .unwrap()
            .set_len(IMAGE_BYTES)
            .unwrap();
        let mut tool = Command::new("/sbin/mkfs.ext4");
        let (is_well, said) = run(tool
            .args(["-q", "-F", "-E", "lazy_itable_init=0"])
            .arg(&template));
        assert!(is_well, "mkfs.ext4: {said}");
        Self { room }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// Cuts `cuts` times and returns what was lost.
    fn cut(&self, trial: Trial, cuts: u64, dice: &mut Dice) -> Vec<String> {
        let mut lost = Vec::new();
        let mut acks = 0;
        let (disk, cut) = (self.path("disk"), self.path("cut"));
        let mut seed = 0;
        for at in 0..cuts {
            if at % CHAIN == 0 || !lost.is_empty() {
                seed = dice.next();
                world::copy_sparse(&self.path("template"), &disk);
            }
            let acked = self.write_and_cut(trial, seed, dice, &disk, &cut);
            acks += acked.last + 1 - acked.first;
            let acked = acked.last;
            let verdict = self.verify(trial, seed, acked, &cut);
            if !verdict.starts_with("verdict ok") {
                lost.push(format!(
                    "cut {at}, seed {seed}, {acked} acknowledged: {verdict}"
                ));
            }
            std::fs::rename(&cut, &disk).unwrap();
        }
        println!(
            "{trial:?}: {cuts} cuts, {acks} acknowledged, {} lost",
            lost.len()
        );
        lost
    }

    /// Returns what was acknowledged; the cut image is what the device had then.
    fn write_and_cut(
        &self,
        trial: Trial,
        seed: u64,
        dice: &mut Dice,
        disk: &Path,
        cut: &Path,
    ) -> Acked {
        let mount = self.path("mount");
        let mounted = Mounted::image(disk, &mount);
        let (directory, seed) = (place(&mount), seed.to_string());
        let (directory, most) = (
            directory.to_str().unwrap(),
            trial.value_bytes_max.to_string(),
        );
        let forever = u64::MAX.to_string();
        let mut command = match trial.is_facade {
            true => child(&["write", directory, &seed, &most, &forever]),
            false => child(&["write-engine", directory, &seed, &most, trial.engine]),
        };
        let mut writer = Reaped(command.stdout(Stdio::piped()).spawn().unwrap());
        let lines = world::lines(&mut writer.0);
        let first = ack(&world::await_line(&lines, "ack ")).unwrap();
        let mut acked = first;
        // The moment itself is what is drawn here; nothing is waited for.
        thread::sleep(Duration::from_micros(dice.below(250_000)));
        let pid = Pid::from_child(&writer.0);
        if dice.below(2) == 0 {
            kill_process(pid, Signal::KILL).unwrap();
            writer.0.wait().unwrap();
            world::copy_sparse(disk, cut);
        } else {
            // Stopped, not ended: its files stay open, and nothing is written by closing them.
            kill_process(pid, Signal::STOP).unwrap();
            await_stop(pid);
            world::copy_sparse(disk, cut);
        }
        drop(writer);
        // Ends when the pipe is empty and its last writer is gone.
        while let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) {
            acked = ack(&line).unwrap_or(acked);
        }
        drop(mounted);
        Acked { first, last: acked }
    }

    fn verify(&self, trial: Trial, seed: u64, acked: u64, image: &Path) -> String {
        let mount = self.path("mount");
        let _mounted = Mounted::image(image, &mount);
        let directory = place(&mount);
        let what = if trial.is_facade {
            "verify"
        } else {
            "verify-engine"
        };
        let (seed, most) = (seed.to_string(), trial.value_bytes_max.to_string());
        let words = [
            what,
            directory.to_str().unwrap(),
            &seed,
            &most,
            &acked.to_string(),
        ];
        let (_, said) = run(&mut child(&words));
        let verdict = said.lines().find(|line| line.starts_with("verdict"));
        verdict.map_or_else(|| said.clone(), ToOwned::to_owned)
    }
}

/// The first and the last number a writer has acknowledged.
struct Acked {
    first: u64,
    last: u64,
}

fn ack(line: &str) -> Option<u64> {
    line.strip_prefix("ack ")?.parse().ok()
}

/// Waits until every thread of the process stands still (`proc_pid_stat(5)`: `T`).
fn await_stop(pid: Pid) {
    let tasks = format!("/proc/{}/task", pid.as_raw_nonzero());
    for _ in 0..10_000 {
        let all = std::fs::read_dir(&tasks).unwrap().all(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat"));
            stat.is_ok_and(|stat| {
                stat.rsplit(')')
                    .next()
                    .is_some_and(|rest| rest.starts_with(" T"))
            })
        });
        if all {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
    panic!("the writer did not stop within 10 s");
}

const SMALL: u64 = 1_000;
const LARGE: u64 = 60_000;

#[test]
fn nothing_acknowledged_is_lost_in_a_power_cut() {
    const WHAT: &str = "power cuts";
    if !world::has_loops(WHAT) || !world::has_own_mounts(WHAT) {
        return;
    }
    let mut dice = Dice::thrown(WHAT);
    let cuts = world::number("STORE_CUTS", 20).div_ceil(4);
    let bench = Bench::new();
    let mut lost = Vec::new();
    for is_facade in [true, false] {
        for value_bytes_max in [SMALL, LARGE] {
            let engine = "own";
            let trial = Trial {
                is_facade,
                engine,
                value_bytes_max,
            };
            lost.extend(bench.cut(trial, cuts, &mut dice));
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
}

/// The negative control: without the own fsync the same harness must see losses, or it could
/// not see them above either.
#[test]
fn sled_as_shipped_loses_what_it_acknowledged() {
    const WHAT: &str = "power cuts without the own fsync";
    if !world::has_loops(WHAT) || !world::has_own_mounts(WHAT) {
        return;
    }
    let mut dice = Dice::thrown(WHAT);
    let bench = Bench::new();
    let trial = Trial {
        is_facade: false,
        engine: "shipped",
        value_bytes_max: SMALL,
    };
    for cut in 1..=40 {
        let lost = bench.cut(trial, 1, &mut dice);
        if !lost.is_empty() {
            println!("lost at cut {cut}: {lost:?}");
            return;
        }
    }
    panic!("40 cuts lost nothing, so the harness sees nothing");
}
