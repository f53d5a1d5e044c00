//! What the kernel says about devices, addresses, routes and neighbours.

use std::fs::File;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;

use futures_util::{StreamExt as _, TryStreamExt as _};
use rtnetlink::Handle;
use rtnetlink::packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::nsid::{NsidAttribute, NsidMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::LinkError;

/// Most addresses of a device that are looked at; a container may set any number, and more
/// than one is wrong.
const ADDRESSES_MAX: usize = 64;
/// Prefix length of one address.
pub(super) const ALONE: u8 = 32;

/// A device, in most cases one end of a pair.
#[derive(Clone, Debug, Default)]
pub(super) struct End {
    pub(super) index: u32,
    pub(super) name: String,
    /// Empty where it has none.
    pub(super) alias: String,
    pub(super) mac: Vec<u8>,
    pub(super) mtu: u32,
    pub(super) is_up: bool,
    pub(super) is_veth: bool,
    /// The other end's index in its own namespace.
    pub(super) peer: Option<u32>,
    /// Number of that namespace as seen from this one; none: it is this one.
    pub(super) peer_namespace: Option<i32>,
}

impl End {
    fn of(message: LinkMessage) -> Self {
        let mut end = Self {
            index: message.header.index,
            is_up: message.header.flags.contains(LinkFlags::Up),
            ..Self::default()
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => end.name = name,
                LinkAttribute::IfAlias(alias) => end.alias = alias,
                LinkAttribute::Address(mac) => end.mac = mac,
                LinkAttribute::Mtu(mtu) => end.mtu = mtu,
                LinkAttribute::Link(peer) => end.peer = Some(peer),
                LinkAttribute::LinkNetNsId(number) => end.peer_namespace = Some(number),
                LinkAttribute::LinkInfo(kinds) => {
                    end.is_veth = kinds.contains(&LinkInfo::Kind(InfoKind::Veth));
                }
                _ => {}
            }
        }
        end
    }
}

/// Returns the device with a number.
pub(super) async fn by_index(handle: &Handle, index: u32) -> Result<Option<End>, LinkError> {
    one(handle.link().get().match_index(index)).await
}

/// Returns the device with a name.
pub(super) async fn by_name(handle: &Handle, name: &str) -> Result<Option<End>, LinkError> {
    one(handle.link().get().match_name(name)).await
}

async fn one(request: rtnetlink::LinkGetRequest) -> Result<Option<End>, LinkError> {
    match request.execute().boxed_local().try_next().await {
        Ok(found) => Ok(found.map(End::of)),
        Err(err) => none_if(libc::ENODEV, LinkError::of("read a link", err)),
    }
}

/// Returns the device of a namespace that bears an alias.
pub(super) async fn by_alias(handle: &Handle, alias: &str) -> Result<Option<End>, LinkError> {
    let mut found = None;
    each(handle, |end| {
        if end.alias == alias {
            found = Some(end);
        }
    })
    .await?;
    Ok(found)
}

/// Goes through all devices of a namespace.
pub(super) async fn each(handle: &Handle, mut see: impl FnMut(End)) -> Result<(), LinkError> {
    let links = handle.link().get().execute();
    let seen = links.try_for_each(|link| {
        see(End::of(link));
        std::future::ready(Ok(()))
    });
    seen.await
        .map_err(|err| LinkError::of("list the links", err))
}

/// Returns the number that this namespace gave to another; none while it gave it none.
pub(super) async fn number(handle: &Handle, namespace: &File) -> Result<Option<i32>, LinkError> {
    let what = "read the number of its network namespace";
    let mut message = NsidMessage::default();
    let fd = u32::try_from(namespace.as_raw_fd()).unwrap_or(u32::MAX);
    message.attributes.push(NsidAttribute::Fd(fd));
    let answer = ask(handle, RouteNetlinkMessage::GetNsId(message), what).await?;
    let Some(RouteNetlinkMessage::NewNsId(message)) = answer else {
        return Ok(None);
    };
    // Negative: `NETNSA_NSID_NOT_ASSIGNED`.
    Ok(message.attributes.iter().find_map(|at| match at {
        NsidAttribute::Id(number) if *number >= 0 => Some(*number),
        _ => None,
    }))
}

/// Returns the IPv4 addresses of a device.
pub(super) async fn addresses(
    handle: &Handle,
    index: u32,
) -> Result<Vec<AddressMessage>, LinkError> {
    let mut request = handle.address().get();
    let header = &mut request.message_mut().header;
    header.family = AddressFamily::Inet;
    header.index = index;
    request
        .execute()
        // A kernel before 4.20 leaves nothing out.
        .try_filter(|found| std::future::ready(found.header.index == index))
        .take(ADDRESSES_MAX)
        .try_collect()
        .await
        .map_err(|err| LinkError::of("list the addresses", err))
}

/// Returns the address that a message gives to this host.
pub(super) fn local(message: &AddressMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|at| match at {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })
}

/// Returns whether a message gives this address and no network with it.
pub(super) fn is_alone(message: &AddressMessage, wanted: Ipv4Addr) -> bool {
    message.header.prefix_len == ALONE
        && local(message) == Some(wanted)
        && message.attributes.iter().all(|at| match at {
            AddressAttribute::Address(other) => *other == IpAddr::V4(wanted),
            _ => true,
        })
}

/// Returns the hardware address that is told, not learned, for an address on a device.
pub(super) async fn neighbour(
    handle: &Handle,
    index: u32,
    address: Ipv4Addr,
) -> Result<Option<Vec<u8>>, LinkError> {
    let what = "read the neighbour";
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = index;
    let destination = NeighbourAddress::Inet(address);
    message
        .attributes
        .push(NeighbourAttribute::Destination(destination));
    let asked = ask(handle, RouteNetlinkMessage::GetNeighbour(message), what).await;
    let Some(RouteNetlinkMessage::NewNeighbour(found)) =
        asked.or_else(|err| none_if(libc::ENOENT, err))?
    else {
        return Ok(None);
    };
    if found.header.state != NeighbourState::Permanent {
        return Ok(None);
    }
    Ok(found.attributes.into_iter().find_map(|at| match at {
        NeighbourAttribute::LinkLayerAddress(mac) => Some(mac),
        _ => None,
    }))
}

/// Asks for one thing.
pub(super) async fn ask(
    handle: &Handle,
    message: RouteNetlinkMessage,
    what: &'static str,
) -> Result<Option<RouteNetlinkMessage>, LinkError> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST;
    let mut handle = handle.clone();
    let mut answers = handle
        .request(request)
        .map_err(|err| LinkError::of(what, err))?;
    match answers.next().await.map(|answer| answer.payload) {
        Some(NetlinkPayload::InnerMessage(answer)) => Ok(Some(answer)),
        Some(NetlinkPayload::Error(said)) => Err(LinkError::Refused {
            what,
            source: said.to_io(),
        }),
        _ => Ok(None),
    }
}

pub(super) fn none_if<T>(errno: i32, err: LinkError) -> Result<Option<T>, LinkError> {
    if err.errno() == Some(errno) {
        Ok(None)
    } else {
        Err(err)
    }
}
