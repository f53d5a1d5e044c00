//! Full disks: a commit fails as a whole, reads go on, and so do commits when there is room.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use super::model::{Model, assert_same};
use super::workload;
use super::world::{self, Mounted, child, run};
use crate::engine::EngineKind;
use crate::outcome::{CommitError, Health, Opened};
use crate::store::{Options, Store};

const SEED: u64 = 3;
const MOST: u64 = 2_000;
const DISK_BYTES: u64 = 128 << 20;

/// Takes all the room there is.
fn fill(mount: &Path) {
    let mut filler = File::options()
        .create(true)
        .append(true)
        .open(mount.join("filler"))
        .unwrap();
    for size in [1 << 20, 4096, 1] {
        while filler.write_all(&vec![1; size]).is_ok() {}
    }
}

fn give_room(mount: &Path) {
    fs::remove_file(mount.join("filler")).unwrap();
}

fn open(directory: &Path, reserve_bytes: u64) -> (Store, Opened) {
    let options = Options {
        ballast_bytes: 32 << 20,
        ..Options::new(directory)
    };
    Store::open_with(&options, EngineKind::Sled, reserve_bytes).unwrap()
}

/// Commits the next of the workload where it must succeed.
fn commit(store: &Store, model: &mut Model) {
    let changes = workload::changes(SEED, model.revision + 1, MOST);
    store.commit_durable(&changes).unwrap();
    assert!(model.commit(&changes));
}

/// Fills the disk under an open store and looks what becomes of it. With `guard` the store
/// looks for room before it writes; `blind` lets the engine itself run into the wall.
pub(super) fn on_a_small_disk(mount: &Path, how: &str) {
    let reserve_bytes = if how == "guard" { 16 << 20 } else { 0 };
    let directory = mount.join("state");
    let (store, opened) = open(&directory, reserve_bytes);
    assert!(opened.fresh && store.condition().has_ballast);
    let mut model = Model::default();
    for _ in 0..40 {
        commit(&store, &mut model);
    }
    fill(mount);
    for _ in 0..3 {
        // Some still fit into what the engine has; in the end none does.
        let mut refused = None;
        for _ in 0..20_000 {
            let changes = workload::changes(SEED, model.revision + 1, MOST);
            match store.commit_durable(&changes) {
                Ok(_) => assert!(model.commit(&changes)),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
            fill(mount);
        }
        let refused = refused.expect("no commit failed on a full disk");
        assert!(matches!(refused, CommitError::Full { .. }), "{refused:?}");
        assert_same(&store, &model, "reads go on, and nothing of it is there");
        fill(mount);
    }
    println!(
        "refused from revision {}, {:?}",
        model.revision,
        store.condition()
    );
    drop(store);
    fill(mount);
    let (store, opened) = open(&directory, reserve_bytes);
    println!("opened again on a full disk: {opened:?}");
    if how == "guard" {
        assert_eq!(opened.health, Health::Sound);
        assert_same(&store, &model, "it can be read from a full disk");
    } else {
        // Neither tail nor witness had room for the last ones, and the engine cannot open.
        assert!(matches!(opened.health, Health::Suspect(_)), "{opened:?}");
    }
    give_room(mount);
    let changes = workload::changes(SEED, model.revision + 1, MOST);
    match store.commit_durable(&changes) {
        Ok(_) => assert!(model.commit(&changes)),
        Err(CommitError::ReadAgain) => assert_eq!(how, "blind"),
        Err(other) => panic!("there is room, and still: {other:?}"),
    }
    assert_same(&store, &model, "nothing acknowledged is lost");
    for _ in 0..40 {
        commit(&store, &mut model);
    }
    assert_same(&store, &model, "it goes on");
    let condition = store.condition();
    assert!(
        condition.has_ballast && condition.is_writable,
        "{condition:?}"
    );
    assert_eq!(
        (condition.copy_behind, condition.witness_behind),
        (None, None)
    );
    drop(store);
    let (store, opened) = open(&directory, reserve_bytes);
    assert_eq!(opened.health, Health::Sound);
    assert_same(&store, &model, "and it stays");
}

fn check(how: &str) {
    if !world::has_own_mounts("full disks") {
        return;
    }
    let room = tempfile::tempdir().unwrap();
    let mount = room.path().join("mount");
    let _mounted = Mounted::memory(DISK_BYTES, &mount);
    let (is_well, said) = run(&mut child(&["full", mount.to_str().unwrap(), how]));
    println!("{said}");
    assert!(is_well);
}

#[test]
fn a_full_disk_refuses_commits_before_the_engine_is_touched() {
    check("guard");
}

#[test]
fn an_engine_that_ran_into_a_full_disk_comes_back_by_itself() {
    check("blind");
}
