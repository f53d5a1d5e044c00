//! What readers of YAML differ in has one meaning here, or is refused.

use specs::desired::{NameOrId, OnChange};
use specs::diagnostic::Code;
use specs::parse::parse;

use super::{desired, document, fixtures, one};

#[test]
fn a_text_is_taken_letter_for_letter() {
    let path = fixtures("valid", "yaml")
        .into_iter()
        .find(|path| path.ends_with("meanings.yaml"));
    let parsed = parse("meanings.yaml", &std::fs::read(path.unwrap()).unwrap());
    let env = &parsed.specs.first().unwrap().spec.spec.env;
    let wanted = [
        ("octal", "0755"),
        ("hex", "0xff"),
        ("float", "1.10"),
        ("huge", "1e400"),
        ("no", "no"),
        ("yes", "Yes"),
        ("time", "12:30:45"),
        ("underscore", "1_000"),
        ("nan", ".nan"),
        ("wide", "99999999999999999999"),
        ("equals", "="),
        ("dash", "-"),
        ("empty", ""),
        ("quoted", "it's"),
        ("folded", "one two"),
        ("escaped", "tab\tline\n"),
        ("date", "2001-12-14"),
    ];
    assert_eq!(env.len(), wanted.len());
    for (name, value) in wanted {
        assert_eq!(env.get(name).unwrap().0.0, value, "{name}");
    }
}

#[test]
fn a_number_is_decimal_digits_in_range_without_quotes() {
    for good in ["2", "128", "4194304"] {
        one(&format!("limits: {{pids: {good}}}"));
    }
    for bad in [
        "-1",
        "+3",
        "0x10",
        "0o17",
        "017",
        "1_000",
        "1e3",
        "1.0",
        "\"12\"",
        "99999999999999999999",
        "18446744073709551616",
        ".nan",
        ".inf",
        "1e400",
        "true",
        "''",
        "1",
        "4194305",
    ] {
        let parsed = parse(
            "a.yaml",
            document(&format!("limits: {{pids: {bad}}}")).as_bytes(),
        );
        let codes: Vec<Code> = parsed.diagnostics.iter().map(|one| one.code).collect();
        assert_eq!(codes, [Code::Number], "{bad}");
    }
}

#[test]
fn line_ends_and_a_leading_mark_change_nothing() {
    let text = document("env:\n  A: |\n    one\n    two\n");
    let plain = parse("a.yaml", text.as_bytes());
    for other in [
        text.replace('\n', "\r\n"),
        format!("\u{feff}{text}"),
        format!("{text}...\n"),
        text.trim_end().to_owned(),
    ] {
        let parsed = parse("a.yaml", other.as_bytes());
        assert_eq!(parsed.diagnostics, []);
        assert_eq!(
            parsed.specs.first().unwrap().spec,
            plain.specs.first().unwrap().spec
        );
    }
}

#[test]
fn what_is_left_out_is_safe() {
    let desired =
        desired("processes: [{name: a, command: [/bin/a]}]\nmounts: [{path: /x, source: /y}]");
    let security = &desired.container.security;
    assert!(matches!(
        security.user_namespace,
        specs::desired::UserNamespace::Own(_)
    ));
    assert_eq!(security.capabilities.len(), 11);
    assert!(!security.capabilities.contains("NET_RAW") && !security.capabilities.contains("MKNOD"));
    assert_eq!(security.seccomp, specs::desired::Seccomp::Default);
    assert!(security.no_new_privileges && !security.privileged);
    assert!(security.masked_paths.contains(&"/proc/kcore".to_owned()));
    assert!(security.read_only_paths.contains(&"/proc/sys".to_owned()));
    assert_eq!(desired.limits.pids, Some(1024));
    assert_eq!(desired.container.network, specs::desired::Network::None);
    assert!(desired.container.mounts.first().unwrap().read_only);
    let process = desired.processes.values().next().unwrap();
    assert_eq!(process.user.user, NameOrId::Id(0));
    assert_eq!(desired.container.hostname, "web");
}

#[test]
fn dropping_all_leaves_what_is_added() {
    let desired = desired("security: {capabilities: {drop: [ALL], add: [CAP_KILL]}}");
    let names: Vec<&String> = desired.container.security.capabilities.iter().collect();
    assert_eq!(names, ["KILL"]);
}

#[test]
fn privileged_takes_everything_off_and_nothing_else_does() {
    let desired = desired("security: {privileged: true}");
    let security = &desired.container.security;
    assert_eq!(security.capabilities.len(), 41);
    assert!(security.masked_paths.is_empty() && security.read_only_paths.is_empty());
    assert_eq!(security.seccomp, specs::desired::Seccomp::Unconfined);
    assert!(!security.no_new_privileges);
    assert!(matches!(
        security.user_namespace,
        specs::desired::UserNamespace::Own(_)
    ));
}

#[test]
fn parents_are_mounted_before_children() {
    let desired = desired(
        "mounts:\n- {path: /a/b, tmpfs: 1Mi}\n- {path: /a-b, tmpfs: 1Mi}\n- {path: /a, tmpfs: 1Mi}",
    );
    let paths: Vec<&str> = desired
        .container
        .mounts
        .iter()
        .map(|mount| mount.path.as_str())
        .collect();
    assert_eq!(paths, ["/a", "/a/b", "/a-b"]);
}

#[test]
fn a_process_has_the_containers_environment_and_its_own_goes_before() {
    let desired = desired(
        "env: {A: one, B: two}\nprocesses: [{name: a, command: [/bin/a], env: {B: own}}]\n\
         files: [{path: /etc/a, content: x}]",
    );
    let env = &desired.processes.values().next().unwrap().env;
    assert_eq!(env.get("A").unwrap().0, "one");
    assert_eq!(env.get("B").unwrap().0, "own");
    assert_eq!(desired.files.first().unwrap().on_change, OnChange::Restart);
}

#[test]
fn secrets_are_shown_as_their_length() {
    let secret = "correct-horse";
    let located = one(&format!(
        "env: {{A: {secret}}}\nfiles: [{{path: /etc/a, content: {secret}}}]\n\
         processes: [{{name: a, command: [/bin/a], env: {{B: {secret}}}}}]"
    ));
    let desired = super::resolved(&located.spec);
    let shown = format!("{:?} {:?} {}", located, desired, desired.effective_json());
    assert!(!shown.contains(secret), "{shown}");
    assert!(desired.effective_json().to_string().contains("(13 bytes)"));
}
