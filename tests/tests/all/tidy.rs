//! The rules of the house: who may import whom, how long a file may be, where `unsafe` may
//! stand, which licences may come in.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

/// Who may import whom: the packages of this workspace that each may name outside of tests.
const IMPORTS: &[(&str, &[&str])] = &[
    ("reconciler-specs", &[]),
    ("reconciler-store", &["reconciler-specs"]),
    ("driver-api", &["reconciler-specs"]),
    ("shim-proto", &[]),
    ("archive", &[]),
    (
        "driver-linux",
        &["reconciler-specs", "driver-api", "shim-proto"],
    ),
    ("driver-sim", &["reconciler-specs", "driver-api"]),
    ("reconciler-shim", &["shim-proto", "archive"]),
    ("reconciler-core", &["reconciler-specs", "driver-api"]),
    (
        "reconciler-daemon",
        &[
            "reconciler-specs",
            "reconciler-store",
            "driver-api",
            "driver-linux",
            "reconciler-core",
        ],
    ),
    (
        "reconciler-cli",
        &["reconciler-specs", "reconciler-daemon", "archive"],
    ),
    ("xtask", &[]),
];
/// Crates that cannot name I/O.
const NO_STD: &[&str] = &["drivers/api", "drivers/shim-proto", "reconciler/core"];
/// The two addresses of `unsafe`.
const UNSAFE: &[&str] = &["drivers/linux/src/sys", "drivers/shim/"];
/// Most production lines of a file, its tests not counted.
const LINES_MAX: usize = 400;
/// Licences that may come in.
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "CC0-1.0",
];
/// Packages that may not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("serde_yml", "unsound"),
    ("libyml", "unsound"),
    ("tokio-tar", "escapes its directory"),
    ("openssl-sys", "C TLS"),
    ("rustables", "GPL-3.0"),
];
/// The packages that the person this is built for chose, and who must use each.
const NAMED: &[(&str, &str)] = &[
    ("tokio", "reconciler-daemon"),
    ("sled", "reconciler-store"),
    ("serde", "reconciler-specs"),
    ("yaml_serde", "reconciler-specs"),
    ("notify", "reconciler-daemon"),
    ("nix", "driver-linux"),
    ("rtnetlink", "driver-linux"),
    ("cgroups-rs", "driver-linux"),
    ("backoff", "reconciler-daemon"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package is in a folder")
        .to_owned()
}

/// What is built for this machine: the packages of other systems are on no disk here, and
/// asking for them would need the network.
fn metadata() -> Metadata {
    let platform = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let options = ["--offline", "--locked", "--filter-platform", &platform];
    MetadataCommand::new()
        .current_dir(root())
        .other_options(options.map(str::to_owned))
        .exec()
        .expect("cargo metadata answers")
}

/// Every Rust file of the project, below the root, with its text.
fn sources() -> Vec<(String, String)> {
    let mut found = Vec::new();
    for place in ["specs", "store", "drivers", "reconciler", "tests", "xtask"] {
        collect(&root().join(place), "rs", &mut found);
    }
    assert!(found.len() > 30, "the sources were not found");
    found
}

fn collect(directory: &Path, extension: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(directory).expect("list a folder").flatten() {
        let path = entry.path();
        if path.is_dir() && entry.file_name() != "target" {
            collect(&path, extension, found);
        } else if path.extension().is_some_and(|have| have == extension) {
            let name = path
                .strip_prefix(root())
                .expect("below the root")
                .display()
                .to_string();
            found.push((name, fs::read_to_string(&path).expect("read a file")));
        }
    }
}

#[test]
fn rooms_import_only_what_the_table_allows() {
    let metadata = metadata();
    let members: BTreeSet<&str> = metadata
        .workspace_packages()
        .iter()
        .map(|package| package.name.as_str())
        .collect();
    let table: BTreeMap<&str, &[&str]> = IMPORTS.iter().copied().collect();
    for package in metadata.workspace_packages() {
        if package.name.as_str() == "reconciler-tests" {
            continue;
        }
        let allowed = table
            .get(package.name.as_str())
            .unwrap_or_else(|| panic!("{} is not in the table", package.name));
        for dependency in &package.dependencies {
            let inside = members.contains(dependency.name.as_str());
            if inside && dependency.kind == DependencyKind::Normal {
                assert!(
                    allowed.contains(&dependency.name.as_str()),
                    "{} may not import {}",
                    package.name,
                    dependency.name
                );
            }
            assert!(
                dependency.name != "driver-sim" || package.name.as_str() == "reconciler-tests",
                "only the tests may use the simulated host, {} does",
                package.name
            );
        }
    }
}

#[test]
fn every_named_package_is_a_dependency_of_the_room_that_needs_it() {
    let metadata = metadata();
    for (wanted, by) in NAMED {
        let package = metadata
            .workspace_packages()
            .into_iter()
            .find(|package| package.name.as_str() == *by)
            .unwrap_or_else(|| panic!("{by} is a member"));
        let uses = package.dependencies.iter().any(|dependency| {
            dependency.name == *wanted && dependency.kind == DependencyKind::Normal
        });
        assert!(uses, "{by} does not depend on {wanted}");
    }
}

#[test]
fn crates_that_decide_cannot_name_io() {
    for place in NO_STD {
        let text = fs::read_to_string(root().join(place).join("src/lib.rs")).expect("read lib.rs");
        assert!(text.contains("#![no_std]"), "{place} is not no_std");
        let mut files = Vec::new();
        collect(&root().join(place).join("src"), "rs", &mut files);
        for (name, text) in files {
            let outside: Vec<&str> = text.split("#[cfg(test)]").take(1).collect();
            assert!(!outside.concat().contains("std::"), "{name} names std");
        }
    }
}

#[test]
fn unsafe_stands_at_its_two_addresses() {
    for (name, text) in sources() {
        let is_this_file = name.ends_with("all/tidy.rs");
        if is_this_file || UNSAFE.iter().any(|place| name.starts_with(place)) {
            continue;
        }
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let found = code.contains("unsafe {") || code.contains("unsafe fn");
            assert!(!found, "{name}:{} holds unsafe", number + 1);
        }
    }
}

