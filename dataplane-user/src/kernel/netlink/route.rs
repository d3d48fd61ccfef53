//! Routes: messages that make, replace and delete them, and what a message from the kernel says.

pub(super) mod cached;
pub(super) mod defaults;
mod hops;
mod requests;
mod words;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, DefaultNla, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NlasIterator, parse_ip, parse_u32,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope as RawScope, RouteType,
};

use self::words::Words;
use super::marks::Marks;
use super::message::Request;
use super::nexthop::{self, NextHopTable};
use super::table::LinkTable;
use crate::model::facts::{FoundRoute, Lookup};
use crate::model::{
    ANCHOR_METRIC, BACKSTOP_METRIC, Hop, Owner, PROTOCOL, Paths, Route, RouteKey, RouteKind, RouteScope,
    RouteTarget,
};
use crate::net::LinkName;

const HEADER: usize = 12;
/// `RTA_NH_ID` (linux/rtnetlink.h).
const RTA_NH_ID: u16 = 30;
/// `RTA_VIA` (linux/rtnetlink.h).
const RTA_VIA: u16 = 18;
/// `RTAX_MTU` (linux/rtnetlink.h).
const RTAX_MTU: u16 = 2;
/// `RT_SCOPE_UNIVERSE`, that of every route with a gateway.
const UNIVERSE: RawScope = RawScope::Universe;

/// Asks for all routes of a family, in all tables.
pub(super) fn dump(family: AddressFamily) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    Request::new(libc::RTM_GETROUTE, 0, &message)
}

/// Asks how the kernel would send to an address.
pub(super) fn get(address: IpAddr) -> Request {
    let mut message = RouteMessage::default();
    message.header.address_family = family(address);
    message.header.destination_prefix_length = if address.is_ipv4() { 32 } else { 128 };
    message
        .attributes
        .push(RouteAttribute::Destination(address.into()));
    Request::new(libc::RTM_GETROUTE, 0, &message)
}

/// Asks which of the kernel's routes a packet takes, with its table, prefix and metric.
pub(super) fn find(lookup: &Lookup) -> Request {
    let mut message = RouteMessage::default();
    let destination = lookup.destination;
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
    // IPv6 tells the table anyway, and refuses further flags.
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
    /// Refused where a route of its key stands.
    Create,
    /// Replaces the one of its key.
    Replace,
}

/// Writes a route; the tables say the numbers of what it leads to. `None` for kinds that we don't make.
///
/// # Errors
/// `ENODEV` where a link is not there, and where a next-hop object is not known.
pub(super) fn write(
    mode: Mode,
    key: &RouteKey,
    route: &RouteKind,
    (links, next_hops): (&LinkTable, &NextHopTable),
    marks: Marks,
) -> io::Result<Option<Request>> {
    let find = |link: &LinkName| {
        let entry = links.get(link);
        entry
            .map(|entry| entry.index)
            .ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))
    };
    let mut message = of_key(key);
    message.header.protocol = marks.protocol();
    message.header.scope = UNIVERSE;
    match route {
        RouteKind::Gateway {
            gateway,
            source,
            mtu,
            link,
        } => {
            message.header.kind = RouteType::Unicast;
            message.header.flags = RouteFlags::Onlink;
            let attributes = &mut message.attributes;
            attributes.push(RouteAttribute::Oif(find(link)?));
            attributes.push(hops::gateway(*gateway, key.prefix.addr().is_ipv4()));
            attributes.extend(source_and_mtu(*source, *mtu));
        }
        RouteKind::NextHop { target, source, mtu } => {
            message.header.kind = RouteType::Unicast;
            let id = next_hops.id(target).ok_or_else(nexthop::absent)?;
            let id = DefaultNla::new(RTA_NH_ID, id.to_ne_bytes().to_vec());
            message.attributes.push(RouteAttribute::Other(id));
            message.attributes.extend(source_and_mtu(*source, *mtu));
        }
        RouteKind::Paths(paths) => write_paths(&mut message, paths, find)?,
        RouteKind::Unreachable => message.header.kind = RouteType::Unreachable,
        RouteKind::Throw => message.header.kind = RouteType::Throw,
        RouteKind::Blackhole => message.header.kind = RouteType::BlackHole,
        RouteKind::Other(_) => return Ok(None),
    }
    let flags = match mode {
        Mode::Create => NLM_F_CREATE | NLM_F_EXCL,
        Mode::Replace => NLM_F_CREATE | NLM_F_REPLACE,
    };
    Ok(Some(Request::new(libc::RTM_NEWROUTE, flags, &message)))
}

