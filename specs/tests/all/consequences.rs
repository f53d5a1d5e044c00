//! What an edit costs agrees with the digests that bring it about.

use std::collections::BTreeSet;

use proptest::prelude::*;
use specs::change::{Class, FieldChange, changes};
use specs::desired::Desired;

use super::{desired, resolved, taken};

/// Edits of the whole fixture: what to replace, and the class of what follows.
const EDITS: &[(&str, &str, Class)] = &[
    ("tier: \"1\"", "tier: \"2\"", Class::Live),
    ("owner: team a", "owner: team b", Class::Live),
    ("state: running", "state: stopped", Class::Live),
    ("suspend: false", "suspend: true", Class::Live),
    ("ttl: 24h", "ttl: 25h", Class::Live),
    ("rootfs/bookworm", "rootfs/trixie", Class::Recreate),
    (
        "writable: persistent",
        "writable: ephemeral",
        Class::Recreate,
    ),
    (
        "hostname: web.example.org",
        "hostname: shop",
        Class::Recreate,
    ),
    ("memory: 256Mi", "memory: 512Mi", Class::Live),
    ("swap: 0", "swap: 1Mi", Class::Live),
    ("memoryLow: 64Mi", "memoryLow: 65Mi", Class::Live),
    ("cpu: 1500m", "cpu: 1600m", Class::Live),
    ("cpuWeight: 100", "cpuWeight: 101", Class::Live),
    ("cpuSet: \"0-1\"", "cpuSet: \"0-2\"", Class::Live),
    ("pids: 128", "pids: 129", Class::Live),
    ("bytes: 1Gi", "bytes: 2Gi", Class::Live),
    ("inodes: 100k", "inodes: 101k", Class::Recreate),
    (
        "    disk: {bytes: 1Gi, inodes: 100k}\n",
        "",
        Class::Recreate,
    ),
    (
        "mode: isolated\n    address: 10.254.0.6\n",
        "mode: isolated\n    address: 10.254.0.7\n",
        Class::Recreate,
    ),
    ("mtu: 1400", "mtu: 1500", Class::Recreate),
    ("container: 80,", "container: 81,", Class::Live),
    ("host: 8080", "host: 8081", Class::Live),
    ("protocol: udp", "protocol: tcp", Class::Live),
    ("address: 127.0.0.1", "address: 192.0.2.9", Class::Live),
    ("default: deny", "default: allow", Class::Live),
    ("dns: true", "dns: false", Class::Live),
    ("to: 10.0.0.0/8", "to: 10.0.0.0/9", Class::Live),
    ("8000-9000", "8000-9001", Class::Live),
    ("protocol: tcp, log", "protocol: udp, log", Class::Live),
    ("icmpType: 8", "icmpType: 0", Class::Live),
    ("icmpCode: 0", "icmpCode: 1", Class::Live),
    ("log: true", "log: false", Class::Live),
    ("servers: [10.0.0.2]", "servers: [10.0.0.3]", Class::Live),
    ("corp.example", "shop.example", Class::Live),
    ("ndots:2", "ndots:3", Class::Live),
    (
        "db.local: 10.254.0.10",
        "db.local: 10.254.0.11",
        Class::Live,
    ),
    ("source: /srv/data", "source: /srv/other", Class::Recreate),
    (
        "      readOnly: false\n      recursive",
        "      recursive",
        Class::Recreate,
    ),
    ("recursive: true", "recursive: false", Class::Recreate),
    (
        "propagation: slave",
        "propagation: private",
        Class::Recreate,
    ),
    ("tmpfs: 64Mi", "tmpfs: 65Mi", Class::Recreate),
    ("mode: \"1777\"", "mode: \"0777\"", Class::Recreate),
    ("volume: db", "volume: db2", Class::Recreate),
    ("- {path: /tmp,", "- {path: /run,", Class::Recreate),
    ("other = 2", "other = 3", Class::Live),
    ("mode: \"0640\"", "mode: \"0600\"", Class::Live),
    (
        "user: app\n      onChange",
        "user: web\n      onChange",
        Class::Live,
    ),
    ("onChange: signal:HUP", "onChange: signal:USR1", Class::Live),
    ("onChange: signal:HUP", "onChange: none", Class::Live),
    ("onChange: signal:HUP", "onChange: restart", Class::Process),
    (
        "content: \"hello\\n\"",
        "content: \"jello\\n\"",
        Class::Process,
    ),
    ("path: /etc/motd", "path: /etc/issue", Class::Process),
    ("TZ: UTC", "TZ: CET", Class::Process),
    ("LEVEL: info", "LEVEL: warn", Class::Process),
    ("[/bin/httpd, -f", "[/bin/httpd, -v", Class::Process),
    ("user: app:adm", "user: app", Class::Process),
    ("workDir: /srv", "workDir: /", Class::Process),
    ("nofile: 1024:4096", "nofile: 1024:8192", Class::Process),
    ("core: 0", "core: unlimited", Class::Process),
    ("policy: onFailure", "policy: always", Class::Live),
    ("initial: 200ms", "initial: 300ms", Class::Live),
    ("max: 30s", "max: 31s", Class::Live),
    ("resetAfter: 5m", "resetAfter: 6m", Class::Live),
    ("signal: INT", "signal: TERM", Class::Live),
    ("grace: 20s", "grace: 30s", Class::Live),
    ("condition: started", "condition: completed", Class::Live),
    ("container: db", "container: cache", Class::Live),
    ("condition: healthy", "condition: started", Class::Live),
    ("{process: first", "{process: quiet", Class::Live),
    ("maxBytes: 1Mi", "maxBytes: 2Mi", Class::Process),
    ("maxFiles: 3", "maxFiles: 4", Class::Process),
    ("mode: drop", "mode: block", Class::Process),
    ("discard: true", "discard: false", Class::Process),
    ("name: quiet", "name: silent", Class::Live),
    ("namespace: auto", "namespace: host", Class::Recreate),
    (
        "add: [NET_RAW, CAP_SYS_PTRACE]",
        "add: [NET_RAW]",
        Class::Recreate,
    ),
    ("drop: [SYS_CHROOT]", "drop: []", Class::Recreate),
    (
        "seccomp: /etc/reconciler/seccomp/web.json",
        "seccomp: default",
        Class::Recreate,
    ),
    (
        "noNewPrivileges: true",
        "noNewPrivileges: false",
        Class::Recreate,
    ),
    ("access: rwm", "access: rw", Class::Recreate),
    ("path: /dev/fuse", "path: /dev/kvm", Class::Recreate),
    (
        "somaxconn: \"1024\"",
        "somaxconn: \"1025\"",
        Class::Recreate,
    ),
    (
        "readOnlyPaths: [/usr]",
        "readOnlyPaths: []",
        Class::Recreate,
    ),
    (
        "maskedPaths: [/proc/version]",
        "maskedPaths: [/proc/cpuinfo]",
        Class::Recreate,
    ),
];

