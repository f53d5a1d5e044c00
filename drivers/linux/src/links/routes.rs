//! What the kernel says about routes.

use std::net::Ipv4Addr;

use futures_util::TryStreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::LinkError;
use super::ends::{self, ALONE};

/// A route by a gateway to a network as wide as this is a default of some kind: the halves that
/// tunnels use, or a site's own 10.0.0.0/8. A pool inside of it is the administrator's choice.
const WIDE_BITS_MAX: u8 = 8;

/// Returns whether a device's routes of the main table include this one; no destination is
/// the default route.
pub(super) async fn has(
    handle: &Handle,
    index: u32,
    to: Option<Ipv4Addr>,
    via: Option<Ipv4Addr>,
) -> Result<bool, LinkError> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.attributes.push(RouteAttribute::Oif(index));
    let mut is_there = false;
    let routes = handle.route().get(message).execute();
    let seen = routes.try_for_each(|route| {
        is_there |= leads(&route, index, to, via);
        std::future::ready(Ok(()))
    });
    match seen
        .await
        .map_err(|err| LinkError::of("list the routes", err))
    {
        // A namespace that never had a route has no table.
        Err(err) if err.errno() == Some(libc::ENOENT) => Ok(false),
        other => other.map(|()| is_there),
    }
}

fn leads(route: &RouteMessage, index: u32, to: Option<Ipv4Addr>, via: Option<Ipv4Addr>) -> bool {
    let (mut dst, mut gateway, mut is_plain) = (None, None, true);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = Some(address),
            RouteAttribute::Gateway(address) => gateway = Some(address),
            // A kernel before 4.20 leaves nothing out.
            RouteAttribute::Oif(through) => is_plain &= *through == index,
            RouteAttribute::Priority(_) | RouteAttribute::Via(_) => is_plain = false,
            _ => {}
        }
    }
    let length = if to.is_some() { ALONE } else { 0 };
    let scope = if via.is_some() {
        RouteScope::Universe
    } else {
        RouteScope::Link
    };
    is_plain
        && route.header.kind == RouteType::Unicast
        && route.header.scope == scope
        && route.header.destination_prefix_length == length
        && route.header.tos == 0
        && dst == to.map(RouteAddress::Inet).as_ref()
        && gateway == via.map(RouteAddress::Inet).as_ref()
}

/// Returns the route that the kernel would take, if it is one of a network of its own.
pub(super) async fn covering(
    handle: &Handle,
    address: Ipv4Addr,
    prefix: &str,
) -> Result<Option<String>, LinkError> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = ALONE;
    // The entry of the table, not what is made of it for this address (since 4.13).
    message.header.flags = RouteFlags::FibMatch;
    let destination = RouteAttribute::Destination(RouteAddress::Inet(address));
    message.attributes.push(destination);
    let what = "look for a route";
    let asked = ends::ask(handle, RouteNetlinkMessage::GetRoute(message), what).await;
    let answer = match asked {
        // No route, or one of the kinds that refuse (`ip-route(8)`): unreachable, prohibit,
        // blackhole.
        Err(err)
            if matches!(
                err.errno(),
                Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL)
            ) =>
        {
            return Ok(None);
        }
        other => other?,
    };
    let Some(RouteNetlinkMessage::NewRoute(route)) = answer else {
        return Ok(None);
    };
    let length = route.header.destination_prefix_length;
    if length == 0 {
        return Ok(None);
    }
    let is_wide = length <= WIDE_BITS_MAX;
    let by_gateway = |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Gateway(_));
    if is_wide && route.attributes.iter().any(by_gateway) {
        return Ok(None);
    }
    let (mut network, mut index) = (Ipv4Addr::UNSPECIFIED, None);
    for attribute in &route.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(to)) => network = *to,
            RouteAttribute::Oif(through) => index = Some(*through),
            _ => {}
        }
    }
    let device = match index {
        Some(index) => ends::by_index(handle, index).await?.map(|end| end.name),
        None => None,
    };
    Ok(match device {
        Some(device) if device.starts_with(prefix) => None,
        Some(device) => Some(format!("{network}/{length} dev {device}")),
        None => Some(format!("{network}/{length}")),
    })
}
