//! Connections that the kernel remembers, and how it is made to forget some.
//!
//! A connection keeps the addresses it was given at its first packet. Once a port or an address
//! leads elsewhere, what is remembered must go, or UDP would be led to the old place for as
//! long as somebody sends.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use specs::desired::Port;

use crate::nft::protocol;
use crate::nft::socket::{Conversation, Dump, Question};
use crate::nft::wire::{dig, find};

/// `NFNL_SUBSYS_CTNETLINK`, in the upper byte of a message's type.
const SUBSYSTEM: u16 = 1 << 8;
/// `IPCTNL_MSG_CT_GET`
const GET: u16 = SUBSYSTEM | 1;
/// `IPCTNL_MSG_CT_DELETE`
const DELETE: u16 = SUBSYSTEM | 2;
/// `AF_INET`
const INET: u8 = 2;
/// Looks at all connections, while others come and go.
const LOOKS_MAX: usize = 3;

/// `CTA_TUPLE_ORIG`
const ORIGINAL: u16 = 1;
/// `CTA_TUPLE_REPLY`
const REPLY: u16 = 2;
/// `CTA_ID`
const ID: u16 = 12;
/// `CTA_ZONE`
const ZONE: u16 = 18;
/// `CTA_TUPLE_IP` and in it `CTA_IP_V4_SRC`
const SOURCE: [u16; 2] = [1, 1];
/// `CTA_TUPLE_IP` and in it `CTA_IP_V4_DST`
const TARGET: [u16; 2] = [1, 2];
/// `CTA_TUPLE_PROTO` and in it `CTA_PROTO_NUM`
const PROTOCOL: [u16; 2] = [2, 1];
/// `CTA_TUPLE_PROTO` and in it `CTA_PROTO_DST_PORT`
const TARGET_PORT: [u16; 2] = [2, 3];

/// Makes the kernel forget the connections that an address began or answers; returns how many.
///
/// # Errors
/// When the kernel says no, or does not answer within `patience`.
pub(crate) fn forget_address(address: Ipv4Addr, patience: Duration) -> io::Result<usize> {
    let address = address.octets();
    forget(patience, |entry| {
        [ORIGINAL, REPLY].into_iter().any(|way| {
            let tuple = find(entry, way).unwrap_or(&[]);
            dig(tuple, &SOURCE) == Some(&address)
        })
    })
}

/// Makes the kernel forget the connections that were led elsewhere than ports lead now: those
/// to one of `ports` that one of `others` answers, and those that `address` answers through a
/// port that is none of them; returns how many.
///
/// # Errors
/// When the kernel says no, or does not answer within `patience`.
pub(crate) fn settle_ports(
    ports: &[Port],
    address: Ipv4Addr,
    others: &BTreeSet<Ipv4Addr>,
    patience: Duration,
) -> io::Result<usize> {
    let own = address.octets();
    let others: BTreeSet<[u8; 4]> = others.iter().map(Ipv4Addr::octets).collect();
    forget(patience, |entry| {
        let original = find(entry, ORIGINAL).unwrap_or(&[]);
        let reply = find(entry, REPLY).unwrap_or(&[]);
        let (dialled, answers) = (dig(original, &TARGET), dig(reply, &SOURCE));
        let is_through = |port: &Port| {
            let bound = port.address.map(|bound| bound.octets());
            dig(original, &PROTOCOL) == Some(&[protocol(port.transport)])
                && dig(original, &TARGET_PORT) == Some(&port.host.to_be_bytes())
                && bound.is_none_or(|bound| dialled == Some(&bound))
        };
        // What nobody led elsewhere answers from where it was dialled.
        let is_led = dialled.is_some() && dialled != answers;
        let is_known = |answers: &[u8]| *answers == own || others.iter().any(|one| one == answers);
        is_led
            && answers.is_some_and(is_known)
            && (answers == Some(&own)) != ports.iter().any(is_through)
    })
}

fn forget(patience: Duration, is_meant: impl Fn(&[u8]) -> bool) -> io::Result<usize> {
    let mut kernel = Conversation::open(patience)?;
    let mut forgotten = 0;
    for _ in 0..LOOKS_MAX {
        let mut meant = Vec::new();
        let everything = Question {
            kind: GET,
            family: INET,
        };
        let look = kernel.dump(
            everything,
            |_| (),
            |entry| {
                if is_meant(entry) {
                    meant.push(entry.to_vec());
                }
            },
        )?;
        for entry in &meant {
            forgotten += usize::from(forget_one(&mut kernel, entry)?);
        }
        if look == Dump::Whole {
            break;
        }
    }
    Ok(forgotten)
}

/// Forgets one connection; says whether it was still there.
fn forget_one(kernel: &mut Conversation, entry: &[u8]) -> io::Result<bool> {
    let question = Question {
        kind: DELETE,
        family: INET,
    };
    let done = kernel.act(question, |wire| {
        if let Some(tuple) = find(entry, ORIGINAL) {
            wire.nest(ORIGINAL, |wire| wire.raw(tuple));
        }
        // Another connection may have the same ends by now, but not the same number.
        for kind in [ZONE, ID] {
            if let Some(number) = find(entry, kind) {
                wire.attr(kind, number);
            }
        }
    });
    match done {
        Ok(()) => Ok(true),
        Err(err) if err.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(err) => Err(err),
    }
}