const FULL: &str = include_str!("../fixtures/valid/full.yaml");

fn of(text: &str) -> Desired {
    resolved(&taken(text).first().unwrap().spec)
}

/// The laws that tie `changes` to the digests.
fn check(old: &Desired, new: &Desired) -> Vec<FieldChange> {
    let found = changes(old, new);
    let class = |class: Class, below: &str| {
        found
            .iter()
            .any(|change| change.class == class && change.path.starts_with(below))
    };
    let recreate = found.iter().any(|change| change.class == Class::Recreate);
    assert_eq!(
        recreate,
        old.container.digest() != new.container.digest(),
        "{found:?}"
    );
    assert_eq!(
        class(Class::Process, "spec.files"),
        old.files_digest() != new.files_digest(),
        "{found:?}"
    );
    let names: BTreeSet<_> = old.processes.keys().chain(new.processes.keys()).collect();
    for name in names {
        let path = format!("spec.processes[{name}]");
        let (old, new) = (old.processes.get(name), new.processes.get(name));
        let (Some(old), Some(new)) = (old, new) else {
            assert!(class(Class::Live, &path), "{found:?}");
            continue;
        };
        assert_eq!(
            class(Class::Process, &format!("{path}.")),
            old.digest() != new.digest(),
            "{found:?}"
        );
    }
    assert_eq!(found.is_empty(), old == new);
    found
}

