//! Hints from the network: what others do to the host ends of our pairs and to our table of
//! the packet filter. Where a socket cannot be had there are no hints from it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};

use driver_api::{Mark, WakeReason};
use rtnetlink::packet_core::{NLM_F_DUMP, NLM_F_MULTIPART, NLM_F_REQUEST, NetlinkBuffer};
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::sys::{Socket, SocketAddr};
use rustix::event::epoll;
use specs::id::{Instance, Key};

use super::{Shared, TOKEN_FILTER, TOKEN_LINKS};
use crate::process;

#[cfg(test)]
mod tests;

/// Bytes of one read; the kernel sends less at once.
const READ_BYTES: usize = 64 << 10;
/// Reads in one turn, so that a flood does not keep the thread from the rest.
const READS_MAX: usize = 128;

// `linux/rtnetlink.h`: groups.
const LINK: u32 = group(1);
const IPV4_IFADDR: u32 = group(5);
const IPV4_ROUTE: u32 = group(7);
const IPV4_NETCONF: u32 = group(24);
// Its kinds of messages, and the attribute that is looked for in each.
const NEWLINK: u16 = 16;
const DELLINK: u16 = 17;
const GETLINK: u16 = 18;
const IFLA_IFNAME: u16 = 3;
const NEWADDR: u16 = 20;
const DELADDR: u16 = 21;
const NEWROUTE: u16 = 24;
const DELROUTE: u16 = 25;
const RTA_OIF: u16 = 4;
const NEWNETCONF: u16 = 80;
const NETCONFA_IFINDEX: u16 = 1;
const NETCONFA_FORWARDING: u16 = 2;
/// `NETCONFA_IFINDEX_ALL`, -1.
const ALL: u32 = u32::MAX;
/// `NETCONFA_IFINDEX_DEFAULT`, -2.
const DEFAULT: u32 = u32::MAX - 1;
/// `NLA_TYPE_MASK` of `linux/netlink.h`.
const KIND_MASK: u16 = 0x3fff;

// `linux/netfilter/nfnetlink.h` and `nf_tables.h`.
const NFTABLES: u32 = group(7);
const SUBSYSTEM: u16 = 10 << 8;
const SUBSYSTEM_MASK: u16 = 0xff00;
const NEWGEN: u16 = SUBSYSTEM | 15;
/// Name of the table, in every message but that of a new generation.
const NFTA_TABLE: u16 = 1;
const NFTA_GEN_PROC_PID: u16 = 2;

/// Returns the bit of a group, counted from 1 (`netlink(7)`).
const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

/// What reading brought.
enum Heard {
    Messages,
    /// Some were lost.
    Lost,
    Nothing,
    /// The socket is of no more use.
    Broken,
}

/// A socket that the kernel tells things.
struct Ear {
    socket: Socket,
    buffer: Vec<u8>,
}

/// The devices that are ours.
struct Devices {
    /// What names of our host ends begin with.
    prefix: String,
    /// Their names by number: what concerns addresses and routes says only that.
    names: BTreeMap<u32, String>,
}

/// Our table of the packet filter.
struct Rules {
    table: String,
    /// It changed in the generation that has not ended yet.
    is_touched: bool,
}

/// The sockets, and what was learned from them. Of the waiting thread alone.
pub(super) struct Network {
    links: Option<Ear>,
    devices: Devices,
    filter: Option<Ear>,
    rules: Rules,
}

type Hints = Vec<(Option<Key>, WakeReason)>;

impl Network {
    /// Opens the sockets in the namespace of the calling thread.
    pub(super) fn open(instance: &Instance) -> Self {
        let groups = LINK | IPV4_IFADDR | IPV4_ROUTE | IPV4_NETCONF;
        Self {
            links: Ear::open(NETLINK_ROUTE, groups).ok(),
            devices: Devices {
                prefix: Mark::device_prefix(instance),
                names: BTreeMap::new(),
            },
            filter: Ear::open(NETLINK_NETFILTER, NFTABLES).ok(),
            rules: Rules {
                table: Mark::table(instance),
                is_touched: false,
            },
        }
    }

