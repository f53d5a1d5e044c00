//! The network, as written.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Address, AnyAddress, IcmpNumber, Ports, Target};

/// The container's network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Network {
    /// `none` is a network of its own with a loopback and nothing else. `isolated` is one of
    /// its own with an IPv4 address that the host routes to; what may pass is said by `ports`
    /// and `egress`. `host` shares the host's; with its own user namespace the container then
    /// sees `/sys` read-only, and cannot bind ports below 1024, because the host's network
    /// belongs to the host's user namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<NetworkMode>,
    /// Its address, from `pools.addresses` of the config. Without it one is chosen, and kept for
    /// as long as the container is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Address>,
    /// Largest packet in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 576, max = 65535))]
    pub mtu: Option<u32>,
    /// Ports of the host that lead to it, from outside, from the host itself and from other
    /// containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Where it may speak to. Replies are always allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Egress>,
    /// Who resolves names: the content of `/etc/resolv.conf`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<Dns>,
    /// Names and their addresses, beside its own, in `/etc/hosts`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub hosts: BTreeMap<String, AnyAddress>,
}

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum NetworkMode {
    /// Its own, with a loopback only.
    None,
    /// The host's.
    Host,
    /// Its own, connected to the host.
    Isolated,
}

/// A port of the host that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// Port on the host. It belongs to this container alone.
    #[schemars(range(min = 1, max = 65535))]
    pub host: u16,
    /// Port in the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub container: Option<u16>,
    /// Protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<PortProtocol>,
    /// Address of the host that it is bound to: `0.0.0.0` for every one of them, `127.0.0.1` for
    /// the host alone.
    pub address: Address,
}

/// Protocol of a published port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum PortProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where a container may speak to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Egress {
    /// What becomes of what `allow` does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<EgressDefault>,
    /// The container's own resolvers, those of `dns`, may be asked on port 53.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<bool>,
    /// What is allowed. Destinations are those that a process dials, also where they are
    /// published ports of the host.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<Allow>,
}

/// What becomes of a destination that no rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum EgressDefault {
    /// It is refused.
    Deny,
    /// It is allowed.
    Allow,
}

/// One rule of what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Allow {
    /// An address, a network or a range of addresses.
    pub to: Target,
    /// Ports and ranges of ports; `1-65535` for all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Ports>,
    /// Protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// ICMP type, for example 8 for an echo request, or `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<IcmpNumber>,
    /// ICMP code, for example 0 for an echo request, or `any`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<IcmpNumber>,
    /// The first packet of each connection is written to the kernel's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<bool>,
}

/// Protocol of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
    /// Any.
    All,
}

/// Who resolves names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Dns {
    /// Resolvers, in the order they are asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub servers: Vec<Address>,
    /// Domains that short names are looked up in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options as in resolv.conf(5), for example `ndots:2`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}
