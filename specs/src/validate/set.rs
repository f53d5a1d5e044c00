//! Laws between containers, wherever their specs come from.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use crate::desired::Transport;
use crate::diagnostic::{Code, Diagnostic};
use crate::id::{Key, VolumeName};
use crate::parse::Located;
use crate::parse::faults::Fault;
use crate::spec::{Port, PortProtocol, Spec};

/// What only one container can have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Claim {
    /// The name.
    Name(Key),
    /// A named volume.
    Volume(VolumeName),
    /// A port of the host.
    Port(PortClaim),
    /// An address that the spec names.
    Address(Ipv4Addr),
}

/// A port of the host, on one of its addresses or on all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortClaim {
    /// Protocol.
    pub transport: Transport,
    /// Number.
    pub port: u16,
    /// Address; none for every one.
    pub address: Option<Ipv4Addr>,
}

impl PortClaim {
    /// Returns whether only one of the two can be had: they are the same port, and on the same
    /// address or one of them on all.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let apart = |a: Ipv4Addr, b: Ipv4Addr| a != b;
        let addresses = self.address.zip(other.address);
        (self.transport, self.port) == (other.transport, other.port)
            && !addresses.is_some_and(|(a, b)| apart(a, b))
    }
}

/// Returns the ports of the host that a spec claims.
#[must_use]
pub fn ports_of(spec: &Spec) -> Vec<PortClaim> {
    let network = spec.spec.network.as_ref();
    let ports = network.map_or(&[][..], |network| &network.ports);
    let claim = |port: &Port| PortClaim {
        transport: match port.protocol {
            None | Some(PortProtocol::Tcp) => Transport::Tcp,
            Some(PortProtocol::Udp) => Transport::Udp,
        },
        port: port.host,
        address: Some(port.address.0).filter(|address| !address.is_unspecified()),
    };
    ports.iter().map(claim).collect()
}

/// Returns the address that a spec claims by name.
#[must_use]
pub fn address_of(spec: &Spec) -> Option<Ipv4Addr> {
    let network = spec.spec.network.as_ref()?;
    network.address.map(|address| address.0)
}

/// One claim of several specs. Who keeps it is not decided here: that takes knowledge of
/// who runs already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// What is claimed.
    pub claim: Claim,
    /// Positions in the list given, ascending; at least two.
    pub by: Vec<usize>,
}

/// Returns every claim that more than one of the specs makes, in the order of claims.
#[must_use]
pub fn duplicates(set: &[(String, Located)]) -> Vec<Duplicate> {
    let mut claims: BTreeMap<Claim, Vec<usize>> = BTreeMap::new();
    for (at, (_, located)) in set.iter().enumerate() {
        let name = Claim::Name(located.spec.metadata.name.clone());
        claims.entry(name).or_default().push(at);
        let mut volumes: Vec<_> = located
            .spec
            .spec
            .mounts
            .iter()
            .filter_map(|mount| mount.volume.clone())
            .collect();
        volumes.sort();
        volumes.dedup();
        for volume in volumes {
            claims.entry(Claim::Volume(volume)).or_default().push(at);
        }
        if let Some(address) = address_of(&located.spec) {
            claims.entry(Claim::Address(address)).or_default().push(at);
        }
    }
    let several = claims.into_iter().filter(|(_, by)| by.len() > 1);
    let several = several.map(|(claim, by)| Duplicate { claim, by });
    several.chain(port_duplicates(set)).collect()
}

/// Returns each claim of a port that meets one of another spec, with all that it meets.
fn port_duplicates(set: &[(String, Located)]) -> Vec<Duplicate> {
    let mut by_number: BTreeMap<(Transport, u16), Vec<(usize, PortClaim)>> = BTreeMap::new();
    for (at, (_, located)) in set.iter().enumerate() {
        for claim in ports_of(&located.spec) {
            let same = by_number.entry((claim.transport, claim.port)).or_default();
            same.push((at, claim));
        }
    }
    let mut all: Vec<Duplicate> = Vec::new();
    for same in by_number.into_values() {
        let mut out: Vec<Duplicate> = Vec::new();
        for (_, claim) in &same {
            let meeting = same.iter().filter(|(_, other)| claim.meets(other));
            let mut by: Vec<usize> = meeting.map(|(at, _)| *at).collect();
            by.dedup();
            let duplicate = Duplicate {
                claim: Claim::Port(*claim),
                by,
            };
            let is_told = out.iter().any(|told| told.by == duplicate.by);
            if duplicate.by.len() > 1 && !is_told {
                out.push(duplicate);
            }
        }
        all.extend(out);
    }
    all
}

impl fmt::Display for PortClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address}:")?;
        }
        write!(f, "{}/{}", self.port, self.transport.name())
    }
}

/// Returns a diagnostic for every claim after the first one; the first stands, as nobody is
/// known to run. For checking files before any of them is in use.
#[must_use]
pub fn validate_set(set: &[(String, Located)]) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    for duplicate in duplicates(set) {
        let first = duplicate.by.first().and_then(|at| set.get(*at));
        let Some((first_file, first)) = first else {
            continue;
        };
        let later = duplicate.by.iter().skip(1).filter_map(|at| set.get(*at));
        for (file, located) in later {
            out.push(refusal(
                &duplicate.claim,
                (file, located),
                (first_file, first),
            ));
        }
    }
    out.extend(super::circles::circles(set));
    out
}

/// Returns what a newcomer is told whose claim another holds; both as (file, spec).
#[must_use]
pub fn refusal(claim: &Claim, newcomer: (&str, &Located), holder: (&str, &Located)) -> Diagnostic {
    let (path, message, code) = match claim {
        Claim::Name(name) => (
            "metadata.name".to_owned(),
            format!("the name `{name}` is taken"),
            Code::DuplicateName,
        ),
        Claim::Volume(volume) => (
            volume_path(newcomer.1, volume),
            format!("the volume `{volume}` belongs to another container"),
            Code::DuplicateVolume,
        ),
        Claim::Port(port) => (
            port_path(newcomer.1, port),
            format!("the host's port {port} leads to another container"),
            Code::DuplicatePort,
        ),
        Claim::Address(address) => (
            "spec.network.address".to_owned(),
            format!("the address {address} belongs to another container"),
            Code::DuplicateAddress,
        ),
    };
    let holder_name = &holder.1.spec.metadata.name;
    let note = format!("held by `{holder_name}`, {}:{}", holder.0, holder.1.line);
    let help = match claim {
        Claim::Name(_) | Claim::Volume(_) => "choose another name here",
        Claim::Port(_) => "choose another port here",
        Claim::Address(_) => "choose another address here, or none",
    };
    let fault = Fault::new(code, message).note(note).help(help);
    fault.at(newcomer.0, newcomer.1.places.value(&path))
}

fn volume_path(located: &Located, volume: &VolumeName) -> String {
    let mounts = &located.spec.spec.mounts;
    let at = mounts
        .iter()
        .position(|mount| mount.volume.as_ref() == Some(volume));
    format!("spec.mounts[{}].volume", at.unwrap_or_default())
}

fn port_path(located: &Located, claim: &PortClaim) -> String {
    let at = ports_of(&located.spec)
        .iter()
        .position(|own| own.meets(claim));
    format!("spec.network.ports[{}].host", at.unwrap_or_default())
}
