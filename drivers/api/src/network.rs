use alloc::collections::BTreeSet;
use core::net::Ipv4Addr;

use specs::desired::{Egress, Port};

use crate::Fact;

/// What connects one life to the network. All of it absent where the container has no
/// network of its own that reaches the host, and after its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkObserved {
    /// The pair of devices between container and host.
    pub link: Fact<LinkObserved>,
    /// What the packet filter knows of this life.
    pub rules: Fact<RulesObserved>,
    /// Whether the host passes packets on between its devices (`net.ipv4.ip_forward`).
    pub forwarding: Fact<bool>,
}

/// The pair of devices between a container and its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkObserved {
    /// Address of the end inside; none while it has none, or more than one.
    pub address: Option<Ipv4Addr>,
    /// Largest packet in bytes; none while the two ends differ.
    pub mtu: Option<u32>,
    /// Both ends are up, each knows the other's hardware address, the host has a route to
    /// `address` through it, and the container its default route.
    pub whole: bool,
}

/// What the packet filter knows of one life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RulesObserved {
    /// The chains, sets and rules that all containers share are as they shall be.
    pub shared: bool,
    /// The address that may speak from the life's device; none while none may.
    pub address: Option<Ipv4Addr>,
    /// Ports that lead to it.
    pub ports: BTreeSet<Port>,
    /// Where it may speak to; none while its chain is missing or is none that we wrote.
    pub egress: Option<Egress>,
    /// Host ports that are held for it, so that nobody else on the host takes them.
    pub reserved: BTreeSet<Port>,
}

impl NetworkObserved {
    /// Nothing of it is there.
    pub const ABSENT: Self = Self {
        link: Fact::Absent,
        rules: Fact::Absent,
        forwarding: Fact::Absent,
    };
}
