//! The main table's default routes, whosever they are: by which gateway each device leads to everywhere.

use std::net::IpAddr;

use netlink_packet_core::DecodeError;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteHeader, RouteType};

use super::{HEADER, Parts};
use crate::kernel::netlink::table::LinkTable;
use crate::model::MAIN_TABLE;
use crate::net::LinkName;

/// A next hop of a default route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kernel::netlink) struct DefaultHop {
    /// The device.
    pub(in crate::kernel::netlink) link: LinkName,
    /// The route's metric; the lowest is used.
    pub(in crate::kernel::netlink) metric: u32,
    /// The gateway; `None`: everything is on the link.
    pub(in crate::kernel::netlink) gateway: Option<IpAddr>,
}

/// The next hops that an `RTM_NEWROUTE` says; nothing for all other routes.
pub(in crate::kernel::netlink) fn read(
    body: &[u8],
    family: AddressFamily,
    links: &LinkTable,
) -> Result<Option<Vec<DefaultHop>>, DecodeError> {
    let header = RouteHeader::parse(body)?;
    // The header alone tells the most of them apart, and all in tables that have small numbers.
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