fn write_paths(
    message: &mut RouteMessage,
    paths: &Paths,
    find: impl Fn(&LinkName) -> io::Result<u32>,
) -> io::Result<()> {
    let ipv4 = message.header.address_family == AddressFamily::Inet;
    message.header.kind = RouteType::Unicast;
    message.header.scope = match paths.scope {
        RouteScope::Global => UNIVERSE,
        RouteScope::Link => RawScope::Link,
        RouteScope::Host => RawScope::Host,
    };
    let index = |hop: &Hop| hop.link.as_ref().map(&find).transpose();
    let attributes = &mut message.attributes;
    if let (1, Some(hop)) = (paths.hops.len(), paths.hops.first()) {
        if hop.onlink {
            message.header.flags = RouteFlags::Onlink;
        }
        attributes.extend(index(hop)?.map(RouteAttribute::Oif));
        attributes.extend(hops::attributes(hop, ipv4));
    } else {
        let hops = paths
            .hops
            .iter()
            .map(|hop| Ok(hops::write(hop, index(hop)?, ipv4)));
        attributes.push(RouteAttribute::MultiPath(hops.collect::<io::Result<_>>()?));
    }
    attributes.extend(
        paths
            .source
            .map(|source| RouteAttribute::PrefSource(source.into())),
    );
    let mtu = paths.mtu.map(|mtu| vec![RouteMetric::Mtu(mtu)]);
    attributes.extend(mtu.map(RouteAttribute::Metrics));
    Ok(())
}

fn source_and_mtu(source: Option<IpAddr>, mtu: Option<u32>) -> impl Iterator<Item = RouteAttribute> {
    let source = source.map(|source| RouteAttribute::PrefSource(source.into()));
    let mtu = mtu.map(|mtu| RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    source.into_iter().chain(mtu)
}

/// Deletes the route of this key that bears our mark, whatever else it says.
pub(super) fn delete(key: &RouteKey) -> Request {
    let mut message = of_key(key);
    // Any scope and, by leaving it out, any type.
    message.header.scope = RawScope::NoWhere;
    Request::new(libc::RTM_DELROUTE, 0, &message)
}

/// Deletes the route of this key by a device that was added by hand.
pub(super) fn delete_by_hand(key: &RouteKey, index: u32) -> Request {
    let mut message = of_key(key);
    message.header.scope = RawScope::NoWhere;
    message.header.protocol = RouteProtocol::Boot;
    message.attributes.push(RouteAttribute::Oif(index));
    Request::new(libc::RTM_DELROUTE, 0, &message)
}

/// What an `RTM_NEWROUTE` says; nothing for routes that don't concern us.
pub(super) fn read(
    body: &[u8],
    family: AddressFamily,
    (links, next_hops): (&LinkTable, &NextHopTable),
    wanted: &BTreeSet<RouteKey>,
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
    let ours = header.protocol == RouteProtocol::Other(PROTOCOL);
    // Of perhaps a million routes a handful matter: look at the metric alone first.
    let usual = ours || bears_our_metric(attributes)?;
    if !usual && wanted.is_empty() {
        return Ok(None);
    }
    let parts = Parts::read(&header, attributes, links)?;
    let key = RouteKey {
        table: parts.table,
        prefix: parts.prefix,
        metric: parts.metric,
    };
    // Another type of service is another key, which no route of ours has.
    if !ours && header.tos != 0 {
        return Ok(None);
    }
    if !usual && !wanted.contains(&key) {
        return Ok(None);
    }
    let route = Route {
        owner: match header.protocol {
            _ if ours => Owner::Ours,
            RouteProtocol::Kernel => Owner::Kernel,
            _ => Owner::Foreign,
        },
        kind: match parts.next_hop {
            Some(id) if ours => parts.leading_to(&header, next_hops.target(id)),
            _ => parts.kind(&header, links, ours),
        },
    };
    Ok(Some((key, route)))
}

/// How the kernel would send to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// The device's index.
    pub(super) index: u32,
    /// The gateway, of either family; `None`: on-link.
    pub(super) gateway: Option<IpAddr>,
    /// The route's MTU in bytes.
    pub(super) mtu: Option<u32>,
}

/// What an answer to [`get`] says; nothing where packets are refused.
pub(super) fn read_path(body: &[u8]) -> Result<Option<Way>, DecodeError> {
    let header = RouteHeader::parse(body)?;
    if !matches!(header.kind, RouteType::Unicast | RouteType::Local) {
        return Ok(None);
    }
    let mut index = None;
    let mut gateway = None;
    let mut mtu = None;
    for attribute in NlasIterator::new(&body[HEADER..]) {
        let attribute = attribute?;
        match attribute.kind() {
            libc::RTA_OIF => index = Some(parse_u32(attribute.value())?),
            libc::RTA_GATEWAY => gateway = Some(parse_ip(attribute.value())?),
            RTA_VIA => gateway = Some(via(attribute.value())?),
            libc::RTA_METRICS => mtu = metrics(attribute.value())?.0,
            _ => {}
        }
    }
    Ok(index.map(|index| Way { index, gateway, mtu }))
}

