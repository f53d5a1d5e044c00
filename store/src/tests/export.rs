//! A store looked at, written to one file, and made of that again.

use std::collections::BTreeMap;
use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::model::assert_same;
use super::workload::{changes, model};
use super::world::{Dice, KINDS, open, open_sound, options};
use crate::check::{self, Report};
use crate::engine::{EngineKind, Op, Tree};
use crate::export::{ExportError, ImportError, export_of, import_as, parse};
use crate::outcome::OpenError;
use crate::store::Held;

const MOST: u64 = 2000;

/// Makes a store with so many commits; returns where.
fn made(room: &Path, name: &str, kind: EngineKind, seed: u64, commits: u64) -> PathBuf {
    let directory = room.join(name);
    let (store, _) = open(&directory, kind);
    for number in 1..=commits {
        store.commit_durable(&changes(seed, number, MOST)).unwrap();
    }
    directory
}

fn looked(directory: &Path, kind: EngineKind) -> Report {
    check::look(&options(directory), kind).unwrap().report
}

/// Every file with what it holds.
fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn what_was_exported_and_imported_is_the_same_store() {
    let dice = Dice::thrown("round trip");
    for (round, kind) in KINDS.into_iter().cycle().take(6).enumerate() {
        let mut dice = Dice(dice.0 + round as u64);
        let (seed, commits) = (dice.next(), dice.below(60));
        let room = tempfile::tempdir().unwrap();
        let from = made(room.path(), "from", kind, seed, commits);
        let file = room.path().join("export");
        let count = export_of(&options(&from), &file, kind).unwrap();
        let bytes = fs::read(&file).unwrap();
        // To the other engine as well: the text knows of none.
        let other = KINDS[round % KINDS.len()];
        let to = room.path().join("to/store");
        fs::create_dir(room.path().join("to")).unwrap();
        assert_eq!(import_as(&bytes, &options(&to), other).unwrap(), count);
        assert!(looked(&to, other).is_sound(), "{:?}", looked(&to, other));
        let again = room.path().join("again");
        export_of(&options(&to), &again, other).unwrap();
        assert_eq!(
            fs::read(&again).unwrap(),
            bytes,
            "seed {seed}, {commits} commits"
        );
        let store = open_sound(&to, other);
        assert_same(&store, &model(seed, commits, MOST), "imported");
        // It goes on where it was.
        store
            .commit_durable(&changes(seed, commits + 1, MOST))
            .unwrap();
        assert_same(&store, &model(seed, commits + 1, MOST), "and gone on");
    }
}

