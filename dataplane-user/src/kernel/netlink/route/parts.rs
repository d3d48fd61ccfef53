//! A route's attributes, sorted into those that we write and words for the rest.
//!
//! Numbers and addresses are read where they stand, and what has a form of its own is decoded by netlink-packet-route 0.34. To
//! let it decode all of them, and so to look for an encapsulation's type beforehand, costs a sixth more instructions.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, NlaBuffer, NlasIterator, Parseable as _, ParseableParametrized as _, parse_ip, parse_u16,
    parse_u32,
};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteLwEnCapType, RouteMessageBuffer, RouteMetric,
    RouteScope as RawScope, RouteType, RouteVia,
};

use super::hops;
use super::words::{self, Words};
use crate::kernel::netlink::lwtunnel;
use crate::kernel::netlink::table::LinkTable;
use crate::kernel::netlink::uapi;
use crate::model::{Encap, Hop, Paths, RouteKey, RouteKind, RouteScope, RouteTarget};
use crate::net::LinkName;

/// Where the attributes of a route's message begin.
pub(in crate::kernel::netlink) const HEADER: usize = size_of::<RouteMessageBuffer>();

/// What tells a route from others; nothing else of it is decoded.
pub(in crate::kernel::netlink) fn key(
    header: &RouteHeader,
    attributes: &[u8],
) -> Result<RouteKey, DecodeError> {
    let mut destination = unspecified(header);
    let (mut table, mut metric) = (header.table.into(), 0);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        match attribute.kind() {
            libc::RTA_DST => destination = parse_ip(attribute.value())?,
            libc::RTA_TABLE => table = parse_u32(attribute.value())?,
            libc::RTA_PRIORITY => metric = parse_u32(attribute.value())?,
            _ => {}
        }
    }
    Ok(RouteKey {
        table,
        prefix: prefix(destination, header)?,
        metric,
    })
}

fn unspecified(header: &RouteHeader) -> IpAddr {
    match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn prefix(destination: IpAddr, header: &RouteHeader) -> Result<IpNet, DecodeError> {
    let length = header.destination_prefix_length;
    IpNet::new(destination, length)
        .map_err(|_| DecodeError::from(format!("route to {destination} with prefix length {length}")))
}

/// A route.
pub(in crate::kernel::netlink) struct Parts {
    pub(in crate::kernel::netlink) key: RouteKey,
    pub(in crate::kernel::netlink) index: Option<u32>,
    /// A next-hop object's id: what else is said of the way is that object's.
    pub(super) next_hop: Option<u32>,
    pub(super) gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    pub(super) mtu: Option<u32>,
    /// The type of an encapsulation.
    encap_type: RouteLwEnCapType,
    /// What it says; nothing where that is what we never write.
    encap: Option<Encap>,
    /// Of several; nothing where one says what we never write.
    pub(super) hops: Option<Vec<Hop>>,
    /// How much of the rest is about what `encap` and `hops` hold too.
    understood: usize,
    rest: Words,
}

/// Attributes that say something of the way, which count where no next-hop object says it.
#[derive(Default)]
struct Way<'a> {
    via: Option<NlaBuffer<&'a [u8]>>,
    several: Option<NlaBuffer<&'a [u8]>>,
    /// Its type comes behind it.
    encap: Option<NlaBuffer<&'a [u8]>>,
}

