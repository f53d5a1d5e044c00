//! Every field of a policy rule, once refusing and once granting. The list of fields comes from
//! the schema, so a field that is added without a case fails here.

use std::collections::BTreeSet;

use serde_json::Value;
use specs::config::parse_config;
use specs::diagnostic::{Code, Diagnostic};
use specs::policy::check;

use super::{document, one};

/// One field of a rule: what is asked, a rule that refuses it and one that grants it. The two
/// rules differ in this field only.
struct Case {
    field: &'static str,
    asked: &'static str,
    refusing: &'static str,
    granting: &'static str,
    code: Code,
    /// What the refusal points to.
    place: &'static str,
}

macro_rules! cases {
    ($($field:literal: $asked:literal, $refusing:literal, $granting:literal, $code:ident, $place:literal;)*) => {
        &[$(Case {
            field: $field,
            asked: $asked,
            refusing: $refusing,
            granting: $granting,
            code: Code::$code,
            place: $place,
        }),*]
    };
}

const CASES: &[Case] = cases! {
    "directory": "security: {privileged: true}", "directory: /elsewhere\nprivileged: true",
        "directory: /srv/specs\nprivileged: true", PolicyPrivileged, "true";
    "owner": "security: {privileged: true}", "owner: 1001\nprivileged: true",
        "owner: 1000\nprivileged: true", PolicyPrivileged, "true";
    "bindRoots[].path": "mounts: [{path: /a, source: /srv/x}]", "bindRoots: [{path: /srv/y}]",
        "bindRoots: [{path: /srv/x}]", PolicyBind, "/srv/x";
    "bindRoots[].writable": "mounts: [{path: /a, source: /srv/x, readOnly: false}]",
        "bindRoots: [{path: /srv, writable: false}]",
        "bindRoots: [{path: /srv, writable: true}]", PolicyBind, "false";
    "rootfsRoots": "", "rootfsRoots: [/srv/other]", "rootfsRoots: [/srv/rootfs]", PolicyRootfs,
        "/srv/rootfs/a";
    "privileged": "security: {privileged: true}", "privileged: false", "privileged: true",
        PolicyPrivileged, "true";
    "hostUserNamespace": "security: {user: {namespace: host}}", "hostUserNamespace: false",
        "hostUserNamespace: true", PolicyUserNamespace, "host";
    "hostNetwork": "network: {mode: host}", "hostNetwork: false", "hostNetwork: true",
        PolicyNetwork, "host";
    "ports": "network: {mode: isolated, ports: [{host: 80, address: 0.0.0.0}]}",
        "ports: [1024-65535, 443]", "ports: [1024-65535, 80]", PolicyPort, "80";
    "devices[].path": "security: {devices: [{path: /dev/fuse}]}", "devices: [{path: /dev/kvm}]",
        "devices: [{path: /dev/fuse}]", PolicyDevice, "/dev/fuse";
    "devices[].access": "security: {devices: [{path: /dev/fuse, access: rw}]}",
        "devices: [{path: /dev/fuse, access: r}]", "devices: [{path: /dev/fuse, access: rw}]",
        PolicyDevice, "/dev/fuse";
    "capabilities": "security: {capabilities: {add: [SYS_ADMIN]}}", "capabilities: [NET_RAW]",
        "capabilities: [SYS_ADMIN]", PolicyCapability, "SYS_ADMIN";
    "seccompUnconfined": "security: {seccomp: unconfined}", "seccompUnconfined: false",
        "seccompUnconfined: true", PolicySeccomp, "unconfined";
    "seccompRoots": "security: {seccomp: /srv/a.json}", "seccompRoots: [/srv/other]",
        "seccompRoots: [/srv]", PolicySeccomp, "/srv/a.json";
    "sysctls": "security: {sysctls: {kernel.sem: 1}}", "sysctls: [net.*]", "sysctls: [kernel.*]",
        PolicySysctl, "1";
    "limits.memory": "limits: {memory: 2Mi}", "limits: {memory: 1Mi}", "limits: {memory: 2Mi}",
        PolicyLimit, "2Mi";
    "limits.swap": "limits: {memory: 8Mi, swap: 2Mi}", "limits: {swap: 1Mi}",
        "limits: {swap: 2Mi}", PolicyLimit, "2Mi";
    "limits.memoryLow": "limits: {memory: 8Mi, memoryLow: 2Mi}", "limits: {memoryLow: 1Mi}",
        "limits: {memoryLow: 2Mi}", PolicyLimit, "2Mi";
    "limits.cpu": "limits: {cpu: 200m}", "limits: {cpu: 100m}", "limits: {cpu: 200m}",
        PolicyLimit, "200m";
    "limits.pids": "limits: {pids: 20}", "limits: {pids: 10}", "limits: {pids: 20}",
        PolicyLimit, "20";
    "limits.disk": "limits: {disk: {bytes: 2Gi}}", "limits: {disk: 1Gi}", "limits: {disk: 2Gi}",
        PolicyLimit, "2Gi";
};

