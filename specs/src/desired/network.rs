//! The network of one container.

use std::fmt;
use std::net::Ipv4Addr;

/// Network namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Network {
    /// Its own, with a loopback and nothing else.
    None,
    /// The host's.
    Host,
    /// Its own, connected to the host by a pair of devices.
    Isolated(Isolated),
}

/// A network of the container's own that the host routes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Isolated {
    /// Its address; no other container of the host has it.
    pub address: Ipv4Addr,
    /// Largest packet, bytes, 576 to 65535.
    pub mtu: u32,
}

/// A port of the host that leads to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// Protocol.
    pub transport: Transport,
    /// Address of the host it is bound to; none for every address of the host.
    pub address: Option<Ipv4Addr>,
    /// Port on the host, 1 to 65535.
    pub host: u16,
    /// Port in the container, 1 to 65535.
    pub container: u16,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Where a container may speak to. Destinations are those that a process dials, before a
/// published port leads elsewhere. Replies are always allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// Destinations that are refused whatever is allowed.
    pub deny: Vec<Range>,
    /// What is allowed, in this order.
    pub allow: Vec<Flow>,
    /// What is not allowed by name is allowed all the same.
    pub otherwise_allow: bool,
    /// Ports of the host's own that are not published may be spoken to, where `allow` or
    /// `otherwise_allow` says so; else they are refused.
    pub host: bool,
}

/// Addresses, ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Range {
    /// First address.
    pub first: Ipv4Addr,
    /// Last address, not below the first.
    pub last: Ipv4Addr,
}

/// One kind of connection that a container may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// To where.
    pub to: Range,
    /// What.
    pub traffic: Traffic,
    /// Its first packet is written to the kernel's log.
    pub log: bool,
}

/// What a flow carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Traffic {
    /// Anything.
    All,
    /// A protocol with ports, first to last.
    Ports(Transport, u16, u16),
    /// ICMP of this type and code; none for all of them. A code needs a type.
    Icmp(Option<u8>, Option<u8>),
}

impl Network {
    /// Returns whether it is a namespace of the container's own.
    #[must_use]
    pub fn is_own(&self) -> bool {
        !matches!(self, Self::Host)
    }

    /// Returns the connection to the host, where there is one.
    #[must_use]
    pub fn isolated(&self) -> Option<&Isolated> {
        match self {
            Self::Isolated(isolated) => Some(isolated),
            Self::None | Self::Host => None,
        }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(address) = self.address {
            write!(f, "{address}:")?;
        }
        write!(f, "{}/{}", self.host, self.transport.name())
    }
}

impl Range {
    /// Every address there is.
    pub const ALL: Self = Self {
        first: Ipv4Addr::UNSPECIFIED,
        last: Ipv4Addr::BROADCAST,
    };

    /// Returns a range that holds one address.
    #[must_use]
    pub fn one(address: Ipv4Addr) -> Self {
        Self {
            first: address,
            last: address,
        }
    }

    /// Returns whether an address is in it.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

impl Transport {
    /// Returns the protocol's name as a spec has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}