#[test]
fn no_altered_export_is_taken() {
    let mut dice = Dice::thrown("altered exports");
    let kind = EngineKind::Redb;
    let room = tempfile::tempdir().unwrap();
    let from = made(room.path(), "from", kind, dice.next(), 24);
    let file = room.path().join("export");
    export_of(&options(&from), &file, kind).unwrap();
    let whole = fs::read(&file).unwrap();
    assert!(parse(&whole).is_ok());
    let line_of = |at: usize| whole[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    let refused = |bytes: &[u8], what: &str| match parse(bytes) {
        Ok(_) => panic!("taken: {what}"),
        Err(ImportError::Line { line, .. }) => line,
        Err(other) => panic!("{what}: {other}"),
    };
    for _ in 0..400 {
        let at = usize::try_from(dice.below(whole.len() as u64)).unwrap();
        let cut = refused(&whole[..at], &format!("cut at {at}"));
        let last = line_of(at.saturating_sub(1));
        assert!(
            cut == last || at == 0,
            "cut at {at}: line {cut} is named, not {last}"
        );
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << dice.below(8);
        let named = refused(&flipped, &format!("flipped at {at}"));
        // A flipped end of a line makes one of two.
        let is_near = named.abs_diff(line_of(at)) <= 1;
        assert!(is_near, "flipped at {at}: line {named} is named");
    }
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    for at in 0..lines.len() {
        let mut doubled = lines.clone();
        doubled.insert(at, lines[at]);
        refused(&doubled.concat(), &format!("line {} doubled", at + 1));
        let mut lost = lines.clone();
        lost.remove(at);
        refused(&lost.concat(), &format!("line {} lost", at + 1));
        if at > 0 {
            let mut swapped = lines.clone();
            swapped.swap(at - 1, at);
            refused(&swapped.concat(), &format!("line {} moved", at + 1));
        }
    }
    // Nothing is begun with one that is refused.
    let to = room.path().join("to");
    assert!(import_as(&whole[..whole.len() - 1], &options(&to), kind).is_err());
    let left = fs::read_dir(room.path()).unwrap().count();
    assert_eq!(left, 2, "the store and its export, and nothing else");
}

#[test]
fn an_export_of_a_newer_version_is_refused_as_that() {
    let line = crate::frame::seal_line(r#"{"schema":2,"what":"is new"}"#);
    let text = format!("{line}{line}");
    let found = parse(text.as_bytes());
    assert!(
        matches!(found, Err(ImportError::Newer { found: 2, known: 1 })),
        "{found:?}"
    );
}

#[test]
fn nothing_is_written_over() {
    let kind = EngineKind::Sled;
    let room = tempfile::tempdir().unwrap();
    let from = made(room.path(), "from", kind, 7, 5);
    let file = room.path().join("export");
    fs::write(&file, "mine").unwrap();
    let taken = export_of(&options(&from), &file, kind);
    assert!(matches!(taken, Err(ExportError::Occupied(_))), "{taken:?}");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    fs::remove_file(&file).unwrap();
    export_of(&options(&from), &file, kind).unwrap();
    let bytes = fs::read(&file).unwrap();
    let before = files(&from);
    let taken = import_as(&bytes, &options(&from), kind);
    assert!(matches!(taken, Err(ImportError::Occupied(_))), "{taken:?}");
    assert_eq!(files(&from), before);

    // An empty place that somebody holds is about to be a store of theirs.
    let to = room.path().join("to");
    let held = Held::take(&to).unwrap();
    let taken = import_as(&bytes, &options(&to), kind);
    assert!(matches!(taken, Err(ImportError::Occupied(_))), "{taken:?}");
    drop(held);
    import_as(&bytes, &options(&to), kind).unwrap();
    let mut left: Vec<_> = fs::read_dir(room.path())
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["export", "from", "to"]);
}

#[test]
fn a_store_that_somebody_has_is_neither_looked_at_nor_exported() {
    let kind = EngineKind::Sled;
    let room = tempfile::tempdir().unwrap();
    let directory = room.path().join("store");
    let (_store, _) = open(&directory, kind);
    let looked = check::look(&options(&directory), kind);
    assert!(
        matches!(looked, Err(OpenError::Locked { .. })),
        "{looked:?}"
    );
    let exported = export_of(&options(&directory), &room.path().join("export"), kind);
    assert!(matches!(
        exported,
        Err(ExportError::Open(OpenError::Locked { .. }))
    ));
    assert!(!room.path().join("export").exists());
    let none = check::look(&options(&room.path().join("none")), kind);
    assert!(matches!(none, Err(OpenError::Files(..))), "{none:?}");
    assert!(!room.path().join("none").exists(), "a look made a store");
}

#[test]
fn a_look_names_what_is_wrong_and_changes_nothing() {
    let mut dice = Dice::thrown("looks");
    for kind in KINDS {
        let room = tempfile::tempdir().unwrap();
        let seed = dice.next();
        let directory = made(room.path(), "store", kind, seed, 30);
        let before = files(&directory);
        let sound = looked(&directory, kind);
        assert!(sound.is_sound() && sound.revision == 30, "{sound:?}");
        assert!(
            sound
                .records
                .iter()
                .any(|(tree, count)| *tree == "history" && *count > 0)
        );
        assert_eq!(sound.copy, Some(30));

        let wrong = |what: &str| {
            let before = files(&directory);
            let report = looked(&directory, kind);
            assert_eq!(
                files(&directory),
                before,
                "{what}: the look changed something"
            );
            assert!(!report.is_sound(), "{what} is not seen");
            let export = room.path().join("export");
            let exported = export_of(&options(&directory), &export, kind);
            assert!(
                matches!(exported, Err(ExportError::NotWhole(_))),
                "{what}: {exported:?}"
            );
            assert!(!export.exists());
            report
        };
        let put_back = || {
            fs::remove_dir_all(&directory).unwrap();
            for (path, bytes) in &before {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, bytes).unwrap();
            }
        };
        fs::remove_file(directory.join("witness")).unwrap();
        assert_eq!(wrong("no witness").faults, ["its witness is gone"]);
        put_back();
        fs::write(directory.join("witness"), "x").unwrap();
        assert_eq!(wrong("a bad witness").faults, ["its witness is damaged"]);
        put_back();
        fs::remove_dir_all(directory.join(kind.directory_name())).unwrap();
        assert_eq!(wrong("no engine").faults, ["the engine's files are gone"]);
        put_back();
        put_back();
        let engine = kind
            .open(&directory.join(kind.directory_name()), 20)
            .unwrap();
        let mut first = None;
        let keep = &mut |key: &[u8], value: &[u8]| {
            first = Some((key.to_vec(), value.to_vec()));
            ControlFlow::Break(())
        };
        engine.scan(Tree::History, b"", keep).unwrap();
        let (key, mut value) = first.unwrap();
        *value.last_mut().unwrap() ^= 1;
        let place = format!("history {}", String::from_utf8_lossy(&key));
        let op = Op {
            tree: Tree::History,
            key,
            value: Some(value),
        };
        engine.apply(&[op]).unwrap();
        engine.make_durable().unwrap();
        drop(engine);
        let report = wrong("a flipped bit");
        let named = report
            .damaged
            .iter()
            .any(|record| record.starts_with(&place));
        assert!(named && !report.faults.is_empty(), "{place}: {report:?}");
        put_back();
        // An engine that was put back from a backup.
        let later = room.path().join("later");
        made(room.path(), "later", kind, seed, 0);
        fs::copy(directory.join("witness"), later.join("witness")).unwrap();
        let report = looked(&later, kind);
        assert_eq!(report.faults, ["its witness speaks of another store"]);
        assert!(looked(&directory, kind).is_sound());
    }
}
