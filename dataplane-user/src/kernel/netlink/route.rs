//! Routes: encodes messages that create, replace and delete them.

pub(super) mod cached;
pub(super) mod defaults;
mod hops;
mod parts;
mod read;
mod requests;
mod text;

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol, RouteScope as RawScope, RouteType,
};
use rtnetlink::RouteMessageBuilder;

use super::link_table::LinkTable;
use super::marks::Marks;
use super::message::Request;
use super::nexthop::{self, NextHopTable};
use crate::model::facts::Lookup;
use crate::model::{Hop, PROTOCOL, Paths, RouteKey, RouteKind, RouteScope};
use crate::net::LinkName;

pub(super) use self::parts::{HEADER, Parts, key};
pub(super) use self::read::{KernelPath, Others, read, read_connected, read_found, read_on_link, read_path};

/// Requests all routes of a family, in all tables. The message of rtnetlink 0.24 has more fields, by which
/// the kernel would filter and some of which it refuses in requests.
pub(super) fn dump(family: AddressFamily) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    Request::new(libc::RTM_GETROUTE, 0, &message)
}

/// Requests the path that the kernel would use to an address.
pub(super) fn get(address: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    Request::new(libc::RTM_GETROUTE, 0, &message)
}

/// Requests the route that the kernel would use for a packet, with its table, prefix and metric.
pub(super) fn find(lookup: &Lookup) -> Request {
    let mut message = RouteMessage::default();
    let destination = lookup.destination;
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
    // IPv6 always reports the table, and refuses other flags.
    message.header.flags = if destination.is_ipv4() {
        RouteFlags::FibMatch | RouteFlags::LookupTable
    } else {
        RouteFlags::FibMatch
    };
    let attributes = &mut message.attributes;
    attributes.push(RouteAttribute::Destination(destination.into()));
    if lookup.mark != 0 {
        attributes.push(RouteAttribute::Mark(lookup.mark));
    }
    Request::new(libc::RTM_GETROUTE, 0, &message)
}

/// How a route is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Refused if a route with its key exists.
    Create,
    /// Replaces the route with its key.
    Replace,
}

/// The objects that messages about routes refer to by number, as last read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    pub(super) links: &'a LinkTable,
    pub(super) next_hops: &'a NextHopTable,
}

/// Encodes a route; the tables contain the indexes and ids of its objects. `None` for kinds that Adit does
/// not create.
///
/// # Errors
/// `ENODEV` if a link does not exist; another error if a next-hop object is not known.
pub(super) fn write(
    mode: Mode,
    key: &RouteKey,
    route: &RouteKind,
    known: Known<'_>,
    marks: Marks,
) -> io::Result<Option<Request>> {
    let find = |link: &LinkName| {
        let entry = known.links.get(link);
        entry
            .map(|entry| entry.index)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    };
    let builder = of_key(key).protocol(marks.protocol());
    let builder = match route {
        RouteKind::Gateway {
            gateway,
            source,
            mtu,
            link,
        } => {
            let builder = builder.onlink().output_interface(find(link)?);
            let builder = builder.gateway(*gateway).map_err(io::Error::other)?;
            with_source_and_mtu(builder, *source, *mtu)?
        }
        RouteKind::NextHop { object, source, mtu } => {
            let id = known.next_hops.id(object).ok_or_else(nexthop::absent)?;
            with_source_and_mtu(builder.nhid(id), *source, *mtu)?
        }
        RouteKind::Paths(paths) => with_paths(builder, paths, find)?,
        RouteKind::Unreachable => builder.kind(RouteType::Unreachable),
        RouteKind::Throw => builder.kind(RouteType::Throw),
        RouteKind::Blackhole => builder.kind(RouteType::BlackHole),
        RouteKind::Other(_) => return Ok(None),
    };
    let flags = match mode {
        Mode::Create => NLM_F_CREATE | NLM_F_EXCL,
        Mode::Replace => NLM_F_CREATE | NLM_F_REPLACE,
    };
    Ok(Some(Request::new(libc::RTM_NEWROUTE, flags, &builder.build())))
}

fn with_paths(
    builder: RouteMessageBuilder,
    paths: &Paths,
    find: impl Fn(&LinkName) -> io::Result<u32>,
) -> io::Result<RouteMessageBuilder> {
    let mut builder = builder.scope(match paths.scope {
        RouteScope::Global => RawScope::Universe,
        RouteScope::Link => RawScope::Link,
        RouteScope::Host => RawScope::Host,
    });
    let family = builder.get_mut().header.address_family;
    let index = |hop: &Hop| hop.link.as_ref().map(&find).transpose();
    if let (1, Some(hop)) = (paths.hops.len(), paths.hops.first()) {
        if hop.onlink {
            builder = builder.onlink();
        }
        if let Some(index) = index(hop)? {
            builder = builder.output_interface(index);
        }
        let written = hops::write(hop, None, family)?;
        builder.get_mut().attributes.extend(written.attributes);
    } else {
        let hops = paths.hops.iter().map(|hop| hops::write(hop, index(hop)?, family));
        builder = builder.multipath(hops.collect::<io::Result<_>>()?);
    }
    with_source_and_mtu(builder, paths.source, paths.mtu)
}

fn with_source_and_mtu(
    mut builder: RouteMessageBuilder,
    source: Option<IpAddr>,
    mtu: Option<u32>,
) -> io::Result<RouteMessageBuilder> {
    if let Some(source) = source {
        builder = builder.pref_source(source).map_err(io::Error::other)?;
    }
    // rtnetlink 0.24 has no metrics.
    let metrics = mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    builder.get_mut().attributes.extend(metrics);
    Ok(builder)
}

/// Deletes the route with this key and the mark, whatever its other attributes are.
pub(super) fn delete(key: &RouteKey) -> Request {
    let any = of_key(key).scope(RawScope::NoWhere).kind(RouteType::Unspec);
    Request::new(libc::RTM_DELROUTE, 0, &any.build())
}

/// Deletes the route with this key to a device that was added by hand.
pub(super) fn delete_by_hand(key: &RouteKey, index: u32) -> Request {
    let any = of_key(key).scope(RawScope::NoWhere).kind(RouteType::Unspec);
    let by_hand = any.protocol(RouteProtocol::Boot).output_interface(index);
    Request::new(libc::RTM_DELROUTE, 0, &by_hand.build())
}

/// The netlink family of an address.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn of_key(key: &RouteKey) -> RouteMessageBuilder {
    let mut builder = RouteMessageBuilder::<IpAddr>::new();
    // rtnetlink 0.24 has no setter for it.
    builder.get_mut().header.tos = key.tos;
    builder
        .destination_prefix(key.prefix.addr(), key.prefix.prefix_len())
        .expect("a prefix is no longer than its family has bits")
        .table_id(key.table)
        .priority(key.metric)
        .protocol(RouteProtocol::Other(PROTOCOL))
}
