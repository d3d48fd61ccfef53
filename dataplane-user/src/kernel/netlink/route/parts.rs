//! A route's attributes, sorted into those that we write and words for the rest.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{
    DecodeError, NlasIterator, Parseable as _, ParseableParametrized as _, parse_ip, parse_u16, parse_u32,
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

/// What tells whether a route concerns us, and what must be known before its attributes can be decoded.
#[derive(Debug)]
pub(in crate::kernel::netlink) struct Outline {
    pub(in crate::kernel::netlink) key: RouteKey,
    /// A next-hop object's id: what else is said of the way is that object's.
    pub(super) next_hop: Option<u32>,
    /// The type of an encapsulation, which comes behind what it is the type of.
    pub(super) encap: RouteLwEnCapType,
}

impl Outline {
    pub(in crate::kernel::netlink) fn read(
        header: &RouteHeader,
        attributes: &[u8],
    ) -> Result<Outline, DecodeError> {
        let mut destination = match header.address_family {
            AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let (mut table, mut metric) = (header.table.into(), 0);
        let (mut next_hop, mut encap) = (None, RouteLwEnCapType::None);
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                libc::RTA_DST => destination = parse_ip(value)?,
                libc::RTA_TABLE => table = parse_u32(value)?,
                libc::RTA_PRIORITY => metric = parse_u32(value)?,
                libc::RTA_ENCAP_TYPE => encap = parse_u16(value)?.into(),
                uapi::RTA_NH_ID => next_hop = Some(parse_u32(value)?),
                _ => {}
            }
        }
        let length = header.destination_prefix_length;
        let prefix = IpNet::new(destination, length)
            .map_err(|_| DecodeError::from(format!("route to {destination} with prefix length {length}")))?;
        let key = RouteKey {
            table,
            prefix,
            metric,
        };
        Ok(Outline { key, next_hop, encap })
    }
}

/// A route.
pub(in crate::kernel::netlink) struct Parts {
    pub(in crate::kernel::netlink) outline: Outline,
    pub(in crate::kernel::netlink) index: Option<u32>,
    pub(super) gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    pub(super) mtu: Option<u32>,
    /// Of the only one; nothing where it says what we never write.
    encap: Option<Encap>,
    /// Of several; nothing where one says what we never write.
    pub(super) hops: Option<Vec<Hop>>,
    /// How much of the rest is about what `encap` and `hops` hold too.
    understood: usize,
    rest: Words,
}

impl Parts {
    pub(in crate::kernel::netlink) fn read(
        header: &RouteHeader,
        attributes: &[u8],
        links: &LinkTable,
    ) -> Result<Parts, DecodeError> {
        Parts::of(header, Outline::read(header, attributes)?, attributes, links)
    }

    pub(super) fn of(
        header: &RouteHeader,
        outline: Outline,
        attributes: &[u8],
        links: &LinkTable,
    ) -> Result<Parts, DecodeError> {
        let context = (header.address_family, header.kind, outline.encap);
        let of_object = outline.next_hop.is_some();
        let mut parts = Parts {
            outline,
            index: None,
            gateway: None,
            source: None,
            mtu: None,
            encap: None,
            hops: None,
            understood: 0,
            rest: Words::of_header(header),
        };
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            match attribute.kind() {
                libc::RTA_DST | libc::RTA_TABLE | libc::RTA_PRIORITY | uapi::RTA_NH_ID => continue,
                libc::RTA_MULTIPATH | libc::RTA_ENCAP | libc::RTA_ENCAP_TYPE | libc::RTA_VIA if of_object => {
                    continue;
                }
                // One by one: the crate would allocate for the whole.
                libc::RTA_ENCAP => {
                    parts.encap = hops::encap(lwtunnel::read(parts.outline.encap, attribute.value())?);
                }
                libc::RTA_METRICS => {
                    for metric in NlasIterator::new(attribute.value()) {
                        parts.take_metric(&RouteMetric::parse(&metric?)?);
                    }
                }
                _ => parts.take(RouteAttribute::parse_with_param(&attribute, context)?, links)?,
            }
        }
        Ok(parts)
    }

    fn take_metric(&mut self, metric: &RouteMetric) {
        match metric {
            RouteMetric::Mtu(mtu) => self.mtu = Some(*mtu),
            other => self.rest.metric(other),
        }
    }

    fn take(&mut self, attribute: RouteAttribute, links: &LinkTable) -> Result<(), DecodeError> {
        let before = self.rest.len();
        self.rest.attribute(&attribute, links);
        let more = self.rest.len() - before;
        match attribute {
            RouteAttribute::Oif(index) => self.index = Some(index),
            RouteAttribute::Gateway(address) => self.gateway = Some(ip(&address)?),
            RouteAttribute::PrefSource(address) => self.source = Some(ip(&address)?),
            RouteAttribute::MultiPath(hops) => self.hops = hops::read(hops, links)?,
            RouteAttribute::Via(gateway) => self.gateway = Some(via(&gateway)?),
            RouteAttribute::EncapType(_) => {}
            _ => return Ok(()),
        }
        self.understood += more;
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
                if self.outline.encap != RouteLwEnCapType::None && self.encap.is_none() {
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
            .filter(|gateway| gateway.is_ipv4() == self.outline.key.prefix.addr().is_ipv4());
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
        words.push(self.outline.next_hop.map(|id| format!("nhid {id}")));
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
