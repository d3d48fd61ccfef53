//! The attributes of a route, split into those that Adit writes and text for the others.
//!
//! Numbers and addresses are read directly; structured attributes are decoded by netlink-packet-route 0.34.
//! Decoding all of them with it, which also requires to find the type of an encapsulation first, costs a
//! sixth more instructions.

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
use super::text::{self, Text};
use crate::kernel::netlink::link_table::LinkTable;
use crate::kernel::netlink::lwtunnel;
use crate::kernel::netlink::uapi;
use crate::model::{Encap, Hop, NextHopObject, Paths, RouteKey, RouteKind, RouteScope};
use crate::net::LinkName;

/// The offset of the attributes in a message about a route.
pub(in crate::kernel::netlink) const HEADER: usize = size_of::<RouteMessageBuffer>();

/// Decodes the key of a route and nothing else.
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
        tos: header.tos,
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
    /// The id of a next-hop object. Other attributes of the path belong to that object.
    pub(super) next_hop: Option<u32>,
    pub(super) gateway: Option<IpAddr>,
    source: Option<IpAddr>,
    pub(super) mtu: Option<u32>,
    /// The type of an encapsulation.
    encap_type: RouteLwEnCapType,
    /// The encapsulation; `None` if it is one that Adit never writes.
    encap: Option<Encap>,
    /// Several next hops; `None` if one is of a form that Adit never writes.
    pub(super) hops: Option<Vec<Hop>>,
    /// How many of the other attributes are also represented by `encap` and `hops`.
    understood: usize,
    rest: Text,
}

/// Attributes of the path, which count only without a next-hop object.
#[derive(Default)]
struct PathAttributes<'a> {
    via: Option<NlaBuffer<&'a [u8]>>,
    several: Option<NlaBuffer<&'a [u8]>>,
    /// The encapsulation; its type is in a later attribute.
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
        let mut path = PathAttributes::default();
        let mut parts = Parts {
            key: RouteKey {
                table: header.table.into(),
                prefix: destination.into(),
                tos: header.tos,
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
            rest: Text::of_header(header),
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
                libc::RTA_VIA => path.via = Some(attribute),
                libc::RTA_MULTIPATH => path.several = Some(attribute),
                libc::RTA_ENCAP => path.encap = Some(attribute),
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
            for attribute in [path.via, path.several].into_iter().flatten() {
                parts.take_path(RouteAttribute::parse_with_param(&attribute, context)?, links)?;
            }
            if parts.encap_type != RouteLwEnCapType::None {
                parts.rest.encap();
                let value = path.encap.as_ref().map_or(&[][..], NlaBuffer::value);
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

    fn take_path(&mut self, attribute: RouteAttribute, links: &LinkTable) -> Result<(), DecodeError> {
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

    /// The kind of a route with a next-hop object, if it has no other attributes.
    pub(super) fn leading_to(self, header: &RouteHeader, object: NextHopObject) -> RouteKind {
        if header.kind == RouteType::Unicast && self.rest.is_empty() {
            return RouteKind::NextHop {
                object,
                source: self.source,
                mtu: self.mtu,
            };
        }
        RouteKind::Other(format!("{} {object}", self.text(header, None)))
    }

    /// The kind of the route: exactly what Adit writes, or text.
    pub(super) fn kind(self, header: &RouteHeader, links: &LinkTable, managed: bool) -> RouteKind {
        if managed && let Some(kind) = self.paths(header, links) {
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
            // IPv6 reports `dev lo`.
            (RouteType::Unreachable, None, _) if plain && self.source.is_none() && self.mtu.is_none() => {
                RouteKind::Unreachable
            }
            (RouteType::Throw, None, _) if plain && self.source.is_none() && self.mtu.is_none() => {
                RouteKind::Throw
            }
            (RouteType::BlackHole, None, _)
                if plain && managed && self.source.is_none() && self.mtu.is_none() =>
            {
                RouteKind::Blackhole
            }
            (_, _, link) => RouteKind::Other(self.text(header, link.as_ref().map(LinkName::as_str))),
        }
    }

    /// A route to next hops as Adit writes it.
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

    fn text(self, header: &RouteHeader, link: Option<&str>) -> String {
        let mut parts = vec![text::kind(header.kind).map(str::to_owned)];
        // A gateway of the other family is among the other attributes.
        let gateway = self
            .gateway
            .filter(|gateway| gateway.is_ipv4() == self.key.prefix.addr().is_ipv4());
        parts.push(gateway.map(|gateway| format!("via {gateway}")));
        let unnamed = self.index.map(|index| format!("dev if{index}"));
        parts.push(link.map(|link| format!("dev {link}")).or(unnamed));
        parts.push(
            header
                .flags
                .contains(RouteFlags::Onlink)
                .then(|| "onlink".to_owned()),
        );
        parts.push(Some(format!("proto {}", text::protocol(header.protocol))));
        parts.push(self.source.map(|source| format!("src {source}")));
        parts.push(self.mtu.map(|mtu| format!("mtu {mtu}")));
        parts.push(self.next_hop.map(|id| format!("nhid {id}")));
        parts.push((!self.rest.is_empty()).then(|| self.rest.to_string()));
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    }
}

/// Decodes an address of a route.
pub(super) fn ip(address: &RouteAddress) -> Result<IpAddr, DecodeError> {
    match address {
        RouteAddress::Inet(address) => Ok((*address).into()),
        RouteAddress::Inet6(address) => Ok((*address).into()),
        _ => Err("an address that is neither IPv4 nor IPv6".into()),
    }
}

/// Decodes a gateway of the other family.
pub(super) fn via(gateway: &RouteVia) -> Result<IpAddr, DecodeError> {
    match gateway {
        RouteVia::Inet(address) => Ok((*address).into()),
        RouteVia::Inet6(address) => Ok((*address).into()),
        _ => Err("a gateway that is neither IPv4 nor IPv6".into()),
    }
}
