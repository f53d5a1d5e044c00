//! What a table says, life by life.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use specs::desired::{Port, Transport};

use super::expr::{DEVICE_BYTES, Verdict};
use super::life::{protocol, read_chain};
use super::model::{Chain, Datum, Element, Model, Set};
use super::shared::{Named, are_same, chain_name, leaf_of};
use super::{LifeObserved, TableObserved};

/// What one element says, where it can say something.
enum Says<'a> {
    Policy(Speaker<'a>),
    Speaks(Speaker<'a>),
    Ours(Ipv4Addr),
    Own(Ipv4Addr),
    Host(Speaker<'a>),
    Leads(Port, Ipv4Addr),
    /// It is of a life, but none that we would write for it.
    Wrong,
}

/// A device and the address behind it.
type Speaker<'a> = (&'a str, Ipv4Addr);

/// What all elements and the chain of one life say.
#[derive(Default)]
struct Sayings<'a> {
    policy: Vec<Speaker<'a>>,
    speaks: Vec<Speaker<'a>>,
    ours: Vec<Ipv4Addr>,
    own: Vec<Ipv4Addr>,
    host: Vec<Speaker<'a>>,
    leads: Vec<(Port, Ipv4Addr)>,
    is_wrong: bool,
}

/// Returns what a table says.
pub(super) fn observe(model: Option<&Model>, shared: &[Named]) -> TableObserved {
    let Some(model) = model else {
        return TableObserved::default();
    };
    TableObserved {
        shared: is_whole(model, shared) && strays(model).is_empty(),
        lives: lives(model, |_| true),
    }
}

/// Returns what a table says of the lives that are asked for.
pub(super) fn lives(
    model: &Model,
    is_asked: impl Fn(&str) -> bool,
) -> BTreeMap<String, LifeObserved> {
    let mut all: BTreeMap<&str, Sayings<'_>> = BTreeMap::new();
    for (set, elements) in &model.sets {
        for (key, element) in elements {
            if let Some(leaf) = element.leaf.as_deref().filter(|leaf| is_asked(leaf))
                && let Some(says) = says(*set, key, element)
            {
                all.entry(leaf).or_default().add(says);
            }
        }
    }
    for leaf in model.chains.keys().filter_map(|name| leaf_of(name)) {
        if is_asked(leaf) {
            all.entry(leaf).or_default();
        }
    }
    all.into_iter()
        .map(|(leaf, sayings)| (leaf.to_owned(), sayings.conclude(leaf, model)))
        .collect()
}

/// Returns whether sets and chains of the shared part are all there, as they shall be, and
/// none beside them but those of lives.
pub(super) fn is_whole(model: &Model, shared: &[Named]) -> bool {
    let wanted: BTreeSet<&str> = shared.iter().map(|(name, _)| *name).collect();
    let is_ours = |(name, chain): (&String, &Chain)| {
        wanted.contains(name.as_str()) || leaf_of(name).is_some() && chain.hook.is_none()
    };
    !model.is_crooked
        && Set::ALL.iter().all(|set| model.sets.contains_key(set))
        && model.chains.iter().all(is_ours)
        && shared.iter().all(|(name, chain)| {
            let found = model.chains.get(*name);
            found.is_some_and(|found| {
                found.hook == chain.hook && are_same(&found.rules, &chain.rules)
            })
        })
}

/// Returns the elements that are nobody's.
pub(super) fn strays(model: &Model) -> Vec<(Set, Vec<u8>)> {
    let mut strays = Vec::new();
    for (set, elements) in &model.sets {
        for (key, element) in elements {
            if element.leaf.is_none() || says(*set, key, element).is_none() {
                strays.push((*set, key.clone()));
            }
        }
    }
    strays
}

/// Returns whether an element is one that we would write for its life, as far as the element
/// alone shows.
pub(super) fn is_sound(set: Set, key: &[u8], element: &Element) -> bool {
    element.leaf.is_some() && !matches!(says(set, key, element), None | Some(Says::Wrong))
}