    /// Has the sockets waited for, and asks for the devices that are there already.
    pub(super) fn listen(&self, poll: &OwnedFd) {
        for (ear, token) in [(&self.links, TOKEN_LINKS), (&self.filter, TOKEN_FILTER)] {
            if let Some(ear) = ear {
                let event = epoll::EventData::new_u64(token);
                let fd = ear.socket.as_fd();
                // Refused: the resync looks.
                let _refused = epoll::add(poll, fd, event, epoll::EventFlags::IN);
            }
        }
        if let Some(links) = &self.links {
            links.list();
        }
    }

    /// Takes in what happened to devices, addresses and routes.
    pub(super) fn links(&mut self, shared: &Shared, hints: &mut Hints) {
        let Some(ear) = &mut self.links else {
            return;
        };
        for _ in 0..READS_MAX {
            match ear.hear() {
                Heard::Messages => each(&ear.buffer, |message| {
                    self.devices.told(message, shared, hints);
                }),
                Heard::Lost => {
                    hints.push((None, WakeReason::Overflow));
                    ear.list();
                }
                Heard::Nothing => return,
                Heard::Broken => {
                    // Closed, it is no longer waited for.
                    self.links = None;
                    return;
                }
            }
        }
    }

    /// Takes in what happened to the packet filter.
    pub(super) fn filter(&mut self, hints: &mut Hints) {
        let Some(ear) = &mut self.filter else {
            return;
        };
        for _ in 0..READS_MAX {
            match ear.hear() {
                Heard::Messages => each(&ear.buffer, |message| self.rules.told(message, hints)),
                Heard::Lost => hints.push((None, WakeReason::Overflow)),
                Heard::Nothing => return,
                Heard::Broken => {
                    self.filter = None;
                    return;
                }
            }
        }
    }
}

impl Ear {
    fn open(protocol: isize, groups: u32) -> io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, groups))?;
        Ok(Self {
            socket,
            buffer: Vec::with_capacity(READ_BYTES),
        })
    }

    /// Asks for every device; the answers come as if they were news, marked as an answer.
    fn list(&self) {
        // `struct nlmsghdr` and an empty `struct ifinfomsg`.
        let mut request = [0; 32];
        let mut header = NetlinkBuffer::new(&mut request);
        header.set_length(32);
        header.set_message_type(GETLINK);
        header.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
        // Refused: hints about addresses and routes wait for news of their devices.
        let _refused = self.socket.send_to(&request, &SocketAddr::new(0, 0), 0);
    }

    fn hear(&mut self) -> Heard {
        self.buffer.clear();
        let heard = self.socket.recv_from(&mut self.buffer, 0);
        match heard.map_err(|err| err.raw_os_error()) {
            Ok((_, from)) => {
                if from.port_number() != 0 {
                    // Not from the kernel.
                    self.buffer.clear();
                }
                Heard::Messages
            }
            Err(Some(libc::ENOBUFS)) => Heard::Lost,
            // Two numbers on some machines.
            Err(Some(libc::EINTR)) => Heard::Nothing,
            Err(Some(code)) if code == libc::EAGAIN || code == libc::EWOULDBLOCK => Heard::Nothing,
            Err(_) => Heard::Broken,
        }
    }
}

impl Devices {
    fn told(&mut self, message: Message<'_>, shared: &Shared, hints: &mut Hints) {
        match message.kind {
            NEWLINK | DELLINK => self.link(message, shared, hints),
            NEWADDR | DELADDR => {
                let index = message.number(4);
                self.hint(
                    index.and_then(|index| self.names.get(&index)),
                    shared,
                    hints,
                );
            }
            NEWROUTE | DELROUTE => {
                let index = message.attribute(12, RTA_OIF).and_then(number);
                self.hint(
                    index.and_then(|index| self.names.get(&index)),
                    shared,
                    hints,
                );
            }
            NEWNETCONF if message.attribute(4, NETCONFA_FORWARDING).is_some() => {
                let index = message.attribute(4, NETCONFA_IFINDEX).and_then(number);
                match index {
                    Some(ALL | DEFAULT) => hints.push((None, WakeReason::Network)),
                    Some(index) => self.hint(self.names.get(&index), shared, hints),
                    None => {}
                }
            }
            _ => {}
        }
    }