impl Parts {
    pub(in crate::kernel::netlink) fn read(
        header: &RouteHeader,
        attributes: &[u8],
        links: &LinkTable,
    ) -> Result<Parts, DecodeError> {
        let mut destination = unspecified(header);
        let context = (header.address_family, header.kind, RouteLwEnCapType::None);
        let mut way = Way::default();
        let mut parts = Parts {
            key: RouteKey {
                table: header.table.into(),
                prefix: destination.into(),
                metric: 0,
            },
            index: None,
            next_hop: None,
            gateway: None,
            source: None,
            mtu: None,
            encap_type: RouteLwEnCapType::None,
            encap: None,
            hops: None,
            understood: 0,
            rest: Words::of_header(header),
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                libc::RTA_DST => destination = parse_ip(value)?,
                libc::RTA_TABLE => parts.key.table = parse_u32(value)?,
                libc::RTA_PRIORITY => parts.key.metric = parse_u32(value)?,
                libc::RTA_OIF => parts.index = Some(parse_u32(value)?),
                libc::RTA_GATEWAY => parts.gateway = Some(parse_ip(value)?),
                libc::RTA_PREFSRC => parts.source = Some(parse_ip(value)?),
                libc::RTA_METRICS => parts.take_metrics(value)?,
                libc::RTA_VIA => way.via = Some(attribute),
                libc::RTA_MULTIPATH => way.several = Some(attribute),
                libc::RTA_ENCAP => way.encap = Some(attribute),
                libc::RTA_ENCAP_TYPE => parts.encap_type = parse_u16(value)?.into(),
                uapi::RTA_NH_ID => parts.next_hop = Some(parse_u32(value)?),
                _ => parts
                    .rest
                    .attribute(&RouteAttribute::parse_with_param(&attribute, context)?),
            }
        }
        parts.key.prefix = prefix(destination, header)?;
        if parts.next_hop.is_none() {
            let before = parts.rest.len();
            for attribute in [way.via, way.several].into_iter().flatten() {
                parts.take_way(RouteAttribute::parse_with_param(&attribute, context)?, links)?;
            }
            if parts.encap_type != RouteLwEnCapType::None {
                parts.rest.encap();
                let value = way.encap.as_ref().map_or(&[][..], NlaBuffer::value);
                parts.encap = hops::encap(lwtunnel::read(parts.encap_type, value)?);
            }
            parts.understood = parts.rest.len() - before;
        }
        Ok(parts)
    }

    fn take_metrics(&mut self, value: &[u8]) -> Result<(), DecodeError> {
        for metric in NlasIterator::new(value) {
            match RouteMetric::parse(&metric?)? {
                RouteMetric::Mtu(mtu) => self.mtu = Some(mtu),
                other => self.rest.metric(&other),
            }
        }
        Ok(())
    }

    fn take_way(&mut self, attribute: RouteAttribute, links: &LinkTable) -> Result<(), DecodeError> {
        match attribute {
            RouteAttribute::Via(gateway) => {
                self.rest.via(&gateway);
                self.gateway = Some(via(&gateway)?);
            }
            RouteAttribute::MultiPath(hops) => {
                self.rest.next_hops(&hops, links);
                self.hops = hops::read(hops, links)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// What leads to a next-hop object, if it says no more than that.
    pub(super) fn leading_to(self, header: &RouteHeader, target: RouteTarget) -> RouteKind {
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
    pub(super) fn kind(self, header: &RouteHeader, links: &LinkTable, ours: bool) -> RouteKind {
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
        let hops = match self.hops.clone() {
            Some(hops) => hops.into_iter().collect(),
            None => {
                if self.encap_type != RouteLwEnCapType::None && self.encap.is_none() {
                    return None;
                }
                let hop = Hop {
                    gateway: self.gateway,
                    link: Some(links.name(self.index?)?.clone()),
                    onlink: header.flags.contains(RouteFlags::Onlink),
                    weight: 1,
                    encap: self.encap,
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
            .filter(|gateway| gateway.is_ipv4() == self.key.prefix.addr().is_ipv4());
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

/// An address of a route.
pub(super) fn ip(address: &RouteAddress) -> Result<IpAddr, DecodeError> {
    match address {
        RouteAddress::Inet(address) => Ok((*address).into()),
        RouteAddress::Inet6(address) => Ok((*address).into()),
        _ => Err("an address of no family of IP".into()),
    }
}

/// A gateway of the other family.
pub(super) fn via(gateway: &RouteVia) -> Result<IpAddr, DecodeError> {
    match gateway {
        RouteVia::Inet(address) => Ok((*address).into()),
        RouteVia::Inet6(address) => Ok((*address).into()),
        _ => Err("a gateway of no family of IP".into()),
    }
}
