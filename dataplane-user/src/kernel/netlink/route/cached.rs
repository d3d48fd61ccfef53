//! Handles sockets that continue to use a deleted route.
//!
//! A connected IPv6 socket caches its route. If that route has a next-hop object, Linux (`ip6_dst_check`,
//! since 5.7; observed on 6.1 and 6.12) considers it valid until any IPv6 route of the namespace is *added*.
//! So after the deletion of the route alone, packets still use it until the kernel has freed the object. IPv4
//! sockets look up again at once.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::RouteType;

use super::{delete, of_key};
use crate::kernel::netlink::message::Request;
use crate::model::change::{NetlinkChange, RouteChange, RouteOperation};
use crate::model::{ANCHOR_METRIC, RETURN_PATH_TABLES, RouteKey, RouteKind};

/// No rule of Adit leads to this table; the tables of return paths begin after it.
const TABLE: u32 = RETURN_PATH_TABLES;
/// The discard prefix (RFC 6666, section 4), which would be refused in any table.
const PREFIX: Ipv6Addr = Ipv6Addr::new(0x100, 0, 0, 0, 0, 0, 0, 0);

/// Whether sockets may continue to use what this change deletes.
pub(in super::super) fn keeps_sockets(change: &NetlinkChange) -> bool {
    matches!(
        change,
        NetlinkChange::Route(RouteChange(key, RouteOperation::Delete(route)))
            if key.prefix.addr().is_ipv6() && matches!(route.kind, RouteKind::NextHop { .. })
    )
}

/// Makes all IPv6 sockets look up again: deletes, adds and deletes an unreachable route in a table that no
/// rule uses. Only a route of Adit can be left over from an interrupted run; a route with another mark stays,
/// and then the kernel refuses the second request.
pub(in super::super) fn look_up_again() -> [Request; 3] {
    let key = RouteKey::new(TABLE, IpNet::V6(Ipv6Net::new_assert(PREFIX, 64)), ANCHOR_METRIC);
    let message = of_key(&key).kind(RouteType::Unreachable).build();
    let add = Request::new(libc::RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &message);
    [delete(&key), add, delete(&key)]
}