/// Every field below a mapping of the schema that holds no further field.
fn leaves(schema: &Value, path: &str, found: &mut BTreeSet<String>) {
    let below = |name: &str| match path {
        "" => name.to_owned(),
        path => format!("{path}.{name}"),
    };
    let items = schema.get("items");
    if let Some(Value::Object(fields)) = schema.get("properties") {
        for (name, schema) in fields {
            leaves(schema, &below(name), found);
        }
    } else if let Some(items) = items.filter(|items| items.get("properties").is_some()) {
        leaves(items, &format!("{path}[]"), found);
    } else {
        found.insert(path.to_owned());
    }
}

/// What the policy of this one rule says to the spec.
fn judged(asked: &str, rule: &str) -> Vec<Diagnostic> {
    let rule = rule.replace('\n', "\n  ");
    let text =
        format!("apiVersion: reconciler/v1\nkind: Config\npolicy:\n- name: team\n  {rule}\n");
    let config = parse_config("config.yaml", text.as_bytes()).unwrap();
    check(
        &one(asked),
        &config.policy.grant("/srv/specs", 1000),
        "a.yaml",
    )
}

/// The text that a diagnostic points to.
fn pointed(asked: &str, told: &Diagnostic) -> String {
    let text = document(asked);
    let line = text.lines().nth(told.line as usize - 1).unwrap();
    let (from, to) = (told.column as usize - 1, told.end_column as usize - 1);
    line.get(from..to).unwrap().to_owned()
}

#[test]
fn every_field_of_a_rule_has_its_case() {
    let schema = specs::schema::config_json_schema();
    let rule = schema.pointer("/properties/policy/items").unwrap();
    let mut fields = BTreeSet::new();
    leaves(rule, "", &mut fields);
    // The name is held by every case: a refusal says it.
    assert!(fields.remove("name"), "{fields:?}");
    let cases: BTreeSet<String> = CASES.iter().map(|case| case.field.to_owned()).collect();
    assert_eq!(fields, cases);
    let codes: BTreeSet<&str> = CASES.iter().map(|case| case.code.as_str()).collect();
    let known: BTreeSet<&str> = Code::ALL
        .iter()
        .map(|code| code.as_str())
        .filter(|code| code.starts_with("E04"))
        .collect();
    assert_eq!(codes, known);
}

#[test]
fn every_field_of_a_rule_refuses_by_name_and_place_and_grants() {
    for case in CASES {
        let refused = judged(case.asked, case.refusing);
        let [told] = refused.as_slice() else {
            panic!("{}: {refused:?}", case.field);
        };
        assert_eq!(told.code, case.code, "{}", case.field);
        assert_eq!(pointed(case.asked, told), case.place, "{}", case.field);
        // A rule that is not for this spec leaves the word to the built-in policy.
        let decided = match case.field {
            "directory" | "owner" => "decided by the built-in policy",
            _ => "decided by the rule `team` (config.yaml:4:9)",
        };
        assert_eq!(told.note.as_deref(), Some(decided), "{}", case.field);
        assert_eq!(judged(case.asked, case.granting), [], "{}", case.field);
    }
}
