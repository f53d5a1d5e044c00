//! Commands that need neither root nor a daemon.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::daemon::{Ran, reconciler};

fn run(args: &[&str]) -> Ran {
    Ran::from(&reconciler(args).output().unwrap())
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples")
}

const GOOD: &str = "apiVersion: reconciler/v1\nkind: Container\nmetadata: {name: web}\n\
                    spec:\n  rootfs: {directory: /srv/root}\n";

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join(name), text).unwrap();
    }
    directory
}

#[test]
fn every_example_is_valid_and_tells_its_story() {
    let examples = examples();
    let out = run(&["validate", examples.to_str().unwrap()]).good();
    assert!(
        out.ends_with("11 files, 11 containers: 0 errors, 0 warnings\n"),
        "{out}"
    );
    for folder in examples
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        if folder.is_dir() {
            let name = folder.file_name().unwrap().to_str().unwrap();
            assert!(folder.join(format!("{name}.yaml")).is_file(), "{name}");
            let story = std::fs::read_to_string(folder.join("README.md")).unwrap();
            assert!(
                story.contains("reconciler "),
                "{name} has no command to try"
            );
        }
    }
}

#[test]
fn all_faults_of_all_files_are_told_with_their_places() {
    let bad = GOOD
        .replace("rootfs", "rootsf")
        .replace("name: web", "name: Web");
    let directory = directory(&[("a.yaml", GOOD), ("b.yaml", &bad), ("c.yaml", "]")]);
    let ran = run(&["validate", directory.path().to_str().unwrap()]);
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""));
    for part in [
        "b.yaml:3:",
        "b.yaml:5:3",
        "rootsf",
        "^^^^^^",
        "c.yaml:1:",
        "3 files, 1 container",
    ] {
        assert!(ran.stdout.contains(part), "{part}: {}", ran.stdout);
    }
    assert!(!ran.stdout.contains("a.yaml:"), "{}", ran.stdout);
}

#[test]
fn findings_have_a_machine_form() {
    let directory = directory(&[("b.yaml", &GOOD.replace("rootfs", "rootsf"))]);
    let ran = run(&["validate", "-o", "json", directory.path().to_str().unwrap()]);
    assert_eq!(ran.code, Some(1));
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(found["files"], 1);
    assert!(found["errors"].as_u64().unwrap() >= 1);
    let first = &found["diagnostics"][0];
    assert!(first["file"].as_str().unwrap().ends_with("/b.yaml"));
    assert!(first["code"].as_str().unwrap().starts_with('E'));
    assert!(first["line"].as_u64().is_some() && first["column"].as_u64().is_some());
}

#[test]
fn two_files_may_not_claim_one_name() {
    let directory = directory(&[("a.yaml", GOOD), ("b.yaml", GOOD)]);
    let ran = run(&["validate", directory.path().to_str().unwrap()]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("b.yaml:3:"), "{}", ran.stdout);
    assert!(ran.stdout.contains("`web`"), "{}", ran.stdout);
}

#[test]
fn standard_input_is_a_file_like_any_other() {
    let validate = |text: &str| {
        let mut command = reconciler(&["validate", "-"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        Ran::from(&child.wait_with_output().unwrap())
    };
    assert_eq!(
        validate(GOOD).good(),
        "1 file, 1 container: 0 errors, 0 warnings\n"
    );
    let ran = validate(&GOOD.replace("kind", "kin\u{1b}[2Jd"));
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("<stdin>:2:4"), "{}", ran.stdout);
    assert!(!ran.stdout.contains('\u{1b}'), "{:?}", ran.stdout);
}

#[test]
fn with_a_configuration_its_policy_is_asked_too() {
    let privileged = format!("{GOOD}  security: {{privileged: true}}\n");
    let directory = directory(&[
        ("a.yaml", &privileged),
        ("config", "apiVersion: reconciler/v1\nkind: Config\n"),
        ("bad", "apiVersion: reconciler/v1\nkind: Config\nx: 1\n"),
    ]);
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let file = path("a.yaml");
    run(&["validate", &file]).good();
    let ran = run(&["validate", &file, "--config", &path("config")]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("privileged"), "{}", ran.stdout);
    let ran = run(&["validate", &file, "--config", &path("bad")]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stdout.contains("/bad:3:1"), "{}", ran.stdout);
}

#[test]
fn the_schema_is_json_and_knows_the_fields() {
    let schema: Value = serde_json::from_str(&run(&["schema"]).good()).unwrap();
    assert!(schema["properties"]["spec"]["properties"]["limits"].is_object());
    let schema: Value = serde_json::from_str(&run(&["schema", "--config"]).good()).unwrap();
    assert!(schema["properties"]["policy"].is_object());
}

#[test]
fn a_field_is_explained_with_type_default_and_what_a_change_costs() {
    let out = run(&["explain", "limits.memory"]).good();
    for part in [
        "limits.memory\n",
        "Type:",
        "Default:",
        "live: the same processes keep running",
    ] {
        assert!(out.contains(part), "{part}: {out}");
    }
    let out = run(&["explain", "limits"]).good();
    assert!(
        out.contains("limits.memory ") && out.contains("limits.pids "),
        "{out}"
    );
    assert!(!out.contains("rootfs"), "{out}");
    let json: Value =
        serde_json::from_str(&run(&["explain", "limits.memory", "-o", "json"]).good()).unwrap();
    assert_eq!(json["class"], "live");
}

#[test]
fn without_a_name_all_fields_are_listed() {
    let out = run(&["explain"]).good();
    assert!(out.starts_with("FIELD "), "{out}");
    for field in [
        "metadata.name",
        "spec.limits.cpu",
        "spec.processes[].command",
    ] {
        assert!(out.contains(field), "{field}: {out}");
    }
    assert!(run(&["explain", "--config"]).good().contains("policy"));
}

#[test]
fn every_code_that_validate_prints_can_be_explained() {
    let directory = directory(&[
        ("b.yaml", &GOOD.replace("rootfs", "rootsf")),
        ("c.yaml", "]"),
    ]);
    let ran = run(&["validate", "-o", "json", directory.path().to_str().unwrap()]);
    let found: Value = serde_json::from_str(&ran.stdout).unwrap();
    let codes: Vec<&str> = found["diagnostics"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["code"].as_str().unwrap())
        .collect();
    assert!(codes.len() >= 2);
    for code in codes {
        assert!(
            run(&["explain", code])
                .good()
                .starts_with(&format!("{code}: "))
        );
        assert!(
            run(&["explain", &code.to_lowercase()])
                .good()
                .starts_with(&format!("{code}: "))
        );
    }
}

#[test]
fn what_cannot_be_explained_is_1_with_a_guess() {
    let error = run(&["explain", "limits.memroy"]).bad(1);
    assert!(
        error.contains("help: did you mean `limits.memory`?"),
        "{error}"
    );
    let error = run(&["explain", "E9999"]).bad(1);
    assert!(error.contains("no field and no code `E9999`"), "{error}");
}
