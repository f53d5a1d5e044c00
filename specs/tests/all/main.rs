//! Laws of the crate, seen from outside.
#![cfg(test)]

mod config;
mod consequences;
mod digests;
mod docs;
mod explaining;
mod golden;
mod meanings;
mod noop;
mod policy;
mod prefixes;
mod rules;
mod schema;
mod sets;
mod totality;

use std::path::{Path, PathBuf};

use specs::config::Defaults;
use specs::desired::{Desired, IdRange};
use specs::id::Generation;
use specs::parse::{Located, parse};
use specs::resolve::{Choices, resolve};
use specs::spec::Spec;

/// Files of a folder below `tests/fixtures` with this ending, sorted.
fn fixtures(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures")
        .join(folder);
    let listed = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = listed
        .filter(|path| path.extension().is_some_and(|own| own == ending))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{}", folder.display());
    files
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

/// The specs of a text that must be in order.
fn taken(text: &str) -> Vec<Located> {
    let parsed = parse("test.yaml", text.as_bytes());
    assert_eq!(parsed.diagnostics, [], "{text}");
    parsed.specs
}

/// A document around the lines of a `spec`, each indented by two.
fn document(spec: &str) -> String {
    let head = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: web}\nspec:\n";
    let root = "  rootfs: {directory: /srv/rootfs/a}\n";
    let lines: String = spec.lines().map(|line| format!("  {line}\n")).collect();
    format!("{head}{root}{lines}")
}

fn one(spec: &str) -> Located {
    let mut specs = taken(&document(spec));
    assert_eq!(specs.len(), 1);
    specs.remove(0)
}

fn resolved(spec: &Spec) -> Desired {
    let defaults = Defaults::default();
    let range = IdRange {
        base: 0x7000_0000,
        count: 65536,
    };
    let choices = Choices {
        generation: Generation(1),
        id_range: Some(range),
        address: Some(std::net::Ipv4Addr::new(10, 254, 0, 6)),
        seccomp_json: Some("{\"defaultAction\": \"SCMP_ACT_ERRNO\"}".to_owned()),
        run_override: None,
        suspend_override: None,
        restart_epoch: 0,
        defaults: &defaults,
    };
    resolve(spec, &choices).unwrap()
}

fn desired(spec: &str) -> Desired {
    resolved(&one(spec).spec)
}
