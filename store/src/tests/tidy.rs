//! Laws about the text of this crate.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else {
            found.push(path);
        }
    }
}

/// A bare flush is not durable; the one that is lives beside its fsync.
#[test]
fn flush_is_called_in_the_engines_file_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let call = [".flu", "sh("].concat();
    let callers: Vec<PathBuf> = files
        .into_iter()
        .filter(|path| fs::read_to_string(path).unwrap().contains(&call))
        .collect();
    assert_eq!(callers, [root.join("engine/sled.rs")]);
}

/// No type of an engine's crosses the seam.
#[test]
fn an_engine_is_named_in_its_own_file_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for engine in ["sled", "redb"] {
        let path = ["::", engine, "::"].concat();
        for file in &files {
            let is_own = file.ends_with(format!("engine/{engine}.rs"));
            let text = fs::read_to_string(file).unwrap();
            assert!(
                is_own || !text.contains(&path),
                "{} names {path}",
                file.display()
            );
        }
    }
}
