//! Fixed digests. A release in which one of these differs would make every container anew
//! when the daemon is upgraded: the form may get fields, never other bytes for old ones.

use super::{desired, resolved, taken};

const FULL: &str = include_str!("../fixtures/valid/full.yaml");

#[test]
fn digests_never_change() {
    let minimal =
        desired("processes: [{name: a, command: [/bin/a]}]\nfiles: [{path: /a, content: x}]");
    let limited = resolved(&taken(FULL).first().unwrap().spec);
    let mut isolated = limited.clone();
    isolated.container.rootfs.bound = None;
    let mut full = isolated.clone();
    full.container.network = specs::desired::Network::None;
    let host =
        desired("network: {mode: host}\nsecurity: {user: {namespace: host}, privileged: true}");
    let process =
        |desired: &specs::desired::Desired| desired.processes.values().next().unwrap().digest();
    let file = |desired: &specs::desired::Desired| desired.files.first().unwrap().digest();
    let table = [
        ("minimal container", minimal.container.digest()),
        ("minimal process", process(&minimal)),
        ("minimal file", file(&minimal)),
        ("minimal files", minimal.files_digest()),
        ("no files", minimal.signal_files_digest()),
        ("full container", full.container.digest()),
        (
            "full process",
            full.processes.values().last().unwrap().digest(),
        ),
        ("full file", file(&full)),
        ("full files", full.files_digest()),
        ("full signalled files", full.signal_files_digest()),
        ("privileged container", host.container.digest()),
        ("isolated container", isolated.container.digest()),
        ("limited container", limited.container.digest()),
    ];
    let shown: String = table
        .iter()
        .map(|(name, digest)| format!("{digest} {name}\n"))
        .collect();
    assert_eq!(shown, include_str!("digests.txt"));
}
