//! The pair of devices between a container and its host.
//!
//! There is no bridge. Each side has one address and one route to the other's, and is told
//! the other's hardware address, so nothing is asked on the wire:
//!
//! ```text
//! host      169.254.1.1/32 on rcXXXXXXXXXXXXX    ADDRESS/32 dev rcXXXXXXXXXXXXX
//!               |
//! container ADDRESS/32 on eth0                   default via 169.254.1.1 dev eth0
//! ```

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;

use driver_api::{Deadline, Fact, LinkObserved, Mark, ProcessId, StepError};
use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{Handle, LinkUnspec, LinkVeth};
use specs::id::Instance;

use super::ends::{self, End};
use super::laws::{Act, Side};
use super::{LinkError, Links, namespace, routes};
use crate::error::gap;

/// Address of every host end; of the whole, not of the link, so that a packet that leaves
/// there may take it for its source.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Name of the end inside.
pub(super) const INSIDE: &str = "eth0";
/// Bytes of a device's name that all host ends of an instance share.
const PREFIX_BYTES: usize = 6;

/// What a pair shall be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wire<'a> {
    /// Name of the host's end.
    pub(crate) device: &'a str,
    /// Alias of both ends, the proof that they are ours.
    pub(crate) alias: &'a str,
    /// Address of the end inside.
    pub(crate) address: Ipv4Addr,
    /// Largest packet in bytes.
    pub(crate) mtu: u32,
}

/// What stands at the host.
#[derive(Default)]
struct Outside {
    end: Option<End>,
    /// Number of the other end, if that is in the namespace that was asked about.
    peer: Option<u32>,
}

/// What stands in the container's namespace.
enum Inside {
    /// The other end of the host's.
    Paired(End),
    /// An end with our alias; what it belongs to is not where it shall be.
    Stray(End),
    Nothing,
}

/// An end without the other.
const HALF: LinkObserved = LinkObserved {
    address: None,
    mtu: None,
    whole: false,
};

impl Links {
    /// Returns what of a pair is there; absent when neither end is. A device of the name that
    /// is not ours is none.
    pub(crate) fn link(
        &self,
        init: Option<ProcessId>,
        device: &str,
        alias: &str,
        leaf: &str,
        deadline: Deadline,
    ) -> Fact<LinkObserved> {
        match self.look(init, device, alias, deadline) {
            Ok(Some(seen)) => Fact::Known(seen),
            Ok(None) => Fact::Absent,
            Err(err) => Fact::Unknown(gap(format!("read the network link of {leaf}"), &err)),
        }
    }

    /// Makes the pair, or mends exactly what is wrong with it; says whether anything was.
    ///
    /// *Guarantees:* done again after a crash between any two messages it comes to the same.
    pub(crate) fn connect(
        &self,
        init: ProcessId,
        wire: &Wire<'_>,
        leaf: &str,
        deadline: Deadline,
    ) -> Result<bool, StepError> {
        self.join(init, wire, deadline)
            .map_err(|err| err.step(format!("connect {leaf} to the network"), leaf))
    }

    /// Deletes the host's end, and with it the other; says whether it was there.
    pub(crate) fn disconnect(
        &self,
        device: &str,
        alias: &str,
        leaf: &str,
        deadline: Deadline,
    ) -> Result<bool, StepError> {
        let deleted = self.here(deadline, async |handle| {
            let end = match outer(handle, device, alias).await? {
                Some(end) => Some(end),
                // Somebody may have given it another name.
                None => ends::by_alias(handle, alias).await?,
            };
            match end {
                Some(end) => delete(handle, &end).await,
                None => Ok(false),
            }
        });
        deleted.map_err(|err| err.step(format!("disconnect {leaf} from the network"), leaf))
    }

    /// Returns the marks of all host ends of an instance, in order.
    pub(crate) fn devices(&self, instance: &Instance, deadline: Deadline) -> io::Result<Vec<Mark>> {
        let place = format!("{}/", Mark::table(instance));
        let mut marks = Vec::new();
        let seen = self.here(deadline, async |handle| {
            let of = |end: End| Mark::from_leaf(instance, end.alias.strip_prefix(&place)?).ok();
            ends::each(handle, |end| marks.extend(of(end))).await
        });
        seen.map_err(io::Error::other)?;
        marks.sort();
        marks.dedup();
        Ok(marks)
    }

    /// Returns in words which network of the host covers an address; none when it would be
    /// reached through a host end of ours, by the default route, or not at all.
    pub(crate) fn taken(
        &self,
        address: Ipv4Addr,
        own_device: &str,
        deadline: Deadline,
    ) -> io::Result<Option<String>> {
        let prefix = own_device.get(..PREFIX_BYTES).unwrap_or(own_device);
        let found = self.here(deadline, async |handle| {
            routes::covering(handle, address, prefix).await
        });
        found.map_err(io::Error::other)
    }

