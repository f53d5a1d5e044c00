//! Every fixture beside the words it is answered with. `BLESS=1` writes them anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use specs::config::parse_config;
use specs::diagnostic::{Code, Diagnostic, render};
use specs::parse::parse;

use super::{file_name, fixtures};

fn check(path: &Path, diagnostics: &[Diagnostic], bytes: &[u8], names: &str) {
    assert!(!diagnostics.is_empty(), "{} was taken", path.display());
    let mut shown = render(diagnostics, &String::from_utf8_lossy(bytes), false);
    shown.push_str(names);
    let beside = path.with_extension("diag");
    if option_env!("BLESS").is_some() {
        fs::write(&beside, &shown).unwrap();
    }
    let wanted = fs::read_to_string(&beside).unwrap_or_default();
    assert_eq!(shown, wanted, "{}: bless with BLESS=1", path.display());
}

#[test]
fn a_fault_is_told_in_these_words_at_this_place() {
    for path in fixtures("faults", "yaml") {
        let bytes = fs::read(&path).unwrap();
        let parsed = parse(&file_name(&path), &bytes);
        assert_eq!(
            parsed.specs,
            [],
            "{}: a file is taken whole or not at all",
            path.display()
        );
        let names: Vec<&str> = parsed.names.iter().map(|name| name.as_str()).collect();
        let names = format!("names: {names:?}\n");
        check(&path, &parsed.diagnostics, &bytes, &names);
    }
}

#[test]
fn a_fault_in_a_configuration_is_told_in_these_words() {
    for path in fixtures("config/faults", "yaml") {
        let bytes = fs::read(&path).unwrap();
        let faults = parse_config(&file_name(&path), &bytes).unwrap_err();
        check(&path, &faults, &bytes, "");
    }
}

#[test]
fn every_code_of_a_text_has_a_fixture() {
    // Shown elsewhere: texts too large for a fixture, and what takes more than one text.
    let elsewhere = [
        Code::TooLarge,
        Code::TooManyNodes,
        Code::DuplicateVolume,
        Code::DuplicatePort,
        Code::DuplicateAddress,
        Code::NoIdRange,
        Code::NoAddress,
        Code::SeccompProfile,
    ];
    let mut shown: BTreeSet<Code> = elsewhere.into_iter().collect();
    for folder in ["faults", "config/faults"] {
        for path in fixtures(folder, "diag") {
            let text = fs::read_to_string(path).unwrap();
            let told = |code: &&Code| text.contains(&format!("error[{code}]"));
            shown.extend(Code::ALL.iter().filter(told));
        }
    }
    let policy = |code: &&Code| code.as_str().starts_with("E04");
    shown.extend(Code::ALL.iter().filter(policy));
    let missing: Vec<&Code> = Code::ALL
        .iter()
        .filter(|code| !shown.contains(code))
        .collect();
    assert_eq!(missing, Vec::<&Code>::new());
}

#[test]
fn every_valid_fixture_is_taken_and_survives_its_json() {
    for path in fixtures("valid", "yaml") {
        let parsed = parse(&file_name(&path), &fs::read(&path).unwrap());
        assert_eq!(parsed.diagnostics, [], "{}", path.display());
        assert!(!parsed.specs.is_empty());
        for located in parsed.specs {
            let json = serde_json::to_string(&located.spec).unwrap();
            assert_eq!(
                serde_json::from_str::<specs::spec::Spec>(&json).unwrap(),
                located.spec
            );
            let again = parse("again.json", json.as_bytes());
            assert_eq!(again.diagnostics, [], "{json}");
            assert_eq!(again.specs.first().unwrap().spec, located.spec);
        }
    }
    for path in fixtures("config/valid", "yaml") {
        parse_config(&file_name(&path), &fs::read(&path).unwrap()).unwrap();
    }
}
