//! The planted bugs in `tests/mutants` stay plantable and listed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants")
}

fn patches() -> Vec<PathBuf> {
    let entries = fs::read_dir(directory()).expect("tests/mutants is there");
    let paths = entries.map(|entry| entry.expect("it is listed").path());
    let mut patches: Vec<PathBuf> = paths
        .filter(|path| path.extension().is_some_and(|end| end == "patch"))
        .collect();
    patches.sort();
    patches
}

#[test]
fn every_planted_bug_can_still_be_planted() {
    let patches = patches();
    assert!(patches.len() >= 18, "{patches:?}");
    for patch in patches {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut git = Command::new("git");
        let output = git
            .arg("apply")
            .arg("--check")
            .arg(&patch)
            .current_dir(root)
            .output();
        let output = output.expect("git runs");
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {why}", patch.display());
    }
}

#[test]
fn every_planted_bug_is_listed_with_the_test_that_kills_it() {
    let list = fs::read_to_string(directory().join("README.md")).expect("the list is there");
    let rows: Vec<&str> = list
        .lines()
        .filter(|line| line.starts_with("| `"))
        .collect();
    for patch in patches() {
        let name = patch
            .file_stem()
            .expect("it has a name")
            .to_string_lossy()
            .into_owned();
        let start = format!("| `{name}` |");
        let row = rows.iter().find(|row| row.starts_with(&start));
        assert!(row.is_some_and(|row| row.split('|').count() == 5), "{name}");
    }
}
