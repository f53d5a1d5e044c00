//! Ports of the host that are held for containers, so that nobody else on the host takes one
//! whose packets would never reach it.
//!
//! A held port is a socket that is bound and, for TCP, listens, behind a filter that drops
//! everything: should the packet filter be flushed, a client's first packet is lost and sent
//! again, and is neither refused nor taken by somebody who does not answer.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
use specs::desired::{Port, Transport};

use crate::sys::filter;

/// Most processes that are looked through for the holder of a socket.
const PROCESSES_MAX: usize = 100_000;
/// State of a listening socket in `/proc/net/tcp` (`TCP_LISTEN`).
const LISTENS: &str = "0A";

/// Sockets by what they hold; lost with the daemon, and made again by the next look.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    held: Mutex<BTreeMap<Slot, Held>>,
}

type Slot = (Transport, Option<Ipv4Addr>, u16);

#[derive(Debug)]
struct Held {
    /// The life it is held for.
    leaf: String,
    _socket: OwnedFd,
}

fn slot(port: &Port) -> Slot {
    (port.transport, port.address, port.host)
}

/// Whether the two can't be bound both.
fn meets(one: &Slot, other: &Slot) -> bool {
    let addresses = one.1.zip(other.1);
    (one.0, one.2) == (other.0, other.2) && addresses.is_none_or(|(one, other)| one == other)
}

impl Ports {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Slot, Held>> {
        // A panicked holder leaves a map of sockets, all of them held.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns which of some ports are held for a life.
    pub(crate) fn of(&self, leaf: &str, ports: &BTreeSet<Port>) -> BTreeSet<Port> {
        let held = self.lock();
        let is_its = |port: &&Port| held.get(&slot(port)).is_some_and(|held| held.leaf == leaf);
        ports.iter().filter(is_its).copied().collect()
    }

    /// Holds a port for a life, which may take it over from another of ours.
    ///
    /// # Errors
    /// `EADDRINUSE` when somebody else has it, `EADDRNOTAVAIL` when the host has no such
    /// address.
    pub(crate) fn hold(&self, leaf: &str, port: &Port) -> io::Result<()> {
        let mut held = self.lock();
        if let Some(held) = held.get_mut(&slot(port)) {
            leaf.clone_into(&mut held.leaf);
            return Ok(());
        }
        // Who has it for another address of the host lost its claim to this one.
        held.retain(|other, _| !meets(other, &slot(port)));
        let held_now = Held {
            leaf: leaf.to_owned(),
            _socket: reserve(port)?,
        };
        held.insert(slot(port), held_now);
        Ok(())
    }