    fn link(&mut self, message: Message<'_>, shared: &Shared, hints: &mut Hints) {
        let Some(index) = message.number(4) else {
            return;
        };
        let name = message.attribute(16, IFLA_IFNAME).and_then(text);
        let name = name.filter(|name| name.starts_with(&self.prefix));
        let before = match name {
            Some(name) if message.kind == NEWLINK => self.names.insert(index, name.to_owned()),
            _ => self.names.remove(&index),
        };
        if message.flags & NLM_F_MULTIPART != 0 {
            return;
        }
        self.hint(before.as_ref(), shared, hints);
        self.hint(self.names.get(&index), shared, hints);
    }

    fn hint(&self, name: Option<&String>, shared: &Shared, hints: &mut Hints) {
        let Some(name) = name else {
            return;
        };
        let key = shared.table().devices.get(name).cloned();
        hints.extend(key.map(|key| (Some(key), WakeReason::Network)));
    }
}

impl Rules {
    /// The messages of a generation come before the one that ends it.
    fn told(&mut self, message: Message<'_>, hints: &mut Hints) {
        if message.kind & SUBSYSTEM_MASK != SUBSYSTEM {
            return;
        }
        if message.kind != NEWGEN {
            let table = message.attribute(4, NFTA_TABLE).and_then(text);
            self.is_touched |= table == Some(self.table.as_str());
            return;
        }
        let was_touched = std::mem::take(&mut self.is_touched);
        let by = message.attribute(4, NFTA_GEN_PROC_PID).and_then(number);
        if was_touched && !by.is_some_and(is_own_thread) {
            hints.push((None, WakeReason::Network));
        }
    }
}

/// Returns whether a thread is one of this process: the kernel tells which thread it was, in
/// the byte order of the network.
fn is_own_thread(id: u32) -> bool {
    process::proc_path(std::process::id(), &format!("task/{}", u32::from_be(id))).exists()
}

/// One message, its header taken off.
#[derive(Clone, Copy)]
struct Message<'a> {
    kind: u16,
    flags: u16,
    body: &'a [u8],
}

impl<'a> Message<'a> {
    /// Returns the number at a place of the fixed part.
    fn number(self, at: usize) -> Option<u32> {
        number(self.body.get(at..at + 4)?)
    }

    /// Returns an attribute behind the fixed part.
    fn attribute(self, fixed: usize, kind: u16) -> Option<&'a [u8]> {
        let mut rest = self.body.get(fixed..)?;
        // `struct nlattr`: two bytes of length with these four, two of kind, padded to four.
        loop {
            let length = usize::from(short(rest.get(0..2)?)?);
            let found = short(rest.get(2..4)?)? & KIND_MASK;
            if found == kind {
                return rest.get(4..length);
            }
            if length < 4 {
                return None;
            }
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
    }
}

fn each(mut bytes: &[u8], mut told: impl FnMut(Message<'_>)) {
    while let Ok(buffer) = NetlinkBuffer::new_checked(bytes) {
        told(Message {
            kind: buffer.message_type(),
            flags: buffer.flags(),
            body: buffer.payload(),
        });
        let length = usize::try_from(buffer.length()).unwrap_or(usize::MAX);
        let next = length.checked_next_multiple_of(4);
        let Some(rest) = next.and_then(|next| bytes.get(next..)) else {
            return;
        };
        bytes = rest;
    }
}

fn short(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_ne_bytes)
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

fn text(bytes: &[u8]) -> Option<&str> {
    let bytes = bytes.split(|byte| *byte == 0).next()?;
    std::str::from_utf8(bytes).ok()
}