/// The names in the last cell of a row of a table.
fn tests_of(row: &str) -> Vec<&str> {
    let cell = row.trim_end().trim_end_matches('|').rsplit('|').next();
    cell.unwrap_or_default()
        .split('`')
        .skip(1)
        .step_by(2)
        .collect()
}

/// Holds that each row names a test, and that each test is there.
fn check_named(document: &str, rows: &[&str]) {
    let all = sources();
    for row in rows {
        let named = tests_of(row);
        assert!(!named.is_empty(), "{document}: nothing shows {row}");
        for name in named {
            let test = format!("fn {name}(");
            let is_there = all.iter().any(|(_, source)| source.contains(&test));
            assert!(is_there, "{document}: {name} is named and not there");
        }
    }
}

#[test]
fn every_test_that_the_fault_model_names_exists() {
    let text = fs::read_to_string(root().join("docs/faults.md")).expect("read the fault model");
    let is_row = |line: &&str| {
        let mut chars = line.strip_prefix("| ").unwrap_or_default().chars();
        chars.next().is_some_and(char::is_uppercase) && chars.next().is_some_and(char::is_numeric)
    };
    let rows: Vec<&str> = text.lines().filter(is_row).collect();
    for row in [
        "B1", "B2", "B3", "B4", "B5", "B6", "B7", "B8", "C1", "E1", "E15",
    ] {
        let begins = |line: &&str| line.starts_with(&format!("| {row} "));
        assert!(rows.iter().any(begins), "the fault model has no row {row}");
    }
    check_named("docs/faults.md", &rows);
}