    /// Lets go of what is held for a life beside `wanted`.
    pub(crate) fn keep(&self, leaf: &str, wanted: &[Port]) {
        let wanted: BTreeSet<Slot> = wanted.iter().map(slot).collect();
        self.lock()
            .retain(|slot, held| held.leaf != leaf || wanted.contains(slot));
    }
}

fn reserve(port: &Port) -> io::Result<OwnedFd> {
    let kind = match port.transport {
        Transport::Tcp => SocketType::STREAM,
        Transport::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(AddressFamily::INET, kind, SocketFlags::CLOEXEC, None)?;
    filter::drop_all(socket.as_fd())?;
    if port.transport == Transport::Tcp {
        // Connections of the past on this port keep nobody from it (`socket(7)`).
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    let address = port.address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    bind(&socket, &SocketAddrV4::new(address, port.host))?;
    if port.transport == Transport::Tcp {
        listen(&socket, 0)?;
    }
    Ok(socket)
}

/// Returns in words who has a port; none when nobody can be found.
pub(crate) fn holder(port: &Port) -> Option<String> {
    let tables = match port.transport {
        Transport::Tcp => ["/proc/net/tcp", "/proc/net/tcp6"],
        Transport::Udp => ["/proc/net/udp", "/proc/net/udp6"],
    };
    let inodes: BTreeSet<String> = tables
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| sockets_on(&table, port))
        .collect();
    if inodes.is_empty() {
        return None;
    }
    Some(process_with(&inodes).unwrap_or_else(|| "a socket whose process cannot be seen".into()))
}

/// Returns the inodes of the sockets that a table of `/proc/net` shows on a port.
fn sockets_on(table: &str, port: &Port) -> Vec<String> {
    let wanted = format!(":{:04X}", port.host);
    let line = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        let listens = port.transport == Transport::Udp || state == LISTENS;
        (local.ends_with(&wanted) && listens).then(|| inode.to_owned())
    };
    table.lines().skip(1).filter_map(line).collect()
}

/// Returns the first process that has one of these sockets, in words.
fn process_with(inodes: &BTreeSet<String>) -> Option<String> {
    let links: BTreeSet<String> = inodes.iter().map(|one| format!("socket:[{one}]")).collect();
    for entry in fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX) {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else {
            continue;
        };
        let mut targets = descriptors
            .flatten()
            .filter_map(|one| fs::read_link(one.path()).ok());
        if targets.any(|target| target.to_str().is_some_and(|target| links.contains(target))) {
            let comm = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            // The name is the process' own choice.
            let comm: String = comm.trim().chars().filter(|c| !c.is_control()).collect();
            return Some(format!("process {pid} ({comm})"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, UdpSocket};

    fn port(transport: Transport, host: u16) -> Port {
        Port {
            transport,
            address: Some(Ipv4Addr::LOCALHOST),
            host,
            container: 80,
        }
    }

    #[test]
    fn a_held_port_is_nobody_elses_and_answers_nobody() {
        let ports = Ports::default();
        // A port that is free now, found by the kernel.
        let found = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        for transport in [Transport::Tcp, Transport::Udp] {
            let port = port(transport, found);
            let held = BTreeSet::from([port]);
            ports.hold("web.1", &port).unwrap();
            assert_eq!(ports.of("web.1", &held), held);
            let taken = match transport {
                Transport::Tcp => TcpListener::bind(("127.0.0.1", found)).map(|_| ()),
                Transport::Udp => UdpSocket::bind(("127.0.0.1", found)).map(|_| ()),
            };
            assert_eq!(taken.unwrap_err().kind(), io::ErrorKind::AddrInUse);
            let me = format!("process {}", std::process::id());
            assert!(holder(&port).unwrap().starts_with(&me));
            // Another life takes it over, and the first has nothing to let go of.
            ports.hold("web.2", &port).unwrap();
            ports.keep("web.1", &[]);
            assert_eq!(ports.of("web.2", &held), held);
            ports.keep("web.2", &[]);
            assert_eq!(ports.of("web.2", &held), BTreeSet::new());
        }
        let _free = TcpListener::bind(("127.0.0.1", found)).unwrap();
    }

    #[test]
    fn a_port_is_held_on_another_address_at_once() {
        let ports = Ports::default();
        let found = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let bound = port(Transport::Tcp, found);
        let every = Port {
            address: None,
            ..bound
        };
        ports.hold("web.1", &bound).unwrap();
        ports.hold("web.1", &every).unwrap();
        ports.hold("db.1", &bound).unwrap();
        assert_eq!(ports.of("db.1", &BTreeSet::from([bound])).len(), 1);
        assert_eq!(ports.of("web.1", &BTreeSet::from([every])).len(), 0);
    }

    #[test]
    fn a_client_of_a_held_port_is_neither_taken_nor_refused() {
        let ports = Ports::default();
        let found = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        ports
            .hold("web.1", &port(Transport::Tcp, found.port()))
            .unwrap();
        let tried =
            std::net::TcpStream::connect_timeout(&found, std::time::Duration::from_millis(200));
        assert_eq!(tried.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_port_of_somebody_else_is_named() {
        let theirs = UdpSocket::bind("127.0.0.1:0").unwrap();
        let number = theirs.local_addr().unwrap().port();
        let refused = Ports::default().hold("web.1", &port(Transport::Udp, number));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(holder(&port(Transport::Udp, number)).is_some());
    }
}