    fn look(
        &self,
        init: Option<ProcessId>,
        device: &str,
        alias: &str,
        deadline: Deadline,
    ) -> Result<Option<LinkObserved>, LinkError> {
        let space = match init.map(namespace).transpose() {
            Err(LinkError::Gone) => None,
            other => other?,
        };
        let (end, peer) = match self.outside(space.as_ref(), device, alias, deadline) {
            Err(LinkError::Foreign { .. }) => (None, None),
            other => other.map(|outside| (outside.end, outside.peer))?,
        };
        let half = end.as_ref().map(|_| HALF);
        let Some(space) = space else {
            return Ok(half);
        };
        let inside = self.inside(&space, deadline, async |handle| {
            let found = inside(handle, peer, alias).await?;
            let (Inside::Paired(inner), Some(outer)) = (&found, &end) else {
                return Ok((found, None));
            };
            let addresses = ends::addresses(handle, inner.index).await?;
            let address = match addresses.as_slice() {
                [one] => ends::local(one),
                _ => None,
            };
            let wire = Wire {
                device,
                alias,
                address: address.unwrap_or(Ipv4Addr::UNSPECIFIED),
                mtu: outer.mtu,
            };
            let side = Side::new(handle, Act::Look, inner);
            let is_wrong = side.inner(&outer.mac, &wire).await?;
            Ok((found, Some((wire, address, is_wrong))))
        })?;
        let (outer, inner, (wire, address, is_wrong)) = match (end, inside) {
            (Some(outer), (Inside::Paired(inner), Some(seen))) => (outer, inner, seen),
            (_, (Inside::Stray(_), _)) => return Ok(Some(HALF)),
            _ => return Ok(half),
        };
        let is_wrong_outside = self.here(deadline, async |handle| {
            let side = Side::new(handle, Act::Look, &outer);
            side.outer(&inner.mac, &wire).await
        })?;
        Ok(Some(LinkObserved {
            address,
            mtu: (outer.mtu == inner.mtu).then_some(outer.mtu),
            whole: !is_wrong && !is_wrong_outside,
        }))
    }

    fn join(
        &self,
        init: ProcessId,
        wire: &Wire<'_>,
        deadline: Deadline,
    ) -> Result<bool, LinkError> {
        let space = namespace(init)?;
        let (outer, inner, is_new) = match self.find(&space, wire, deadline)? {
            (Some(outer), Inside::Paired(inner)) => (outer, inner, false),
            (outer, stray) => {
                if let Inside::Stray(stray) = stray {
                    self.inside(&space, deadline, async |handle| {
                        delete(handle, &stray).await
                    })?;
                }
                self.here(deadline, async |handle| {
                    if let Some(outer) = &outer {
                        delete(handle, outer).await?;
                    }
                    create(handle, &space, wire).await
                })?;
                let (Some(outer), Inside::Paired(inner)) = self.find(&space, wire, deadline)?
                else {
                    return Err(LinkError::Apart);
                };
                (outer, inner, true)
            }
        };
        let was_wrong_outside = self.here(deadline, async |handle| {
            let side = Side::new(handle, Act::Mend, &outer);
            side.outer(&inner.mac, wire).await
        })?;
        let was_wrong_inside = self.inside(&space, deadline, async |handle| {
            let side = Side::new(handle, Act::Mend, &inner);
            side.inner(&outer.mac, wire).await
        })?;
        Ok(is_new || was_wrong_outside || was_wrong_inside)
    }

    fn find(
        &self,
        space: &File,
        wire: &Wire<'_>,
        deadline: Deadline,
    ) -> Result<(Option<End>, Inside), LinkError> {
        let outside = self.outside(Some(space), wire.device, wire.alias, deadline)?;
        let inside = self.inside(space, deadline, async |handle| {
            inside(handle, outside.peer, wire.alias).await
        })?;
        Ok((outside.end, inside))
    }

    /// Finds the host's end.
    fn outside(
        &self,
        space: Option<&File>,
        device: &str,
        alias: &str,
        deadline: Deadline,
    ) -> Result<Outside, LinkError> {
        self.here(deadline, async |handle| {
            let Some(end) = outer(handle, device, alias).await? else {
                return Ok(Outside::default());
            };
            // After the end was read: reading it gives the other's namespace its number.
            let number = match space {
                Some(space) => ends::number(handle, space).await?,
                None => None,
            };
            let is_there = number.is_some() && end.peer_namespace == number;
            let peer = end.peer.filter(|_| is_there);
            Ok(Outside {
                end: Some(end),
                peer,
            })
        })
    }
}

/// Finds the end inside.
async fn inside(handle: &Handle, peer: Option<u32>, alias: &str) -> Result<Inside, LinkError> {
    if let Some(peer) = peer
        && let Some(end) = ends::by_index(handle, peer).await?
    {
        return Ok(Inside::Paired(end));
    }
    let stray = ends::by_alias(handle, alias).await?;
    Ok(stray.map_or(Inside::Nothing, Inside::Stray))
}

/// Returns the host's end. One without an alias is ours if it is of a pair: a crash came
/// between two messages, and the name is nobody's by chance.
async fn outer(handle: &Handle, device: &str, alias: &str) -> Result<Option<End>, LinkError> {
    let Some(end) = ends::by_name(handle, device).await? else {
        return Ok(None);
    };
    if end.alias == alias || (end.alias.is_empty() && end.is_veth) {
        return Ok(Some(end));
    }
    Err(LinkError::Foreign {
        device: device.to_owned(),
        alias: end.alias,
    })
}

/// Makes both ends with one message, the one inside at its place.
async fn create(handle: &Handle, space: &File, wire: &Wire<'_>) -> Result<(), LinkError> {
    let inside = LinkUnspec::new_with_name(INSIDE)
        .mtu(wire.mtu)
        .setns_by_fd(space.as_raw_fd())
        .build();
    let link = LinkVeth::new(wire.device, INSIDE)
        .mtu(wire.mtu)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(inside)))
        .build();
    let made = handle.link().add(link).execute().await;
    made.map_err(|err| LinkError::of("make the pair, eth0 inside being free", err))
}

/// Deletes a device; says whether it was there.
async fn delete(handle: &Handle, end: &End) -> Result<bool, LinkError> {
    match handle.link().del(end.index).execute().await {
        Ok(()) => Ok(true),
        Err(err) => {
            let err = LinkError::of("delete the pair", err);
            if err.errno() == Some(libc::ENODEV) {
                return Ok(false);
            }
            Err(err)
        }
    }
}