/// What an answer to [`find`] says; nothing where packets are refused.
pub(super) fn read_found(body: &[u8], links: &LinkTable) -> Result<Option<FoundRoute>, DecodeError> {
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
        key: RouteKey {
            table: parts.table,
            prefix: parts.prefix,
            metric: parts.metric,
        },
        links: of_index.into_iter().chain(hops).collect(),
    }))
}

/// A gateway of the other family (`struct rtvia`): the family in two bytes, then the address.
fn via(value: &[u8]) -> Result<IpAddr, DecodeError> {
    let address = value
        .get(2..)
        .ok_or_else(|| DecodeError::from("RTA_VIA without an address"))?;
    parse_ip(address)
}

/// The family of an address, as netlink says it.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// A route's attributes, sorted into those that we write and words for the rest.
struct Parts {
    table: u32,
    prefix: IpNet,
    metric: u32,
    index: Option<u32>,
    gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    mtu: Option<u32>,
    /// A next-hop object's id: what else is said of the way is that object's.
    next_hop: Option<u32>,
    encap: (u16, Vec<u8>),
    /// Of several; nothing where one says what we never write.
    hops: Option<Vec<Hop>>,
    /// How much of the rest is about what `encap` and `hops` hold too.
    understood: usize,
    rest: Words,
}

