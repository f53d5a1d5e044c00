//! The page of fields against the schema: no field without a row, no row without a field, no
//! test that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// Fields that act on nothing: they mark the format, or people keep them for themselves.
const SILENT: &[&str] = &["apiVersion", "kind", "metadata.annotations"];
/// How many rows name no test yet; may only be lowered.
const UNSHOWN: usize = 3;
/// Where tests on the real kernel stand.
const KERNEL: &[&str] = &[
    "tests/tests/all",
    "drivers/shim/tests",
    "drivers/linux/tests",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Every field that holds no further field, in the form of `explain`.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let items = schema.get("items");
    if let Some(Value::Object(fields)) = schema.get("properties") {
        let dot = if path.is_empty() { "" } else { "." };
        for (name, schema) in fields {
            leaves(schema, &format!("{path}{dot}{name}"), found);
        }
    } else if let Some(items) = items.filter(|items| items.get("properties").is_some()) {
        leaves(items, &format!("{path}[]"), found);
    } else {
        found.insert(path.to_owned());
    }
}

/// Rows of the page: field, change, what shows it.
fn rows() -> Vec<(String, String, String)> {
    let text = fs::read_to_string(root().join("docs/fields.md")).expect("read the page of fields");
    text.lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let mut cells = line.split(" | ");
            let mut cell = || cells.next().expect("three cells").to_owned();
            let field = cell().trim_end_matches('`').to_owned();
            (field, cell(), cell().trim_end_matches(" |").to_owned())
        })
        .collect()
}

/// The names of all tests on the real kernel.
fn kernel_tests() -> BTreeSet<String> {
    let mut folders: Vec<PathBuf> = KERNEL.iter().map(|place| root().join(place)).collect();
    let mut found = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("list a folder").flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if path.is_dir() && name != "sim" {
                folders.push(path);
            } else if name.ends_with(".rs") && !name.starts_with("tidy") && name != "sim.rs" {
                let text = fs::read_to_string(path).expect("read a file");
                let after = text.split("#[test]\n").skip(1);
                let name = |text: &str| {
                    let rest = text.trim_start().strip_prefix("fn ")?;
                    rest.split_once("()").map(|(name, _)| name.to_owned())
                };
                found.extend(after.filter_map(name));
            }
        }
    }
    found
}

#[test]
fn every_field_has_a_row_and_every_row_a_field() {
    let mut fields = BTreeSet::new();
    leaves(&specs::schema::json_schema(), "", &mut fields);
    assert!(fields.len() > 50, "the schema was not read: {fields:?}");
    let rows = rows();
    let told: BTreeSet<String> = rows.iter().map(|(field, ..)| field.clone()).collect();
    assert_eq!(told, fields);
    assert_eq!(rows.len(), fields.len(), "a field has two rows");
}

#[test]
fn every_row_says_what_a_change_costs() {
    let classes: BTreeMap<&str, &str> = specs::explain::fields()
        .iter()
        .map(|doc| {
            let class = doc.class.map_or("nothing", specs::change::Class::as_str);
            (doc.path.as_str(), class)
        })
        .collect();
    for (field, change, _) in rows() {
        assert_eq!(
            Some(&change.as_str()),
            classes.get(field.as_str()),
            "{field}"
        );
    }
}

#[test]
fn every_field_is_shown_by_a_test_on_the_real_kernel() {
    let tests = kernel_tests();
    assert!(tests.len() > 50, "the tests were not found: {tests:?}");
    let mut unshown = 0;
    for (field, _, shown) in rows() {
        let is_silent = SILENT.contains(&field.as_str());
        assert_eq!(shown == "nothing to act on", is_silent, "{field}");
        let mut names = shown.split('`').skip(1).step_by(2).peekable();
        if names.peek().is_none() && !is_silent {
            assert_eq!(shown, "none yet", "{field}");
            unshown += 1;
        }
        for name in names {
            assert!(tests.contains(name), "{field}: no kernel test {name}");
        }
    }
    assert_eq!(unshown, UNSHOWN, "fields without a test");
}
