//! The default routes of the main table, managed by Adit or not: the gateway of each device.

use std::net::IpAddr;

use netlink_packet_core::DecodeError;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteHeader, RouteType};

use super::{HEADER, Parts};
use crate::kernel::netlink::link_table::LinkTable;
use crate::model::MAIN_TABLE;
use crate::net::LinkName;

/// A next hop of a default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel::netlink) struct DefaultHop {
    /// The device.
    pub(in crate::kernel::netlink) link: LinkName,
    /// The metric of the route; the lowest one is used.
    pub(in crate::kernel::netlink) metric: u32,
    /// The gateway; `None` if everything is on-link.
    pub(in crate::kernel::netlink) gateway: Option<IpAddr>,
}

/// Decodes the next hops of a default route in an `RTM_NEWROUTE`; `None` for all other routes.
pub(in crate::kernel::netlink) fn read(
    body: &[u8],
    family: AddressFamily,
    links: &LinkTable,
) -> Result<Option<Vec<DefaultHop>>, DecodeError> {
    let header = RouteHeader::parse(body)?;
    // For most routes the header is enough to decide, in tables with small numbers for all.
    let concerns = header.kind == RouteType::Unicast
        && header.destination_prefix_length == 0
        && u32::from(header.table) == MAIN_TABLE
        && header.address_family == family;
    if !concerns {
        return Ok(None);
    }
    let parts = Parts::read(&header, &body[HEADER..], links)?;
    let hop = |link: Option<LinkName>, gateway| {
        Some(DefaultHop {
            link: link?,
            metric: parts.key.metric,
            gateway,
        })
    };
    let only = parts.index.and_then(|index| links.name(index)).cloned();
    let several = parts.hops.iter().flatten();
    let several = several.filter_map(|one| hop(one.link.clone(), one.gateway));
    Ok(Some(
        hop(only, parts.gateway).into_iter().chain(several).collect(),
    ))
}
