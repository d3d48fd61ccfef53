//! Decodes messages of the kernel about routes that concern Adit.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::DecodeError;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteProtocol, RouteType};

use super::Known;
use super::parts::{self, HEADER, Parts};
use crate::kernel::netlink::link_table::LinkTable;
use crate::model::devices::is_overlay_device;
use crate::model::facts::FoundRoute;
use crate::model::{ANCHOR_METRIC, BACKSTOP_METRIC, MAIN_TABLE, Owner, PROTOCOL, Route, RouteKey};
use crate::net::LinkName;

/// Routes not managed by Adit that concern it, besides those with its metrics.
#[derive(Clone, Debug, Default)]
pub(in crate::kernel::netlink) struct Others {
    /// The keys of desired routes.
    pub(in crate::kernel::netlink) keys: BTreeSet<RouteKey>,
    /// Prefixes of overlays: the packets of more specific routes do not enter the overlay.
    pub(in crate::kernel::netlink) inside: BTreeSet<IpNet>,
}

impl Others {
    /// Whether somebody has added a route of the main table inside one of the prefixes. Those of the kernel
    /// follow from addresses.
    fn is_inside(&self, header: &RouteHeader, key: &RouteKey) -> bool {
        let mut overlays = self.inside.iter();
        header.protocol != RouteProtocol::Kernel
            && key.tos == 0
            && key.table == MAIN_TABLE
            && overlays.any(|overlay| overlay.contains(&key.prefix))
    }
}

/// Decodes an `RTM_NEWROUTE`; `None` for routes that don't concern Adit.
pub(in crate::kernel::netlink) fn read(
    body: &[u8],
    family: AddressFamily,
    known: Known<'_>,
    wanted: &Others,
) -> Result<Option<(RouteKey, Route)>, DecodeError> {
    let header = RouteHeader::parse(body)?;
    let automatic = matches!(
        header.kind,
        RouteType::Local | RouteType::Broadcast | RouteType::Anycast | RouteType::Multicast
    );
    if automatic || header.flags.contains(RouteFlags::Cloned) || header.address_family != family {
        return Ok(None);
    }
    let attributes = &body[HEADER..];
    let managed = header.protocol == RouteProtocol::Other(PROTOCOL);
    // Of perhaps a million routes only a few matter, and for the others only the key is decoded.
    let matters = |key: &RouteKey| {
        let usual = key.tos == 0 && [ANCHOR_METRIC, BACKSTOP_METRIC].contains(&key.metric);
        usual || wanted.keys.contains(key)
    };
    let key = parts::key(&header, attributes)?;
    let matters = managed || matters(&key);
    if !matters && !wanted.is_inside(&header, &key) {
        return Ok(None);
    }
    let parts = Parts::read(&header, attributes, known.links)?;
    let device = parts.index.and_then(|index| known.links.name(index));
    // A route into the overlay takes nothing from it.
    if !matters && device.is_some_and(is_overlay_device) {
        return Ok(None);
    }
    let key = parts.key;
    let route = Route {
        owner: match header.protocol {
            _ if managed => Owner::Adit,
            RouteProtocol::Kernel => Owner::Kernel,
            _ => Owner::Other,
        },
        kind: match parts.next_hop {
            Some(id) if managed => parts.leading_to(&header, known.next_hops.object(id)),
            _ => parts.kind(&header, known.links, managed),
        },
    };
    Ok(Some((key, route)))
}

/// The path that the kernel would use to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel::netlink) struct KernelPath {
    /// The index of the device.
    pub(in crate::kernel::netlink) index: u32,
    /// The gateway, of either family; `None` if on-link.
    pub(in crate::kernel::netlink) gateway: Option<IpAddr>,
    /// The MTU of the route in bytes.
    pub(in crate::kernel::netlink) mtu: Option<u32>,
}

/// Decodes an answer to [`get`](super::get); `None` if packets are refused.
pub(in crate::kernel::netlink) fn read_path(body: &[u8]) -> Result<Option<KernelPath>, DecodeError> {
    let header = RouteHeader::parse(body)?;
    if !matches!(header.kind, RouteType::Unicast | RouteType::Local) {
        return Ok(None);
    }
    // Devices are identified by index here.
    let parts = Parts::read(&header, &body[HEADER..], &LinkTable::default())?;
    Ok(parts.index.map(|index| KernelPath {
        index,
        gateway: parts.gateway,
        mtu: parts.mtu,
    }))
}

/// Decodes an answer to [`find`](super::find); `None` if packets are refused.
pub(in crate::kernel::netlink) fn read_found(
    body: &[u8],
    links: &LinkTable,
) -> Result<Option<FoundRoute>, DecodeError> {
    let header = RouteHeader::parse(body)?;
    let leads = matches!(
        header.kind,
        RouteType::Unicast | RouteType::Local | RouteType::Broadcast | RouteType::Anycast
    );
    if !leads {
        return Ok(None);
    }
    let parts = Parts::read(&header, &body[HEADER..], links)?;
    let of_index = parts.index.and_then(|index| links.name(index)).cloned();
    let hops = parts.hops.into_iter().flatten().filter_map(|hop| hop.link);
    Ok(Some(FoundRoute {
        key: parts.key,
        links: of_index.into_iter().chain(hops).collect(),
    }))
}

/// Decodes a route of one of these tables that leads to hosts on the link of one device; `None` for others. Default
/// routes do not count, as in [`read_on_link`].
pub(in crate::kernel::netlink) fn read_connected(
    body: &[u8],
    tables: &BTreeSet<u32>,
    links: &LinkTable,
) -> Result<Option<(RouteKey, LinkName)>, DecodeError> {
    let header = RouteHeader::parse(body)?;
    let attributes = &body[HEADER..];
    let key = parts::key(&header, attributes)?;
    if !tables.contains(&key.table) {
        return Ok(None);
    }
    Ok(read_on_link(body, links)?.map(|link| (key, link)))
}

/// Decodes an answer to [`find`](super::find) for a gateway: the device through which it is on the link. A
/// default route does not count: everything that is reached in no other way would be on its link.
pub(in crate::kernel::netlink) fn read_on_link(
    body: &[u8],
    links: &LinkTable,
) -> Result<Option<LinkName>, DecodeError> {
    let header = RouteHeader::parse(body)?;
    if header.kind != RouteType::Unicast || header.destination_prefix_length == 0 {
        return Ok(None);
    }
    let parts = Parts::read(&header, &body[HEADER..], links)?;
    let direct = parts.gateway.is_none() && parts.hops.is_none();
    let link = parts.index.filter(|_| direct).and_then(|index| links.name(index));
    Ok(link.cloned())
}
