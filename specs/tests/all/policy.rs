//! Each rule of the policy, granted and not.

use specs::config::{Config, parse_config};
use specs::diagnostic::Code;
use specs::policy::{Grant, check};

use super::one;

fn config(rest: &str) -> Config {
    let text = format!("apiVersion: reconciler/v1\nkind: Config\n{rest}\n");
    parse_config("config.yaml", text.as_bytes()).unwrap()
}

fn grant(rule: &str) -> Grant {
    let config = config(&format!(
        "policy:\n- name: team\n  {}",
        rule.replace('\n', "\n  ")
    ));
    config.policy.grant("/srv/specs", 1000)
}

fn codes(spec: &str, grant: &Grant) -> Vec<Code> {
    check(&one(spec), grant, "a.yaml")
        .iter()
        .map(|one| one.code)
        .collect()
}

/// Refused by the built-in policy, granted by the rule.
fn needs(spec: &str, code: Code, rule: &str) {
    let built_in = Config::default().policy.grant("/srv/specs", 0);
    assert_eq!(codes(spec, &built_in), [code], "{spec}");
    assert_eq!(codes(spec, &grant(rule)), [], "{spec} with {rule}");
}

#[test]
fn a_spec_of_defaults_needs_no_grant() {
    let built_in = Config::default().policy.grant("/srv/specs", 0);
    let spec = "mounts: [{path: /a, tmpfs: 1Mi}, {path: /b, volume: b}]\nnetwork: {mode: host}\n\
                security: {capabilities: {add: [NET_RAW]}, sysctls: {kernel.sem: 1}}";
    assert_eq!(codes(spec, &built_in), []);
}

#[test]
fn a_bind_needs_a_root_above_it() {
    needs(
        "mounts: [{path: /a, source: /srv/data}]",
        Code::PolicyBind,
        "bindRoots: [{path: /srv}]",
    );
    let grant = grant("bindRoots: [{path: /srv/data}, {path: /srv/data/rw, writable: true}]");
    for (source, allowed) in [
        ("/srv/data", true),
        ("/srv/data/x", true),
        ("/srv/database", false),
        ("/srv", false),
    ] {
        let spec = format!("mounts: [{{path: /a, source: {source}}}]");
        assert_eq!(codes(&spec, &grant).is_empty(), allowed, "{source}");
    }
    assert_eq!(
        grant.bind_root("/srv/data/rw/x").unwrap().path,
        "/srv/data/rw"
    );
    assert_eq!(grant.bind_root("/etc"), None);
}

#[test]
fn a_bind_is_tied_to_the_root_that_allows_it() {
    let grant = grant("bindRoots: [{path: /srv}, {path: /srv/data}]");
    let old = super::desired("mounts: [{path: /a, source: /srv/data/x}, {path: /b, source: /etc}]");
    let mut new = old.clone();
    grant.confine(&mut new);
    let beneath: Vec<Option<&str>> = new
        .container
        .mounts
        .iter()
        .map(|mount| match &mount.source {
            specs::desired::MountSource::Bind { beneath, .. } => beneath.as_deref(),
            _ => None,
        })
        .collect();
    assert_eq!(beneath, [Some("/srv/data"), None]);
    assert_eq!(old.container.digest(), new.container.digest());
    assert_eq!(specs::change::changes(&old, &new), []);
}

#[test]
fn a_bind_with_writing_needs_a_writable_root() {
    let spec = "mounts: [{path: /a, source: /srv/data/rw, readOnly: false}]";
    assert_eq!(
        codes(spec, &grant("bindRoots: [{path: /srv/data}]")),
        [Code::PolicyBind]
    );
    let both = "bindRoots: [{path: /srv/data}, {path: /srv/data/rw, writable: true}]";
    assert_eq!(codes(spec, &grant(both)), []);
}

#[test]
fn a_root_directory_is_not_the_hosts_own() {
    let built_in = Config::default().policy.grant("/srv/specs", 0);
    let rootfs = |directory: &str| {
        let text = format!(
            "apiVersion: reconciler/v1\nkind: Container\n\
             metadata: {{name: a}}\nspec: {{rootfs: {{directory: {directory}}}}}\n"
        );
        super::taken(&text).remove(0)
    };
    for bad in [
        "/etc",
        "/etc/x",
        "/root",
        "/proc/1/root",
        "/dev",
        "/run/x",
        "/boot",
        "/sys",
    ] {
        let found = check(&rootfs(bad), &built_in, "a.yaml");
        assert_eq!(found.first().unwrap().code, Code::PolicyRootfs, "{bad}");
    }
    for good in ["/srv/a", "/var/lib/roots/a", "/root/roots/a", "/etcetera"] {
        assert_eq!(check(&rootfs(good), &built_in, "a.yaml"), [], "{good}");
    }
    let narrow = grant("rootfsRoots: [/srv/roots]");
    assert_eq!(check(&rootfs("/srv/roots/a"), &narrow, "a.yaml"), []);
    assert_eq!(check(&rootfs("/srv/a"), &narrow, "a.yaml").len(), 1);
}

#[test]
fn privileged_needs_a_grant() {
    needs(
        "security: {privileged: true}",
        Code::PolicyPrivileged,
        "privileged: true",
    );
}

#[test]
fn the_hosts_user_namespace_needs_a_grant() {
    let spec = "security: {user: {namespace: host}}";
    needs(spec, Code::PolicyUserNamespace, "hostUserNamespace: true");
}