#[test]
fn each_edit_has_its_class() {
    let old = of(FULL);
    for (from, to, class) in EDITS {
        assert!(FULL.contains(from), "{from}");
        let new = of(&FULL.replacen(from, to, 1));
        let found = check(&old, &new);
        assert!(
            found.iter().all(|change| change.class == *class),
            "{from} -> {to}: {found:?}"
        );
        assert!(!found.is_empty(), "{from} -> {to}");
        // The way back costs the same.
        assert_eq!(check(&new, &old).len(), found.len());
    }
}

#[test]
fn a_restart_order_and_other_ids_are_changes() {
    let old = of(FULL);
    let mut new = old.clone();
    new.restart_epoch += 1;
    assert_eq!(changes(&old, &new).first().unwrap().class, Class::Process);
    let mut new = old.clone();
    new.container.security.user_namespace =
        specs::desired::UserNamespace::Own(specs::desired::IdRange { base: 5, count: 6 });
    assert_eq!(
        check(&old, &new).first().unwrap().path,
        "spec.security.user.namespace"
    );
}

#[test]
fn a_change_never_shows_a_secret_and_sees_it_all_the_same() {
    let old = desired("processes: [{name: a, command: [x], env: {A: secret-1}}]");
    let new = desired("processes: [{name: a, command: [x], env: {A: secret-2}}]");
    let found = changes(&old, &new);
    assert_eq!(found.len(), 1);
    let shown = format!("{found:?}");
    assert!(
        shown.contains("(8 bytes)") && !shown.contains("secret"),
        "{shown}"
    );
}

#[test]
fn of_a_list_without_names_only_what_differs_is_told() {
    let ports = |last: u16| {
        format!(
            "network: {{mode: isolated, ports: [{{host: 80, address: 0.0.0.0}}, {{host: {last}, \
             address: 127.0.0.1}}]}}"
        )
    };
    let found = changes(&desired(&ports(81)), &desired(&ports(82)));
    let [change] = found.as_slice() else {
        panic!("{found:?}")
    };
    assert_eq!(
        (
            change.path.as_str(),
            change.from.as_str(),
            change.to.as_str()
        ),
        (
            "spec.network.ports",
            "{address:127.0.0.1,container:81,host:81,protocol:tcp}",
            "{address:127.0.0.1,container:82,host:82,protocol:tcp}"
        )
    );
}

#[test]
fn a_signalled_file_moves_its_own_digest_only() {
    let old =
        desired("files: [{path: /a, content: x, onChange: signal:HUP}, {path: /b, content: x}]");
    let new =
        desired("files: [{path: /a, content: y, onChange: signal:HUP}, {path: /b, content: x}]");
    assert_eq!(old.files_digest(), new.files_digest());
    assert_ne!(old.signal_files_digest(), new.signal_files_digest());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_edits_together_keep_the_laws(
        left in prop::collection::vec(0..EDITS.len(), 0..6),
        right in prop::collection::vec(0..EDITS.len(), 0..6),
    ) {
        let edited = |picks: &[usize]| {
            let mut text = FULL.to_owned();
            for at in picks {
                let (from, to, _) = EDITS[*at];
                text = text.replacen(from, to, 1);
            }
            specs::parse::parse("a.yaml", text.as_bytes())
        };
        let (left, right) = (edited(&left), edited(&right));
        // Some edits contradict each other.
        if let (Some(left), Some(right)) = (left.specs.first(), right.specs.first()) {
            check(&resolved(&left.spec), &resolved(&right.spec));
        }
    }
}
