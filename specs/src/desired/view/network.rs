//! The network, in the shape of a spec.

use std::net::Ipv4Addr;

use serde_json::{Map, Value, json};

use crate::desired::{Desired, Flow, Names, Network, Port, Traffic, Transport};
use crate::units::{IcmpNumber, Ports, Target};

/// Returns the network as a spec would say it.
pub(super) fn view(desired: &Desired) -> Value {
    let isolated = match desired.container.network {
        Network::None => return json!({"mode": "none"}),
        Network::Host => return json!({"mode": "host"}),
        Network::Isolated(isolated) => isolated,
    };
    let names = desired.names.clone().unwrap_or_default();
    let own = desired.egress.allow.iter();
    let own = own.filter(|flow| !is_question(flow, &names));
    let hosts = names.hosts.iter();
    let hosts: Map<String, Value> = hosts
        .map(|(name, to)| (name.clone(), json!(to.to_string())))
        .collect();
    json!({
        "mode": "isolated",
        "address": isolated.address.to_string(),
        "mtu": isolated.mtu,
        "ports": desired.ports.iter().map(port).collect::<Vec<_>>(),
        "egress": {
            "default": if desired.egress.otherwise_allow { "allow" } else { "deny" },
            "dns": asks_resolvers(desired, &names),
            "allow": own.map(flow).collect::<Vec<_>>(),
        },
        "dns": {
            "servers": names.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "search": names.search,
            "options": names.options,
        },
        "hosts": hosts,
    })
}

/// Whether a flow lets a resolver be asked, as `egress.dns` does.
fn is_question(flow: &Flow, names: &Names) -> bool {
    matches!(flow.traffic, Traffic::Ports(_, 53, 53))
        && !flow.log
        && flow.to.first == flow.to.last
        && names.servers.contains(&flow.to.first)
}

/// Whether there are resolvers, and every one may be asked.
fn asks_resolvers(desired: &Desired, names: &Names) -> bool {
    let allow = desired.egress.allow.iter();
    let questions = allow.filter(|flow| is_question(flow, names)).count();
    questions > 0 && questions >= 2 * names.servers.len()
}

fn port(port: &Port) -> Value {
    json!({
        "host": port.host,
        "container": port.container,
        "protocol": port.transport.name(),
        "address": port.address.unwrap_or(Ipv4Addr::UNSPECIFIED).to_string(),
    })
}

fn flow(flow: &Flow) -> Value {
    let mut out = Map::new();
    out.insert("to".to_owned(), json!(Target(flow.to).to_string()));
    let (protocol, ports) = match flow.traffic {
        Traffic::All => ("all", None),
        Traffic::Ports(Transport::Tcp, first, last) => ("tcp", Some((first, last))),
        Traffic::Ports(Transport::Udp, first, last) => ("udp", Some((first, last))),
        Traffic::Icmp(..) => ("icmp", None),
    };
    out.insert("protocol".to_owned(), json!(protocol));
    if let Some((first, last)) = ports {
        out.insert("ports".to_owned(), json!([Ports(first, last).to_string()]));
    }
    if let Traffic::Icmp(kind, code) = flow.traffic {
        let number = |number| json!(IcmpNumber(number).to_string());
        out.insert("icmpType".to_owned(), number(kind));
        out.insert("icmpCode".to_owned(), number(code));
    }
    if flow.log {
        out.insert("log".to_owned(), json!(true));
    }
    Value::Object(out)
}
