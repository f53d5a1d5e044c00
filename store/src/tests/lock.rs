//! One daemon at a time.

use std::fs;
use std::process::{Command, Stdio};

use super::world::{self, Reaped, child, open_sound, options};
use crate::engine::EngineKind;
use crate::outcome::OpenError;
use crate::store::Store;

#[test]
fn the_second_opener_is_refused_by_name_and_touches_nothing() {
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("state");
    let mut command = child(&["hold", directory.to_str().unwrap()]);
    let mut holder = Reaped(command.stdout(Stdio::piped()).spawn().unwrap());
    let lines = world::lines(&mut holder.0);
    world::await_line(&lines, "open");
    // What a daemon that starts would sweep away, or read.
    fs::write(directory.join("left.tmp"), "x").unwrap();
    fs::write(directory.join("sled/snap.0000000000000001.generating"), "x").unwrap();
    let before = snapshot(&directory);
    let Err(OpenError::Locked { pid, .. }) = Store::open(&options(&directory)) else {
        panic!("two have it");
    };
    assert_eq!(pid, Some(holder.0.id()));
    assert_eq!(snapshot(&directory), before);
    drop(holder);
    let mut tries = (0..1000).map(|_| Store::open(&options(&directory)));
    assert!(
        tries.any(|result| result.is_ok()),
        "a killed holder gives it back"
    );
}

fn snapshot(directory: &std::path::Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for path in [directory.to_owned(), directory.join("sled")] {
        for entry in fs::read_dir(path).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().into_owned();
            // sled's log grows by itself in the background of its holder.
            let size = if name == "db" {
                0
            } else {
                entry.metadata().unwrap().len()
            };
            found.push((name, size));
        }
    }
    found.sort();
    found
}

#[test]
fn the_lock_is_in_no_program_that_its_holder_starts() {
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("state");
    let store = open_sound(&directory, EngineKind::Sled);
    let _child = Reaped(Command::new("/bin/sleep").arg("600").spawn().unwrap());
    drop(store);
    let mut tries = (0..100).map(|_| Store::open(&options(&directory)));
    assert!(tries.next().unwrap().is_ok(), "the child has the lock");
}

#[test]
fn a_store_that_was_dropped_opens_again_at_once() {
    for kind in super::world::KINDS {
        let room = tempfile::tempdir().unwrap();
        for _ in 0..5 {
            drop(open_sound(room.path(), kind));
        }
    }
}