impl<'a> Sayings<'a> {
    fn add(&mut self, says: Says<'a>) {
        match says {
            Says::Policy(speaker) => self.policy.push(speaker),
            Says::Speaks(speaker) => self.speaks.push(speaker),
            Says::Ours(address) => self.ours.push(address),
            Says::Own(address) => self.own.push(address),
            Says::Host(speaker) => self.host.push(speaker),
            Says::Leads(port, target) => self.leads.push((port, target)),
            Says::Wrong => self.is_wrong = true,
        }
    }

    fn conclude(self, leaf: &str, model: &Model) -> LifeObserved {
        let chain = model.chains.get(&chain_name(leaf));
        let read = chain.and_then(|chain| read_chain(leaf, chain));
        let asks_host = read.as_ref().is_some_and(|(_, egress)| egress.host);
        let speaker = match self.policy.as_slice() {
            [speaker] if !self.is_wrong => Some(speaker),
            _ => None,
        };
        let speaker = speaker.filter(|(_, address)| {
            self.speaks == self.policy
                && self.ours == [*address]
                && self.own == [*address]
                && (self.host == self.policy || self.host.is_empty() && !asks_host)
                && self.leads.iter().all(|(_, target)| target == address)
        });
        let lets_host = !self.host.is_empty();
        let egress = read.and_then(|(own, egress)| {
            let is_own = speaker.is_none_or(|(_, address)| *address == own);
            (is_own && egress.host == lets_host).then_some(egress)
        });
        LifeObserved {
            device: speaker.map(|(device, _)| (*device).to_owned()),
            address: speaker.map(|(_, address)| *address),
            ports: self.leads.iter().map(|(port, _)| *port).collect(),
            egress,
        }
    }
}

fn says<'a>(set: Set, key: &'a [u8], element: &Element) -> Option<Says<'a>> {
    if element.datum == Datum::Foreign {
        return Some(Says::Wrong);
    }
    match set {
        Set::Policy => {
            let leaf = element.leaf.as_deref()?;
            let own = Verdict::Goto(chain_name(leaf));
            if element.datum == Datum::Verdict(own) {
                speaker(key).map(Says::Policy)
            } else {
                Some(Says::Wrong)
            }
        }
        Set::Speakers => speaker(key).map(Says::Speaks),
        Set::Host => speaker(key).map(Says::Host),
        Set::Ours => address(key).map(Says::Ours),
        Set::Own => {
            let (first, second) = key.split_first_chunk::<4>()?;
            if second == first {
                Some(Says::Own(Ipv4Addr::from(*first)))
            } else {
                Some(Says::Wrong)
            }
        }
        Set::Any => leads(None, key, element),
        Set::Bound => {
            let (bound, key) = key.split_first_chunk::<4>()?;
            leads(Some(Ipv4Addr::from(*bound)), key, element)
        }
    }
}

fn leads(bound: Option<Ipv4Addr>, key: &[u8], element: &Element) -> Option<Says<'static>> {
    let Datum::Value(target) = &element.datum else {
        return None;
    };
    let (target, container) = target.split_first_chunk::<4>()?;
    let [number, 0, 0, 0, host @ ..] = key else {
        return None;
    };
    let all = [Transport::Tcp, Transport::Udp];
    let port = Port {
        transport: all.into_iter().find(|one| protocol(*one) == *number)?,
        address: bound,
        host: port_number(host)?,
        container: port_number(container)?,
    };
    Some(Says::Leads(port, Ipv4Addr::from(*target)))
}

fn port_number(bytes: &[u8]) -> Option<u16> {
    match bytes {
        [high, low, 0, 0] => Some(u16::from_be_bytes([*high, *low])).filter(|port| *port != 0),
        _ => None,
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = bytes.try_into().ok()?;
    Some(Ipv4Addr::from(octets))
}

fn speaker(key: &[u8]) -> Option<Speaker<'_>> {
    let (name, rest) = key.split_first_chunk::<DEVICE_BYTES>()?;
    let end = name.iter().position(|byte| *byte == 0)?;
    let (name, padding) = name.split_at_checked(end)?;
    let is_padded = padding.iter().all(|byte| *byte == 0);
    let name = std::str::from_utf8(name).ok().filter(|_| is_padded)?;
    Some((name, address(rest)?))
}
