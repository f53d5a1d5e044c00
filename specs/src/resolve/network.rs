//! The network of a container, with nothing left to decide.

use super::{Choices, needs_address};
use crate::config::NetworkDefaults;
use crate::desired::{Egress, Flow, Isolated, Names, Network, Port, Range, Traffic, Transport};
use crate::diagnostic::Code;
use crate::parse::faults::Fault;
use crate::spec::{self, NetworkMode, Protocol, Spec};
use crate::units::{IcmpNumber, Ports};

/// The port that resolvers listen on.
const DNS_PORT: u16 = 53;

/// Returns the network namespace.
pub(super) fn network(spec: &Spec, choices: &Choices<'_>) -> Result<Network, Fault> {
    let network = spec.spec.network.as_ref();
    match network.and_then(|network| network.mode) {
        None | Some(NetworkMode::None) => Ok(Network::None),
        Some(NetworkMode::Host) => Ok(Network::Host),
        Some(NetworkMode::Isolated) => {
            let own = network.and_then(|network| network.address);
            let Some(address) = own.map(|own| own.0).or(choices.address) else {
                let fault = Fault::new(Code::NoAddress, "no address is free for this container");
                return Err(fault.help("add a network to `pools.addresses` in config.yaml"));
            };
            let mtu = network.and_then(|network| network.mtu);
            let mtu = mtu.unwrap_or(choices.defaults.network.mtu);
            Ok(Network::Isolated(Isolated { address, mtu }))
        }
    }
}

/// Returns how others are found by name.
pub(super) fn names(spec: &Spec, choices: &Choices<'_>) -> Option<Names> {
    let network = spec.spec.network.as_ref().filter(|_| needs_address(spec))?;
    let dns = network.dns.clone().unwrap_or_default();
    let own: Vec<_> = dns.servers.iter().map(|server| server.0).collect();
    let hosts = network.hosts.iter();
    Some(Names {
        servers: if own.is_empty() {
            choices.defaults.network.dns.clone()
        } else {
            own
        },
        search: dns.search,
        options: dns.options,
        hosts: hosts.map(|(name, to)| (name.clone(), to.0)).collect(),
    })
}

/// Returns the published ports, sorted.
pub(super) fn ports(spec: &Spec) -> Vec<Port> {
    let network = spec.spec.network.as_ref();
    let given = network.map_or(&[][..], |network| &network.ports);
    let mut out: Vec<Port> = given.iter().map(port).collect();
    out.sort();
    out
}

fn port(port: &spec::Port) -> Port {
    Port {
        transport: match port.protocol {
            None | Some(spec::PortProtocol::Tcp) => Transport::Tcp,
            Some(spec::PortProtocol::Udp) => Transport::Udp,
        },
        address: Some(port.address.0).filter(|address| !address.is_unspecified()),
        host: port.host,
        container: port.container.unwrap_or(port.host),
    }
}

/// Returns where it may speak to. Flows that are logged come first, so that a wider one does
/// not keep them from it.
pub(super) fn egress(spec: &Spec, names: Option<&Names>, host: &NetworkDefaults) -> Egress {
    let Some(names) = names else {
        return Egress::default();
    };
    let network = spec.spec.network.as_ref();
    let given = network.and_then(|network| network.egress.clone());
    let given = given.unwrap_or_default();
    let mut allow: Vec<Flow> = given.allow.iter().flat_map(flows).collect();
    let all = |to: &Range| Flow {
        to: *to,
        traffic: Traffic::All,
        log: false,
    };
    allow.extend(host.allow.iter().map(all));
    if given.dns.unwrap_or(false) {
        let ask = |server, transport| Flow {
            to: Range::one(server),
            traffic: Traffic::Ports(transport, DNS_PORT, DNS_PORT),
            log: false,
        };
        let both = |server| [ask(server, Transport::Udp), ask(server, Transport::Tcp)];
        allow.extend(names.servers.iter().copied().flat_map(both));
    }
    allow.sort_by_key(|flow| (!flow.log, *flow));
    allow.dedup();
    Egress {
        deny: host.deny.clone(),
        allow,
        otherwise_allow: given.default == Some(spec::EgressDefault::Allow),
        host: host.host_access,
    }
}

/// One rule with several ranges of ports is as many flows.
fn flows(rule: &spec::Allow) -> Vec<Flow> {
    let ports = |transport| {
        let range = |ports: &Ports| Traffic::Ports(transport, ports.0, ports.1);
        rule.ports.iter().map(range).collect()
    };
    let any = |number: Option<IcmpNumber>| number.and_then(|number| number.0);
    let traffic = match rule.protocol {
        None | Some(Protocol::Tcp) => ports(Transport::Tcp),
        Some(Protocol::Udp) => ports(Transport::Udp),
        Some(Protocol::Icmp) => vec![Traffic::Icmp(any(rule.icmp_type), any(rule.icmp_code))],
        Some(Protocol::All) => vec![Traffic::All],
    };
    let flow = |traffic| Flow {
        to: rule.to.0,
        traffic,
        log: rule.log.unwrap_or(false),
    };
    traffic.into_iter().map(flow).collect()
}
