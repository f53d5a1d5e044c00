//! Laws between the fields of a configuration.

use std::net::Ipv4Addr;

use crate::desired::Range;
use crate::diagnostic::{Code, plain};
use crate::fields::is_below;
use crate::parse::faults::{Fault, Faults};
use crate::parse::tree::Node;
use crate::units::{ID_MAX, Subnet};

pub(super) fn laws(documents: &[&Node<'_>], faults: &mut Faults<'_>) {
    if let Some(second) = documents.get(1) {
        let fault = Fault::new(Code::NoDocument, "a configuration is one document");
        faults.push(second.place, fault.help("remove what follows `---`"));
    }
    for document in documents {
        if let Some(pools) = document.get("pools") {
            id_pools(pools, faults);
            address_pools(pools, faults);
        }
        rules(document.get("policy").map_or(&[], Node::items), faults);
        socket(document, faults);
    }
}

fn number(node: &Node<'_>, field: &str) -> Option<u64> {
    node.get(field)?.text()?.parse().ok()
}

fn id_pools(pools: &Node<'_>, faults: &mut Faults<'_>) {
    let share = number(pools, "idsPerContainer").unwrap_or(65_536);
    let mut seen: Vec<(u64, u64)> = Vec::new();
    for pool in pools.get("ids").map_or(&[][..], Node::items) {
        let (Some(first), Some(count)) = (number(pool, "first"), number(pool, "count")) else {
            continue;
        };
        let Some(end) = first.checked_add(count) else {
            continue;
        };
        let wrong = if end > u64::from(ID_MAX) + 1 {
            "the pool ends above 2147483647"
        } else if count < share {
            "the pool holds less than one container's share"
        } else if seen.iter().any(|(from, to)| first < *to && *from < end) {
            "the pool overlaps an earlier one"
        } else {
            seen.push((first, end));
            continue;
        };
        let help = format!("each container gets {share} ids (`pools.idsPerContainer`)");
        faults.push(pool.place, Fault::new(Code::ConfigPool, wrong).help(help));
    }
}

fn address_pools(pools: &Node<'_>, faults: &mut Faults<'_>) {
    let mut seen: Vec<Range> = Vec::new();
    for pool in pools.get("addresses").map_or(&[][..], Node::items) {
        let Some(Subnet(range)) = pool.text().and_then(|text| text.parse().ok()) else {
            continue;
        };
        let size = u64::from(range.last.to_bits()) - u64::from(range.first.to_bits()) + 1;
        let overlaps = |other: &Range| range.first <= other.last && other.first <= range.last;
        let wrong = if !(4..=1 << 24).contains(&size) {
            "a pool has a prefix from /8 to /30"
        } else if !is_assignable(&range) {
            "these are no addresses of single hosts"
        } else if seen.iter().any(overlaps) {
            "the pool overlaps an earlier one"
        } else {
            seen.push(range);
            continue;
        };
        let help = "choose a private network that nobody here uses, such as `10.254.0.0/16`";
        faults.push(
            pool.place,
            Fault::new(Code::ConfigAddresses, wrong).help(help),
        );
    }
}

/// Whether hosts may have these addresses: 0/8, 127/8, link-local ones (the gateway of every
/// container is one) and those from 224 on are none.
fn is_assignable(range: &Range) -> bool {
    let first = range.first.octets()[0];
    let link_local = Range {
        first: Ipv4Addr::new(169, 254, 0, 0),
        last: Ipv4Addr::new(169, 254, 255, 255),
    };
    let meets_link_local = range.first <= link_local.last && link_local.first <= range.last;
    first != 0 && first != 127 && first < 224 && !meets_link_local
}

/// A rule that comes after one which matches all it could match never applies.
fn rules(rules: &[Node<'_>], faults: &mut Faults<'_>) {
    let text =
        |rule: &Node<'_>, field: &str| rule.get(field).and_then(Node::text).map(str::to_owned);
    for (at, rule) in rules.iter().enumerate() {
        let (directory, owner) = (text(rule, "directory"), text(rule, "owner"));
        for earlier in rules.get(..at).unwrap_or_default() {
            let place = rule.get("name").unwrap_or(rule).place;
            let name = text(earlier, "name").unwrap_or_default();
            if text(rule, "name").as_ref() == Some(&name) {
                let message = format!("a second rule `{}`", plain(&name));
                let note = format!("first given on line {}", earlier.place.line);
                let fault = Fault::new(Code::Repeated, message).note(note);
                faults.push(place, fault.help("give it another name"));
            }
            let covers_directory = match (text(earlier, "directory"), &directory) {
                (None, _) => true,
                (Some(above), Some(below)) => is_below(below, &[&above]),
                (Some(_), None) => false,
            };
            let covers_owner = match (text(earlier, "owner"), &owner) {
                (None, _) => true,
                (earlier, own) => earlier == *own,
            };
            if covers_directory && covers_owner {
                let message = format!("the rule never applies: `{}` decides before", plain(&name));
                let help = "move it before the wider rule";
                faults.push(place, Fault::new(Code::ConfigRule, message).help(help));
                break;
            }
        }
    }
}

/// `sun_path` holds 108 bytes with its end (`unix(7)`).
fn socket(document: &Node<'_>, faults: &mut Faults<'_>) {
    let Some(paths) = document.get("paths") else {
        return;
    };
    for (field, room) in [("socket", 107), ("runtime", 107 - "/reconciler.sock".len())] {
        let Some(node) = paths.get(field) else {
            continue;
        };
        if node.text().is_some_and(|text| text.len() > room) {
            let message = format!("the path is too long for a socket: at most {room} bytes");
            let help = "choose a shorter path";
            faults.push(node.place, Fault::new(Code::Path, message).help(help));
        }
    }
}