#[test]
fn each_field_that_is_observed_names_its_drift_test() {
    let text = fs::read_to_string(root().join("docs/observed.md")).expect("read the fields");
    let is_row = |line: &&str| line.starts_with('|') && !line.starts_with("| ---");
    let is_head = |line: &&str| line.ends_with("| shown by |");
    let rows = text.lines().filter(is_row).filter(|line| !is_head(line));
    let rows: Vec<&str> = rows.collect();
    assert!(rows.len() > 25, "the tables were not found: {rows:?}");
    check_named("docs/observed.md", &rows);
}

#[test]
fn files_are_short_enough_to_read() {
    let long: Vec<String> = sources()
        .into_iter()
        .filter(|(name, _)| !name.contains("/tests/") && !name.ends_with("tests.rs"))
        .map(|(name, text)| {
            let lines = text
                .lines()
                .take_while(|line| !line.starts_with("#[cfg(test)]"))
                .count();
            (name, lines)
        })
        .filter(|(_, lines)| *lines > LINES_MAX)
        .map(|(name, lines)| format!("{name}: {lines}"))
        .collect();
    assert!(
        long.is_empty(),
        "longer than {LINES_MAX} production lines: {long:?}"
    );
}

#[test]
fn nothing_unfinished_lands() {
    // Spelled in halves so that this file does not find itself.
    let marks = [
        ["FIX", "ME"].concat(),
        ["todo", "!("].concat(),
        ["unimplemented", "!("].concat(),
        ["#[ig", "nore"].concat(),
        ["#[should_", "panic"].concat(),
    ];
    for (name, text) in sources() {
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{name} holds {mark}");
        }
    }
}

#[test]
fn only_the_engine_file_flushes_the_store() {
    for (name, text) in sources() {
        let allowed = name.starts_with("store/src/engine")
            || name.contains("tests")
            || !name.starts_with("store/");
        let flushes = text.contains(".flush()") || text.contains(".flush_async()");
        assert!(allowed || !flushes, "{name} flushes past `commit_durable`");
    }
}

#[test]
fn every_test_file_is_part_of_the_binary() {
    let folder = root().join("tests/tests/all");
    let main = fs::read_to_string(folder.join("main.rs")).expect("read main.rs");
    for entry in fs::read_dir(&folder).expect("list the folder").flatten() {
        let path = entry.path();
        let stem = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("a name")
            .to_owned();
        if stem != "main" {
            assert!(
                main.contains(&format!("mod {stem};")),
                "{stem} is forgotten in main.rs"
            );
        }
    }
}

#[test]
fn licences_and_sources_are_the_allowed_ones() {
    let metadata = metadata();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if let Some((_, why)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            panic!("{name} may not come in: {why}");
        }
        let inside = package.source.is_none();
        let registry = package
            .source
            .as_ref()
            .is_some_and(|s| s.repr.starts_with("registry+"));
        assert!(inside || registry, "{name} comes from {:?}", package.source);
        let licence = package
            .license
            .clone()
            .unwrap_or_else(|| panic!("{name} says no licence"));
        assert!(is_allowed(&licence), "{name} has licence {licence}");
    }
}

/// Whether some choice in an SPDX expression is made of allowed licences only.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], " ").replace('/', " OR ");
    let one = |text: &str| LICENCES.contains(&text.trim().trim_end_matches(" WITH LLVM-exception"));
    if expression.contains('(') && expression.contains(" AND ") {
        // `(A OR B) AND C`: every part joined by AND has an allowed choice.
        return plain.split(" AND ").all(|part| part.split(" OR ").any(one));
    }
    plain
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(one))
}

#[test]
fn documents_name_files_that_exist() {
    let mut pages = Vec::new();
    collect(&root().join("docs"), "md", &mut pages);
    for name in ["README.md", "ARCHITECTURE.md"] {
        pages.push((
            name.to_owned(),
            fs::read_to_string(root().join(name)).expect("read a page"),
        ));
    }
    for (name, text) in pages {
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let base = root().join(&name);
            let base = base.parent().expect("a page is in a folder");
            assert!(
                base.join(target).exists(),
                "{name} points to {target}, which is not there"
            );
        }
    }
}