impl Parts {
    fn read(header: &RouteHeader, attributes: &[u8], links: &LinkTable) -> Result<Parts, DecodeError> {
        let unspecified = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let mut destination = unspecified;
        let mut parts = Parts {
            table: header.table.into(),
            prefix: IpNet::from(unspecified),
            metric: 0,
            index: None,
            gateway: None,
            source: None,
            mtu: None,
            next_hop: next_hop(attributes)?,
            encap: (0, Vec::new()),
            hops: None,
            understood: 0,
            rest: Words::of_header(header),
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                libc::RTA_DST => destination = parse_ip(value)?,
                libc::RTA_TABLE => parts.table = parse_u32(value)?,
                libc::RTA_PRIORITY => parts.metric = parse_u32(value)?,
                libc::RTA_OIF => parts.index = Some(parse_u32(value)?),
                libc::RTA_GATEWAY => parts.gateway = Some(parse_ip(value)?),
                libc::RTA_PREFSRC => parts.source = Some(parse_ip(value)?),
                libc::RTA_MULTIPATH | libc::RTA_ENCAP | libc::RTA_ENCAP_TYPE | RTA_VIA | RTA_NH_ID
                    if parts.next_hop.is_some() => {}
                libc::RTA_METRICS => {
                    let (mtu, others) = metrics(value)?;
                    parts.mtu = mtu;
                    parts.rest.metrics(&others);
                }
                kind => {
                    let before = parts.rest.len();
                    parts.rest.attribute(kind, value, links);
                    let more = parts.rest.len() - before;
                    match kind {
                        libc::RTA_MULTIPATH => parts.hops = hops::read(value, links)?,
                        libc::RTA_ENCAP_TYPE => parts.encap.0 = hops::kind(value),
                        libc::RTA_ENCAP => parts.encap.1 = value.to_vec(),
                        RTA_VIA => parts.gateway = Some(via(value)?),
                        _ => continue,
                    }
                    parts.understood += more;
                }
            }
        }
        let length = header.destination_prefix_length;
        parts.prefix = IpNet::new(destination, length)
            .map_err(|_| DecodeError::from(format!("route to {destination} with prefix length {length}")))?;
        Ok(parts)
    }

    /// What leads to a next-hop object, if it says no more than that.
    fn leading_to(self, header: &RouteHeader, target: RouteTarget) -> RouteKind {
        if header.kind == RouteType::Unicast && self.rest.is_empty() {
            return RouteKind::NextHop {
                target,
                source: self.source,
                mtu: self.mtu,
            };
        }
        RouteKind::Other(format!("{} {target}", self.words(header, None)))
    }

    /// Exactly what we write, or words.
    fn kind(self, header: &RouteHeader, links: &LinkTable, ours: bool) -> RouteKind {
        if ours && let Some(kind) = self.paths(header, links) {
            return kind;
        }
        let link = self.index.and_then(|index| links.name(index)).cloned();
        let plain = self.rest.is_empty();
        match (header.kind, self.gateway, link) {
            (RouteType::Unicast, Some(gateway), Some(link))
                if plain && header.flags.contains(RouteFlags::Onlink) =>
            {
                RouteKind::Gateway {
                    gateway,
                    link,
                    source: self.source,
                    mtu: self.mtu,
                }
            }
            // IPv6 shows `dev lo`.
            (RouteType::Unreachable, None, _) if plain && self.source.is_none() && self.mtu.is_none() => {
                RouteKind::Unreachable
            }
            (RouteType::Throw, None, _) if plain && self.source.is_none() && self.mtu.is_none() => {
                RouteKind::Throw
            }
            (RouteType::BlackHole, None, _)
                if plain && ours && self.source.is_none() && self.mtu.is_none() =>
            {
                RouteKind::Blackhole
            }
            (_, _, link) => RouteKind::Other(self.words(header, link.as_ref().map(LinkName::as_str))),
        }
    }

    /// A route to next hops as we write it.
    fn paths(&self, header: &RouteHeader, links: &LinkTable) -> Option<RouteKind> {
        let scope = match header.scope {
            RawScope::Universe => RouteScope::Global,
            RawScope::Link => RouteScope::Link,
            RawScope::Host => RouteScope::Host,
            _ => return None,
        };
        let scoped = usize::from(scope != RouteScope::Global);
        if header.kind != RouteType::Unicast || self.rest.len() != self.understood + scoped {
            return None;
        }
        let hops = match &self.hops {
            Some(hops) => hops.iter().cloned().collect(),
            None => {
                let encap = match self.encap.0 {
                    0 => None,
                    kind => Some(hops::read_encap(kind, &self.encap.1).ok().flatten()?),
                };
                let hop = Hop {
                    gateway: self.gateway,
                    link: Some(links.name(self.index?)?.clone()),
                    onlink: header.flags.contains(RouteFlags::Onlink),
                    weight: 1,
                    encap,
                };
                BTreeSet::from([hop])
            }
        };
        let paths = Paths {
            hops,
            scope,
            source: self.source,
            mtu: self.mtu,
        };
        Some(paths.into_kind())
    }

    fn words(self, header: &RouteHeader, link: Option<&str>) -> String {
        let mut words = vec![words::kind(header.kind).map(str::to_owned)];
        // One of the other family is among the rest.
        let gateway = self
            .gateway
            .filter(|gateway| gateway.is_ipv4() == self.prefix.addr().is_ipv4());
        words.push(gateway.map(|gateway| format!("via {gateway}")));
        let unnamed = self.index.map(|index| format!("dev if{index}"));
        words.push(link.map(|link| format!("dev {link}")).or(unnamed));
        words.push(
            header
                .flags
                .contains(RouteFlags::Onlink)
                .then(|| "onlink".to_owned()),
        );
        words.push(Some(format!("proto {}", words::protocol(header.protocol))));
        words.push(self.source.map(|source| format!("src {source}")));
        words.push(self.mtu.map(|mtu| format!("mtu {mtu}")));
        words.push(self.next_hop.map(|id| format!("nhid {id}")));
        words.push((!self.rest.is_empty()).then(|| self.rest.to_string()));
        words.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// `RTA_METRICS`: the MTU and the numbers of all others.
fn metrics(value: &[u8]) -> Result<(Option<u32>, Vec<u16>), DecodeError> {
    let mut mtu = None;
    let mut others = Vec::new();
    for metric in NlasIterator::new(value) {
        let metric = metric?;
        match metric.kind() {
            RTAX_MTU => mtu = Some(parse_u32(metric.value())?),
            other => others.push(other),
        }
    }
    Ok((mtu, others))
}

/// `RTA_NH_ID`.
fn next_hop(attributes: &[u8]) -> Result<Option<u32>, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == RTA_NH_ID {
            return parse_u32(attribute.value()).map(Some);
        }
    }
    Ok(None)
}

fn bears_our_metric(attributes: &[u8]) -> Result<bool, DecodeError> {
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == libc::RTA_PRIORITY {
            return Ok([ANCHOR_METRIC, BACKSTOP_METRIC].contains(&parse_u32(attribute.value())?));
        }
    }
    Ok(false)
}

fn of_key(key: &RouteKey) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(key.prefix.addr());
    message.header.destination_prefix_length = key.prefix.prefix_len();
    // Tables beyond 255 don't fit the header; the attribute holds them all.
    message.header.table = u8::try_from(key.table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message
        .attributes
        .push(RouteAttribute::Destination(key.prefix.addr().into()));
    message.attributes.push(RouteAttribute::Table(key.table));
    message.attributes.push(RouteAttribute::Priority(key.metric));
    message
}
