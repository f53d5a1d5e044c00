//! The writer killed, and the system calls it stands on failing once.

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::world::{self, Dice, Reaped, child, run};

const MOST: u64 = 2_000;
const STRACE: &str = "/usr/bin/strace";

fn verify(directory: &Path, seed: u64, acked: u64) -> String {
    let (seed, most, acked) = (seed.to_string(), MOST.to_string(), acked.to_string());
    let (_, said) = run(&mut child(&[
        "verify",
        directory.to_str().unwrap(),
        &seed,
        &most,
        &acked,
    ]));
    let verdict = said.lines().find(|line| line.starts_with("verdict"));
    verdict.map_or_else(|| said.clone(), ToOwned::to_owned)
}

fn acked(lines: &std::sync::mpsc::Receiver<String>, mut acked: u64) -> u64 {
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(60)) {
        acked = line
            .strip_prefix("ack ")
            .map_or(acked, |number| number.parse().unwrap());
    }
    acked
}

#[test]
fn nothing_acknowledged_is_lost_when_the_daemon_is_killed_again_and_again() {
    let mut dice = Dice::thrown("kills");
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("state");
    let seed = dice.next();
    let mut known = 0;
    for kill in 0..world::number("STORE_KILLS", 20) {
        let (seed, most) = (seed.to_string(), MOST.to_string());
        let words = [
            "write",
            directory.to_str().unwrap(),
            &seed,
            &most,
            &u64::MAX.to_string(),
        ];
        let mut writer = Reaped(child(&words).stdout(Stdio::piped()).spawn().unwrap());
        let lines = world::lines(&mut writer.0);
        // Also while it opens, mends and copies: the moment is what is drawn here.
        thread::sleep(Duration::from_micros(dice.below(300_000)));
        drop(writer);
        known = acked(&lines, known);
        if known > 0 {
            let verdict = verify(&directory, seed.parse().unwrap(), known);
            let revision = verdict.strip_prefix("verdict ok ");
            let revision = revision.unwrap_or_else(|| panic!("kill {kill}: {verdict}"));
            known = revision.parse().unwrap();
        }
    }
    assert!(known > 0, "it was always killed before its first commit");
    println!("{known} commits");
}

/// I-4: a write or a sync fails, once in each thread. The failed commit is not there, the
/// handle comes back by itself, and all that was acknowledged before and after is there.
#[test]
fn a_write_or_sync_that_fails_costs_nothing_that_was_acknowledged() {
    if !Path::new(STRACE).exists() {
        println!("SKIPPED failing syncs: there is no {STRACE}");
        return;
    }
    let mut failed = 0;
    for call in ["fsync", "fdatasync", "sync_file_range", "pwrite64"] {
        for when in 12..=16 {
            let room = tempfile::tempdir().unwrap();
            let directory = room.path().join("state");
            let writer = child(&["write", directory.to_str().unwrap(), "5", "2000", "40"]);
            let mut traced = Command::new(STRACE);
            traced
                .args(["-f", "-o", "/dev/null", "-e"])
                .arg(format!("inject={call}:error=EIO:when={when}"))
                .arg(writer.get_program())
                .args(writer.get_args())
                .envs(
                    writer
                        .get_envs()
                        .filter_map(|(name, value)| Some((name, value?))),
                );
            let (is_well, said) = run(&mut traced);
            assert!(is_well, "{call} {when}: {said}");
            failed += said
                .lines()
                .filter(|line| line.starts_with("failed "))
                .count();
            let verdict = verify(&directory, 5, 40);
            assert_eq!(verdict, "verdict ok 41", "{call} {when}: {said}");
        }
    }
    println!("{failed} commits failed, none that was acknowledged");
    assert!(failed > 0, "no injected error reached a commit");
}
