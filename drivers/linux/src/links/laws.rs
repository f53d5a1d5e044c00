//! How the two ends shall be. One list of laws is both looked at and mended by, so what is
//! seen as wrong is what gets mended.

use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::route::RouteScope;
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use super::ends::{self, ALONE, End};
use super::pair::{GATEWAY, INSIDE, Wire};
use super::sysctl::Switch;
use super::{LinkError, routes};

/// What to do about what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Act {
    Look,
    Mend,
}

/// One end, while its laws are gone through.
pub(super) struct Side<'a> {
    handle: &'a Handle,
    act: Act,
    end: &'a End,
    /// Something is, or was, not as it shall be.
    is_wrong: bool,
}

impl<'a> Side<'a> {
    pub(super) fn new(handle: &'a Handle, act: Act, end: &'a End) -> Self {
        Self {
            handle,
            act,
            end,
            is_wrong: false,
        }
    }

    /// Goes through the laws of the host's end; says whether one was broken.
    pub(super) async fn outer(mut self, mac: &[u8], wire: &Wire<'_>) -> Result<bool, LinkError> {
        let (handle, end) = (self.handle, self.end);
        self.alias(wire.alias).await?;
        self.mtu(wire.mtu).await?;
        // Before it is up: an address that IPv6 gives it would be a way around the rules.
        for switch in [
            Switch::no_ipv6(&end.name),
            Switch::route_localnet(&end.name),
        ] {
            let holds = switch.is_on()?.unwrap_or(true);
            self.law(holds, async { switch.turn_on() }).await?;
        }
        self.law(end.is_up, raise(handle, end.index)).await?;
        let found = ends::addresses(handle, end.index).await?;
        let holds = found.iter().any(|at| ends::is_alone(at, GATEWAY));
        self.law(holds, address(handle, end.index, GATEWAY)).await?;
        let to = Some(wire.address);
        self.route(to, None, "set the host's route").await?;
        self.neighbour(wire.address, mac).await?;
        Ok(self.is_wrong)
    }

    /// Goes through the laws of the end inside; says whether one was broken.
    pub(super) async fn inner(mut self, mac: &[u8], wire: &Wire<'_>) -> Result<bool, LinkError> {
        let (handle, end) = (self.handle, self.end);
        self.alias(wire.alias).await?;
        let is_named = end.name == INSIDE;
        self.law(is_named, rename(handle, end.index)).await?;
        self.mtu(wire.mtu).await?;
        // A device that gets another name is down.
        let raised = async {
            Switch::no_ipv6(INSIDE).turn_on()?;
            raise(handle, end.index).await
        };
        self.law(end.is_up && is_named, raised).await?;
        let found = ends::addresses(handle, end.index).await?;
        let holds = found.iter().any(|at| ends::is_alone(at, wire.address));
        self.law(holds, address(handle, end.index, wire.address))
            .await?;
        // After the right one is there: with the last address all routes go.
        for mut extra in found {
            let is_right = ends::is_alone(&extra, wire.address);
            let removed = async {
                extra.attributes.retain(|at| {
                    matches!(
                        at,
                        AddressAttribute::Local(_) | AddressAttribute::Address(_)
                    )
                });
                let removed = handle.address().del(extra).execute().await;
                removed.map_err(|err| LinkError::of("take an address away", err))
            };
            self.law(is_right, removed).await?;
        }
        let gateway = Some(GATEWAY);
        self.route(gateway, None, "set the route to the host")
            .await?;
        self.route(None, gateway, "set the default route").await?;
        self.neighbour(GATEWAY, mac).await?;
        Ok(self.is_wrong)
    }

    async fn law(
        &mut self,
        holds: bool,
        mended: impl Future<Output = Result<(), LinkError>>,
    ) -> Result<(), LinkError> {
        if holds {
            return Ok(());
        }
        self.is_wrong = true;
        match self.act {
            Act::Look => Ok(()),
            Act::Mend => mended.await,
        }
    }

    async fn alias(&mut self, alias: &str) -> Result<(), LinkError> {
        let link = LinkUnspec::new_with_index(self.end.index).alias(alias);
        let set = change(self.handle, link.build(), "set the alias");
        self.law(self.end.alias == alias, set).await
    }

    async fn mtu(&mut self, mtu: u32) -> Result<(), LinkError> {
        let link = LinkUnspec::new_with_index(self.end.index).mtu(mtu);
        let set = change(self.handle, link.build(), "set the largest packet");
        self.law(self.end.mtu == mtu, set).await
    }

    async fn route(
        &mut self,
        to: Option<Ipv4Addr>,
        via: Option<Ipv4Addr>,
        what: &'static str,
    ) -> Result<(), LinkError> {
        let holds = routes::has(self.handle, self.end.index, to, via).await?;
        let mut route = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(self.end.index);
        if let Some(to) = to {
            route = route.destination_prefix(to, ALONE);
        }
        route = match via {
            Some(via) => route.gateway(via),
            None => route.scope(RouteScope::Link),
        };
        let request = self.handle.route().add(route.build()).replace();
        let set = async {
            request
                .execute()
                .await
                .map_err(|err| LinkError::of(what, err))
        };
        self.law(holds, set).await
    }

    async fn neighbour(&mut self, address: Ipv4Addr, mac: &[u8]) -> Result<(), LinkError> {
        let found = ends::neighbour(self.handle, self.end.index, address).await?;
        let request = self
            .handle
            .neighbours()
            .add(self.end.index, IpAddr::V4(address))
            .link_layer_address(mac)
            .replace();
        let set = async {
            let set = request.execute().await;
            set.map_err(|err| LinkError::of("set the neighbour", err))
        };
        self.law(found.as_deref() == Some(mac), set).await
    }
}

/// Changes a device.
pub(super) async fn change(
    handle: &Handle,
    link: LinkMessage,
    what: &'static str,
) -> Result<(), LinkError> {
    let changed = handle.link().change(link).execute().await;
    changed.map_err(|err| LinkError::of(what, err))
}

async fn raise(handle: &Handle, index: u32) -> Result<(), LinkError> {
    let up = LinkUnspec::new_with_index(index).up().build();
    change(handle, up, "raise an end").await
}

/// Before 6.2 the kernel renames only what is down.
async fn rename(handle: &Handle, index: u32) -> Result<(), LinkError> {
    let down = LinkUnspec::new_with_index(index).down().build();
    change(handle, down, "lower the end inside").await?;
    let named = LinkUnspec::new_with_index(index).name(INSIDE).build();
    change(handle, named, "name the end inside eth0").await
}

async fn address(handle: &Handle, index: u32, address: Ipv4Addr) -> Result<(), LinkError> {
    let request = handle.address().add(index, IpAddr::V4(address), ALONE);
    let added = request.replace().execute().await;
    added.map_err(|err| LinkError::of("set the address", err))
}
