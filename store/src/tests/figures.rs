//! Figures for `docs/formats/store.md`, printed. They hold for the machine and the moment
//! they were taken on; the test fails only where a figure would mean a fault.

use std::path::Path;
use std::time::{Duration, Instant};

use super::workload;
use super::world::KINDS;
use crate::engine::EngineKind;
use crate::outcome::Health;
use crate::store::{Options, Store};

const SEED: u64 = 17;
const COMMITS: u64 = 300;

#[expect(
    clippy::disallowed_methods,
    reason = "this measures, and is its own shell"
)]
fn now() -> Instant {
    Instant::now()
}

/// Opens with the options as they are shipped.
fn open(directory: &Path, kind: EngineKind) -> Store {
    let (store, opened) = Store::open_with(&Options::new(directory), kind, 16 << 20).unwrap();
    assert_eq!(opened.health, Health::Sound);
    store
}

#[test]
fn commits_and_reopening_are_measured_side_by_side() {
    for most in [1_000, 8_000, 60_000] {
        for kind in KINDS {
            let room = tempfile::tempdir().unwrap();
            let store = open(room.path(), kind);
            let all: Vec<_> = (1..=COMMITS)
                .map(|number| workload::changes(SEED, number, most))
                .collect();
            let mut times = Vec::new();
            let begin = now();
            for changes in &all {
                let before = now();
                store.commit_durable(changes).unwrap();
                times.push(before.elapsed());
            }
            let whole = begin.elapsed();
            drop(store);
            let mut opens: Vec<Duration> = (0..5)
                .map(|_| {
                    let before = now();
                    drop(open(room.path(), kind));
                    before.elapsed()
                })
                .collect();
            times.sort();
            opens.sort();
            let rate = f64::from(u32::try_from(COMMITS).unwrap()) / whole.as_secs_f64();
            println!(
                "{kind:?}, texts up to {most} bytes: {rate:.0} commits/s, \
                 median {:.1?}, 99th of 100 {:.1?}, open and close {:.1?}",
                times[times.len() / 2],
                times[times.len() * 99 / 100],
                opens[opens.len() / 2],
            );
            assert!(
                whole < Duration::from_secs(120),
                "{COMMITS} commits took {whole:?}"
            );
        }
    }
}
