//! Who holds what only one container can have: a named volume, a port of the host, an
//! address. The one that has it keeps it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;

use specs::diagnostic::plain;
use specs::id::{Key, VolumeName};
use specs::resolve::needs_address;
use specs::spec::Spec;
use specs::validate::{PortClaim, address_of, ports_of};

use crate::ledger::{self, Ledger};
use crate::reading::{Document, Reading, Refusal};

/// What only one container can have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Thing {
    /// A named volume.
    Volume(VolumeName),
    /// A port of the host.
    Port(PortClaim),
    /// An address, named by the spec or given to it.
    Address(Ipv4Addr),
}

/// A thing that another container holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    /// What.
    pub(crate) thing: Thing,
    /// Who holds it.
    pub(crate) holder: Key,
    /// Why the newcomer is refused, in words.
    pub(crate) why: String,
    /// Line of the document that wants it.
    pub(crate) line: u32,
}

/// Things with those that hold them. Several hold one only where they did before that was a
/// rule: none of them is refused what it has.
type Held = BTreeMap<Slot, Vec<Holding>>;

#[derive(Debug)]
struct Holding {
    thing: Thing,
    key: Key,
    place: String,
}

/// Things that may meet.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Slot {
    Volume(VolumeName),
    Port(specs::desired::Transport, u16),
    Address(Ipv4Addr),
}

/// Returns the files that claim what another container holds, with the first such thing.
///
/// A container whose new text, which stands, names a port or an address no more has let go of
/// it: two may exchange theirs at once. A volume is let go of when nothing of the container is
/// left on the host.
pub(crate) fn losers(
    ledger: &Ledger,
    readings: &BTreeMap<&str, &Reading>,
    refused: &BTreeMap<String, Refusal>,
) -> BTreeMap<String, Taken> {
    let mut losers: BTreeMap<String, Taken> = BTreeMap::new();
    // A file that goes keeps what its containers had: look again, at most once a file.
    'again: loop {
        let stands = |path: &&str| !refused.contains_key(*path) && !losers.contains_key(*path);
        let texts: Vec<(&str, &[Document])> = readings
            .iter()
            .filter(|(path, _)| stands(path))
            .filter_map(|(path, reading)| Some((*path, reading.outcome.as_ref().ok()?.as_slice())))
            .collect();
        let mut held = held(ledger, &texts);
        for (path, documents) in texts {
            for document in documents {
                if let Some(taken) = claim(&mut held, path, document) {
                    losers.insert(path.to_owned(), taken);
                    continue 'again;
                }
            }
        }
        return losers;
    }
}

/// Returns what is held by what was accepted and goes on being so.
fn held(ledger: &Ledger, texts: &[(&str, &[Document])]) -> Held {
    let mut new: BTreeMap<&Key, Vec<Thing>> = BTreeMap::new();
    for document in texts.iter().flat_map(|(_, documents)| *documents) {
        let spec = &document.spec;
        let mut things = named(spec);
        // An address that was given without a name is kept without one.
        if needs_address(spec) && address_of(spec).is_none() {
            let kept = ledger.addresses.get(&spec.metadata.name);
            things.extend(kept.copied().map(Thing::Address));
        }
        new.insert(&spec.metadata.name, things);
    }
    let mut held = Held::new();
    for (key, entry) in ledger.entries.iter().filter(|(_, entry)| !entry.expired) {
        let place = ledger::place(&entry.head.accepted);
        let given = ledger.addresses.get(key).copied().map(Thing::Address);
        for thing in named(&entry.spec).into_iter().chain(given) {
            let names_it = |things: &Vec<Thing>| things.contains(&thing);
            let lasts = matches!(thing, Thing::Volume(_));
            if lasts || new.get(key).is_none_or(names_it) {
                hold(&mut held, thing, key, &place);
            }
        }
    }
    // What cannot be resolved is left as it is, with the address it has.
    for (key, why) in &ledger.unresolved {
        if let Some(address) = ledger.addresses.get(key) {
            hold(&mut held, Thing::Address(*address), key, why);
        }
    }
    held
}

fn hold(held: &mut Held, thing: Thing, key: &Key, place: &str) {
    let holding = Holding {
        key: key.clone(),
        place: place.to_owned(),
        thing,
    };
    held.entry(holding.thing.slot()).or_default().push(holding);
}

/// Gives a document what it names, or says what of it another holds.
fn claim(held: &mut Held, path: &str, document: &Document) -> Option<Taken> {
    let key = &document.spec.metadata.name;
    let place = format!("{path}:{}", document.line);
    for thing in named(&document.spec) {
        let holders = held.entry(thing.slot()).or_default();
        let meeting = |one: &&Holding| one.thing.meets(&thing);
        let is_own = holders
            .iter()
            .filter(meeting)
            .any(|one| one.key == *key && one.thing == thing);
        let other = holders.iter().filter(meeting).find(|one| one.key != *key);
        match other {
            Some(holder) if !is_own => return Some(taken(&thing, holder, document.line)),
            _ => hold(held, thing, key, &place),
        }
    }
    None
}

/// Returns what a spec names of these things.
fn named(spec: &Spec) -> Vec<Thing> {
    let volumes = spec.spec.mounts.iter();
    let volumes = volumes.filter_map(|one| one.volume.clone());
    let mut things: Vec<Thing> = volumes.map(Thing::Volume).collect();
    things.extend(ports_of(spec).into_iter().map(Thing::Port));
    things.extend(address_of(spec).map(Thing::Address));
    things
}

impl Thing {
    fn slot(&self) -> Slot {
        match self {
            Self::Volume(volume) => Slot::Volume(volume.clone()),
            Self::Port(port) => Slot::Port(port.transport, port.port),
            Self::Address(address) => Slot::Address(*address),
        }
    }

    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Port(one), Self::Port(other)) => one.meets(other),
            _ => self == other,
        }
    }

    /// Returns the reason of the event that tells the holder.
    pub(crate) fn contested(&self) -> &'static str {
        match self {
            Self::Volume(_) => "VolumeContested",
            Self::Port(_) => "PortContested",
            Self::Address(_) => "AddressContested",
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(volume) => write!(f, "the volume {volume}"),
            Self::Port(port) => write!(f, "the host's port {port}"),
            Self::Address(address) => write!(f, "the address {address}"),
        }
    }
}

fn taken(thing: &Thing, holder: &Holding, line: u32) -> Taken {
    let other = match thing {
        Thing::Volume(_) => "volume",
        Thing::Port(_) => "port",
        Thing::Address(_) => "address",
    };
    Taken {
        why: format!(
            "{thing} belongs to {} ({}), which stays as it is; name another {other} here, or \
             remove that container first",
            holder.key,
            plain(&holder.place)
        ),
        thing: thing.clone(),
        holder: holder.key.clone(),
        line,
    }
}
