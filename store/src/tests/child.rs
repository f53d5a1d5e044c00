//! What this binary does when a test starts it again.

use std::path::Path;
use std::thread;
use std::time::Duration;

use super::model::dump;
use super::{full, workload, world};
use crate::engine::EngineKind;
use crate::image::Image;
use crate::outcome::{CommitError, Health};
use crate::store::Store;

/// The way in for children; in a run of its own it has nothing to do.
#[test]
fn entry() {
    let Some(words) = world::setting("STORE_CHILD") else {
        return;
    };
    // The harness has begun a line of its own.
    println!();
    let words: Vec<&str> = words.lines().collect();
    let number = |at: usize| words[at].parse::<u64>().unwrap();
    match words[0] {
        "write" => write(Path::new(words[1]), number(2), number(3), number(4)),
        "write-engine" => {
            write_engine(Path::new(words[1]), number(2), number(3), kind(words[4]));
        }
        "verify" => println!(
            "{}",
            verify(Path::new(words[1]), number(2), number(3), number(4))
        ),
        "verify-engine" => {
            let found = verify_engine(Path::new(words[1]), number(2), number(3), number(4));
            println!("{found}");
        }
        "hold" => hold(Path::new(words[1])),
        "full" => full::on_a_small_disk(Path::new(words[1]), words[2]),
        other => panic!("no such child: {other}"),
    }
}

fn kind(word: &str) -> EngineKind {
    match word {
        "own" => EngineKind::Sled,
        "shipped" => EngineKind::SledUnsynced,
        other => panic!("no such engine: {other}"),
    }
}

/// Commits up to `count` and says so after each; goes on after what a commit may answer.
fn write(directory: &Path, seed: u64, most: u64, count: u64) {
    let (store, opened) = world::open(directory, EngineKind::Sled);
    assert_eq!(opened.health, Health::Sound);
    println!("open");
    let mut number = store.condition().revision;
    let mut failed = 0;
    while number < count {
        match store.commit_durable(&workload::changes(seed, number + 1, most)) {
            Ok(committed) => {
                number += 1;
                assert_eq!(committed.revision, number);
                println!("ack {number}");
            }
            Err(CommitError::Engine(error)) => {
                println!("failed {}: {error}", number + 1);
                failed += 1;
                assert!(failed < 30, "it does not come back");
            }
            Err(other) => panic!("commit {}: {other}", number + 1),
        }
    }
}

fn write_engine(directory: &Path, seed: u64, most: u64, kind: EngineKind) {
    let engine = kind.open(directory, 60).unwrap();
    println!("open");
    let mut number = workload::reached(&Image::of(engine.as_ref()).unwrap()).unwrap();
    loop {
        number += 1;
        engine.apply(&workload::ops(seed, number, most)).unwrap();
        engine.make_durable().unwrap();
        println!("ack {number}");
    }
}

/// Opens and compares with what must be there when `acked` commits were acknowledged.
fn verify(directory: &Path, seed: u64, most: u64, acked: u64) -> String {
    let opened = Store::open_with(&world::options(directory), EngineKind::Sled, 16 << 20);
    let (store, opened) = match opened {
        Ok(both) => both,
        Err(error) => return format!("verdict LOST it does not open: {error:?}"),
    };
    let revision = store.condition().revision;
    if opened.health != Health::Sound {
        return format!("verdict LOST {opened:?}");
    }
    if revision != acked && revision != acked + 1 {
        return format!("verdict LOST revision {revision} of {acked}");
    }
    let model = workload::model(seed, revision, most);
    if let Some(difference) = dump(&store).difference(&model.dump()) {
        return format!("verdict LOST at revision {revision}: {difference}");
    }
    // And it goes on.
    let changes = workload::changes(seed, revision + 1, most);
    match store.commit_durable(&changes) {
        Ok(committed) => format!("verdict ok {}", committed.revision),
        Err(error) => format!("verdict LOST commits fail: {error:?}"),
    }
}

fn verify_engine(directory: &Path, seed: u64, most: u64, acked: u64) -> String {
    let opened = EngineKind::Sled.open(directory, 60);
    let image = match opened.and_then(|engine| Image::of(engine.as_ref())) {
        Ok(image) => image,
        Err(error) => return format!("verdict LOST it cannot be read: {error:?}"),
    };
    let Some(reached) = workload::reached(&image) else {
        return "verdict LOST the number is damaged".to_owned();
    };
    if reached != acked && reached != acked + 1 {
        return format!("verdict LOST {reached} of {acked}");
    }
    if image != workload::image(seed, reached, most) {
        return format!("verdict LOST other contents at {reached}");
    }
    format!("verdict ok {reached}")
}

/// Holds the store until it is killed.
fn hold(directory: &Path) {
    let _store = world::open_sound(directory, EngineKind::Sled);
    println!("open");
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}
