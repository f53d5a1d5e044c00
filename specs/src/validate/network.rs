//! Laws between the fields of one container's network.

use std::net::Ipv4Addr;

use crate::diagnostic::{Code, plain};
use crate::parse::faults::{Fault, Faults};
use crate::parse::tree::{Node, Place, Value};
use crate::units::Address;

pub(super) fn laws(spec: &Node<'_>, faults: &mut Faults<'_>) {
    let Some(network) = spec.get("network") else {
        return;
    };
    let mode = network.get("mode").and_then(Node::text);
    let unconnected = [None, Some("none"), Some("host")].contains(&mode);
    for entry in network.entries().iter().filter(|_| unconnected) {
        let field = &*entry.key.text;
        if ["address", "mtu", "ports", "egress", "dns", "hosts"].contains(&field) {
            let message = format!("`{field}` has no effect without `mode: isolated`");
            let help = "write `mode: isolated`, or remove it";
            let fault = Fault::new(Code::NoEffect, message).help(help);
            faults.push(entry.key_place, fault);
        }
    }
    repeated_ports(network, faults);
    let rules = network.get("egress").and_then(|egress| egress.get("allow"));
    for rule in rules.map_or(&[][..], Node::items) {
        traffic(rule, faults);
    }
}

/// A published port: protocol, number, and the address it is bound to, if to one.
type Published = (String, u64, Option<Ipv4Addr>);

fn published(port: &Node<'_>) -> Option<(Published, Place)> {
    let host = port.get("host")?;
    let number = host.text()?.parse().ok()?;
    let protocol = port.get("protocol").and_then(Node::text).unwrap_or("tcp");
    let address = port.get("address").and_then(Node::text);
    let address = address.and_then(|text| text.parse::<Address>().ok());
    let address = address.map(|address| address.0);
    let bound = address.filter(|address| !address.is_unspecified());
    Some(((protocol.to_owned(), number, bound), host.place))
}

/// A port on every address meets one on any of them.
fn repeated_ports(network: &Node<'_>, faults: &mut Faults<'_>) {
    let ports = network.get("ports").map_or(&[][..], Node::items);
    let mut seen: Vec<(Published, Place)> = Vec::new();
    for (published, place) in ports.iter().filter_map(published) {
        let meets = |earlier: &Published| {
            let both = earlier.2.zip(published.2);
            (&earlier.0, earlier.1) == (&published.0, published.1)
                && both.is_none_or(|(a, b)| a == b)
        };
        if let Some((_, first)) = seen.iter().find(|(earlier, _)| meets(earlier)) {
            let (protocol, number, _) = &published;
            let message = format!("the host's port {number} ({}) twice", plain(protocol));
            let fault = Fault::new(Code::Repeated, message)
                .note(format!("first given on line {}", first.line))
                .help("remove one of the two");
            faults.push(place, fault);
        } else {
            seen.push((published, place));
        }
    }
}

/// Every rule says all of what it opens: one that was cut off opens nothing more.
fn traffic(rule: &Node<'_>, faults: &mut Faults<'_>) {
    let protocol = rule.get("protocol").and_then(Node::text).unwrap_or("tcp");
    let fields = [
        ("ports", ["tcp", "udp"], "write for example `ports: [443]`"),
        ("icmpType", ["icmp", "icmp"], "write a number, or `any`"),
        ("icmpCode", ["icmp", "icmp"], "write a number, or `any`"),
    ];
    for (field, with, help) in fields {
        match (rule.entry(field), with.contains(&protocol)) {
            (Some(entry), false) => {
                let message = format!("`{field}` has no effect with `protocol: {protocol}`");
                let fault = Fault::new(Code::NoEffect, plain(&message)).help("remove it");
                faults.push(entry.key_place, fault);
            }
            (None, true) if !rule.entries().is_empty() => {
                let message = format!("a rule for {protocol} needs `{field}`");
                faults.push(rule.place, Fault::new(Code::Incomplete, message).help(help));
            }
            _ => {}
        }
    }
    let ports = rule.get("ports").filter(|ports| ports.items().is_empty());
    if let Some(ports) = ports.filter(|ports| matches!(ports.value, Value::List(_))) {
        let fault = Fault::new(Code::Incomplete, "a rule with no ports allows nothing");
        faults.push(ports.place, fault.help("write for example `ports: [443]`"));
    }
}
