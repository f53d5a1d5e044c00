//! A file that was cut off never gives more than the whole file, or than the safe defaults.

use std::collections::BTreeSet;

use specs::desired::{
    Desired, Egress, Flow, MountSource, Network, Port, Seccomp, Traffic, UserNamespace, Writable,
};
use specs::parse::parse;

use super::{fixtures, resolved};

/// Says in what `part` goes beyond both `whole` and `safe`, a container of defaults.
fn widened(part: &Desired, whole: &Desired, safe: &Desired) -> Vec<String> {
    let mut out = Vec::new();
    let mut law = |holds: bool, what: &str| {
        if !holds {
            out.push(what.to_owned());
        }
    };
    let (p, w, s) = (
        &part.container.security,
        &whole.container.security,
        &safe.container.security,
    );
    let allowed: BTreeSet<_> = w.capabilities.union(&s.capabilities).collect();
    law(
        p.capabilities.iter().all(|name| allowed.contains(name)),
        "capabilities",
    );
    law(!p.privileged || w.privileged, "privileged");
    law(
        p.no_new_privileges || !w.no_new_privileges,
        "noNewPrivileges",
    );
    // The path of a profile may be cut too: then it is not there, or the policy's to refuse.
    let profile = |seccomp: &Seccomp| matches!(seccomp, Seccomp::Profile { .. });
    let filtered = profile(&p.seccomp) && profile(&w.seccomp);
    law(
        filtered || p.seccomp == Seccomp::Default || p.seccomp == w.seccomp,
        "seccomp",
    );
    let own = |namespace| matches!(namespace, UserNamespace::Own(_));
    law(
        own(p.user_namespace) || !own(w.user_namespace),
        "user namespace",
    );
    let network = |desired: &Desired| match desired.container.network {
        Network::None => 0,
        Network::Isolated(_) => 1,
        Network::Host => 2,
    };
    law(network(part) <= network(whole), "network");
    reach(part, whole, &mut law);
    law(
        p.devices.iter().all(|device| {
            w.devices.iter().any(|whole| {
        device.path == whole.path || whole.path.starts_with(&device.path)
    } && (!device.write || whole.write) && (!device.mknod || whole.mknod))
        }),
        "devices",
    );
    law(
        p.sysctls
            .iter()
            .all(|(name, _)| w.sysctls.contains_key(name)),
        "sysctls",
    );
    let covers = |has: &[String], all: &[String]| all.iter().all(|path| has.contains(path));
    law(
        p.privileged || covers(&p.masked_paths, &s.masked_paths),
        "maskedPaths",
    );
    law(
        p.privileged || covers(&p.read_only_paths, &s.read_only_paths),
        "readOnlyPaths",
    );
    for mount in &part.container.mounts {
        let MountSource::Bind { source, .. } = &mount.source else {
            continue;
        };
        // A path may itself be cut: what it then shows is the policy's to refuse, but it
        // can never be written.
        let same = whole.container.mounts.iter().find(|other| {
            matches!(&other.source, MountSource::Bind { source: whole, .. } if whole == source)
        });
        law(
            mount.read_only || same.is_some_and(|same| !same.read_only),
            "a writable bind",
        );
    }
    let root = (
        part.container.rootfs.writable,
        whole.container.rootfs.writable,
    );
    law(root.0 == Writable::Ephemeral || root.0 == root.1, "rootfs");
    let limit = |part: Option<u64>, whole: Option<u64>, safe: Option<u64>| {
        let none = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
        none(part) <= none(whole).max(none(safe))
    };
    let (p, w, s) = (&part.limits, &whole.limits, &safe.limits);
    let bytes = |limit: Option<specs::units::Bytes>| limit.map(|bytes| bytes.0);
    law(
        limit(bytes(p.memory), bytes(w.memory), bytes(s.memory)),
        "memory",
    );
    law(
        limit(Some(p.swap.0), Some(w.swap.0), Some(s.swap.0)),
        "swap",
    );
    let cpu = |limit: Option<specs::units::MilliCpu>| limit.map(|cpu| cpu.0.into());
    law(limit(cpu(p.cpu), cpu(w.cpu), cpu(s.cpu)), "cpu");
    let pids = |limit: Option<u32>| limit.map(u64::from);
    law(limit(pids(p.pids), pids(w.pids), pids(s.pids)), "pids");
    out
}