#[test]
fn the_hosts_network_can_be_refused() {
    let spec = "network: {mode: host}";
    assert_eq!(
        codes(spec, &grant("hostNetwork: false")),
        [Code::PolicyNetwork]
    );
    assert_eq!(codes(spec, &grant("hostNetwork: true")), []);
    assert_eq!(
        codes("network: {mode: none}", &grant("hostNetwork: false")),
        []
    );
}

#[test]
fn a_device_needs_a_grant_for_each_access() {
    needs(
        "security: {devices: [{path: /dev/fuse}]}",
        Code::PolicyDevice,
        "devices: [{path: /dev/fuse}]",
    );
    let grant = grant("devices: [{path: /dev/fuse, access: r}, {path: /dev/tty*}]");
    let device = |path: &str, access: &str| {
        codes(
            &format!("security: {{devices: [{{path: {path}, access: {access}}}]}}"),
            &grant,
        )
    };
    assert_eq!(device("/dev/fuse", "r"), []);
    assert_eq!(device("/dev/fuse", "rw"), [Code::PolicyDevice]);
    assert_eq!(device("/dev/ttyUSB0", "rw"), []);
    assert_eq!(device("/dev/kvm", "r"), [Code::PolicyDevice]);
}

#[test]
fn a_capability_beyond_the_usual_needs_a_grant() {
    let spec = "security: {capabilities: {add: [CAP_SYS_ADMIN]}}";
    needs(spec, Code::PolicyCapability, "capabilities: [SYS_ADMIN]");
    let none = grant("capabilities: []");
    assert_eq!(
        codes("security: {capabilities: {add: [NET_RAW]}}", &none),
        [Code::PolicyCapability]
    );
    assert_eq!(
        codes(
            "security: {capabilities: {add: [CHOWN], drop: [ALL]}}",
            &none
        ),
        []
    );
}

#[test]
fn the_system_call_filter_cannot_be_left_out_or_replaced_without_a_grant() {
    needs(
        "security: {seccomp: unconfined}",
        Code::PolicySeccomp,
        "seccompUnconfined: true",
    );
    let spec = "security: {seccomp: /srv/seccomp/a.json}";
    needs(spec, Code::PolicySeccomp, "seccompRoots: [/srv/seccomp]");
    assert_eq!(
        codes("security: {seccomp: default}", &grant("privileged: false")),
        []
    );
}

#[test]
fn kernel_settings_can_be_narrowed() {
    let grant = grant("sysctls: [\"net.core.*\", kernel.sem]");
    let set = |name: &str| codes(&format!("security: {{sysctls: {{{name}: 1}}}}"), &grant);
    assert_eq!(set("net.core.somaxconn"), []);
    assert_eq!(set("kernel.sem"), []);
    assert_eq!(set("net.ipv4.ip_forward"), [Code::PolicySysctl]);
    assert_eq!(set("net.corex.a"), [Code::PolicySysctl]);
}

#[test]
fn a_ceiling_holds_for_what_is_asked_and_for_what_is_not() {
    let grant = grant("limits: {memory: 1Gi, swap: 0, memoryLow: 1Mi, cpu: 2.0, pids: 100}");
    assert_eq!(
        codes("limits: {memory: 1Gi, cpu: 2000m, pids: 100}", &grant),
        []
    );
    let missing = [Code::PolicyLimit; 3];
    assert_eq!(
        codes("", &grant),
        missing,
        "memory, cpu and the default of 1024 tasks"
    );
    let spec = "limits: {memory: 2Gi, swap: 1Mi, memoryLow: 2Mi, cpu: 2001m, pids: 101}";
    assert_eq!(codes(spec, &grant), [Code::PolicyLimit; 5]);
}

#[test]
fn the_hosts_defaults_count_against_a_ceiling() {
    let rule = "defaults: {limits: {memory: 512Mi}}\npolicy: [{name: a, limits: {memory: 1Gi}}]";
    assert_eq!(codes("", &config(rule).policy.grant("", 0)), []);
    let rule = "defaults: {limits: {memory: 2Gi}}\npolicy: [{name: a, limits: {memory: 1Gi}}]";
    assert_eq!(
        codes("", &config(rule).policy.grant("", 0)),
        [Code::PolicyLimit]
    );
}

#[test]
fn the_first_rule_that_matches_directory_and_owner_decides() {
    let config = config(
        "policy:\n- {name: a, directory: /srv/a, owner: 5, privileged: true}\n\
         - {name: b, directory: /srv/a}\n- {name: c, owner: 7, privileged: true}",
    );
    let rule = |directory: &str, owner: u32| {
        let grant = config.policy.grant(directory, owner);
        (grant.privileged, grant.rule)
    };
    let place = |name: &str, line: u32| format!("the rule `{name}` (config.yaml:{line}:10)");
    assert_eq!(rule("/srv/a", 5), (true, place("a", 4)));
    assert_eq!(rule("/srv/a/below", 5), (true, place("a", 4)));
    assert_eq!(rule("/srv/a", 7), (false, place("b", 5)));
    assert_eq!(rule("/srv/ab", 7), (true, place("c", 6)));
    assert_eq!(rule("", 7), (true, place("c", 6)));
    assert_eq!(
        rule("/elsewhere", 0),
        (false, "the built-in policy".to_owned())
    );
}

#[test]
fn a_refusal_names_its_place_its_rule_and_the_rules_place() {
    let found = check(
        &one("security:\n  privileged: true"),
        &grant("owner: 1000"),
        "a.yaml",
    );
    let refusal = found.first().unwrap();
    assert_eq!(
        (refusal.line, refusal.column, refusal.end_column),
        (7, 17, 21)
    );
    assert_eq!(
        refusal.note.as_deref(),
        Some("decided by the rule `team` (config.yaml:4:9)")
    );
}