/// Where it may speak to, and who may speak to it. Numbers and addresses may themselves be cut:
/// another port is no wider than the one that was meant.
fn reach(part: &Desired, whole: &Desired, law: &mut impl FnMut(bool, &str)) {
    let (p, w) = (&part.egress, &whole.egress);
    law(!p.otherwise_allow || w.otherwise_allow, "egress.default");
    let width = |traffic: &Traffic| match traffic {
        Traffic::All => u32::MAX,
        Traffic::Ports(_, first, last) => u32::from(last - first),
        Traffic::Icmp(kind, code) => u32::from(kind.is_none()) * 255 + u32::from(code.is_none()),
    };
    let widest = |egress: &Egress| egress.allow.iter().map(|flow| width(&flow.traffic)).max();
    law(widest(p) <= widest(w), "egress.allow");
    let size = |flow: &Flow| flow.to.last.to_bits() - flow.to.first.to_bits();
    let largest = |egress: &Egress| egress.allow.iter().map(size).max();
    law(largest(p) <= largest(w), "egress.allow.to");
    let open = |desired: &Desired| {
        let everywhere = |port: &&Port| port.address.is_none();
        desired.ports.iter().filter(everywhere).count()
    };
    law(open(part) <= open(whole), "ports on every address");
}

#[test]
fn no_prefix_of_a_spec_widens_its_rights() {
    let minimal = include_str!("../fixtures/valid/minimal.yaml");
    let safe = resolved(
        &parse("a.yaml", minimal.as_bytes())
            .specs
            .first()
            .unwrap()
            .spec,
    );
    let (mut prefixes, mut accepted) = (0, 0);
    for path in fixtures("valid", "yaml") {
        let bytes = std::fs::read(&path).unwrap();
        let whole: Vec<Desired> = parse("a.yaml", &bytes)
            .specs
            .iter()
            .map(|one| resolved(&one.spec))
            .collect();
        for end in 0..bytes.len() {
            prefixes += 1;
            let parsed = parse("a.yaml", bytes.get(..end).unwrap());
            for (at, located) in parsed.specs.iter().enumerate() {
                accepted += 1;
                let part = resolved(&located.spec);
                let faults = widened(&part, whole.get(at).unwrap(), &safe);
                assert_eq!(
                    faults,
                    Vec::<String>::new(),
                    "{}, {end} bytes",
                    path.display()
                );
            }
        }
    }
    // The law must not hold for want of cases.
    assert!(
        prefixes > 3000 && accepted > 300,
        "{accepted} of {prefixes}"
    );
}

#[test]
fn the_comparison_sees_a_wider_container() {
    let whole = super::desired("mounts: [{path: /a, source: /a}]\nlimits: {pids: 10}");
    for wider in [
        "security: {privileged: true}",
        "security: {noNewPrivileges: false}",
        "security: {seccomp: unconfined}",
        "security: {user: {namespace: host}}",
        "security: {capabilities: {add: [NET_RAW]}}",
        "security: {devices: [{path: /dev/fuse}]}",
        "security: {sysctls: {net.core.somaxconn: 1}}",
        "network: {mode: host}",
        "network: {mode: isolated}",
        "network: {mode: isolated, egress: {default: allow}}",
        "network: {mode: isolated, egress: {allow: [{to: 10.0.0.1, ports: [1]}]}}",
        "network: {mode: isolated, ports: [{host: 80, address: 0.0.0.0}]}",
        "mounts: [{path: /a, source: /a, readOnly: false}]",
        "limits: {pids: 2000}",
    ] {
        let safe = super::desired("");
        let part = super::desired(wider);
        assert_ne!(
            widened(&part, &whole, &safe),
            Vec::<String>::new(),
            "{wider}"
        );
    }
}

#[test]
fn names_can_be_made_out_in_every_prefix_that_holds_them() {
    let text = include_str!("../fixtures/faults/yaml-unclosed.yaml");
    for end in 0..text.len() {
        let part = text.get(..end).unwrap();
        let parsed = parse("a.yaml", part.as_bytes());
        if part.contains("name: web\n") {
            assert!(
                parsed.names.iter().any(|name| name.as_str() == "web"),
                "{part}"
            );
        }
    }
}
