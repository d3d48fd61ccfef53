//! Next hops of routes: how they are written, and what the kernel says of them.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, NlasIterator, parse_ip, parse_u8};
use netlink_packet_route::route::{
    RouteAttribute, RouteIp6Tunnel, RouteIpTunnel, RouteLwEnCapType, RouteLwTunnelEncap, RouteNextHop,
    RouteNextHopFlags, RouteVia,
};

use super::{RTA_VIA, via};
use crate::kernel::netlink::table::LinkTable;
use crate::model::{Encap, Hop};

/// struct rtnexthop: length, flags, weight − 1, interface index.
const NEXT_HOP_HEADER: usize = 8;
/// `RTNH_F_ONLINK` (linux/rtnetlink.h).
const ONLINK: u8 = 4;
// linux/lwtunnel.h; the same numbers for both families
const ENCAP_IP: u16 = 2;
const ENCAP_IP6: u16 = 4;
const TUNNEL_ID: u16 = 1;
const TUNNEL_DESTINATION: u16 = 2;
const TUNNEL_SOURCE: u16 = 3;
const TUNNEL_TTL: u16 = 4;
const TUNNEL_TOS: u16 = 5;
const TUNNEL_FLAGS: u16 = 6;
const TUNNEL_OPTIONS: u16 = 8;

/// The attributes of a route's only next hop, or of one of several; the device is told apart from them.
pub(super) fn attributes(hop: &Hop, ipv4: bool) -> Vec<RouteAttribute> {
    let mut attributes = Vec::new();
    attributes.extend(hop.gateway.map(|address| gateway(address, ipv4)));
    if let Some(encap) = &hop.encap {
        attributes.push(RouteAttribute::Encap(tunnel(encap)));
        let kind = match encap.destination {
            IpAddr::V4(_) => RouteLwEnCapType::Ip,
            IpAddr::V6(_) => RouteLwEnCapType::Ip6,
        };
        attributes.push(RouteAttribute::EncapType(kind));
    }
    attributes
}

/// A gateway; an IPv4 route may have an IPv6 one.
pub(super) fn gateway(gateway: IpAddr, ipv4: bool) -> RouteAttribute {
    match gateway {
        IpAddr::V6(gateway) if ipv4 => RouteAttribute::Via(RouteVia::Inet6(gateway)),
        gateway => RouteAttribute::Gateway(gateway.into()),
    }
}

/// One next hop of several; `index` is its device's.
pub(super) fn write(hop: &Hop, index: Option<u32>, ipv4: bool) -> RouteNextHop {
    let mut message = RouteNextHop::default();
    if hop.onlink {
        message.flags = RouteNextHopFlags::Onlink;
    }
    message.hops = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    message.interface_index = index.unwrap_or(0);
    message.attributes = attributes(hop, ipv4);
    message
}

/// `RTA_MULTIPATH`; `None` where one says what we never write.
pub(super) fn read(mut value: &[u8], links: &LinkTable) -> Result<Option<Vec<Hop>>, DecodeError> {
    let mut hops = Vec::new();
    while let Some((header, _)) = value.split_first_chunk::<NEXT_HOP_HEADER>() {
        let [length, high, flags, more, a, b, c, d] = *header;
        let length = usize::from(u16::from_ne_bytes([length, high]));
        let Some(attributes) = value.get(NEXT_HOP_HEADER..length) else {
            return Err("RTA_MULTIPATH is cut".into());
        };
        let mut hop = Hop {
            gateway: None,
            link: links.name(u32::from_ne_bytes([a, b, c, d])).cloned(),
            onlink: flags & ONLINK != 0,
            weight: u16::from(more) + 1,
            encap: None,
        };
        let mut encap = (0, Vec::new());
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                libc::RTA_GATEWAY => hop.gateway = Some(parse_ip(value)?),
                RTA_VIA => hop.gateway = Some(via(value)?),
                libc::RTA_ENCAP_TYPE => encap.0 = kind(value),
                libc::RTA_ENCAP => encap.1 = value.to_vec(),
                libc::RTA_FLOW => return Ok(None),
                _ => {}
            }
        }
        if encap.0 != 0 {
            hop.encap = read_encap(encap.0, &encap.1)?;
            if hop.encap.is_none() {
                return Ok(None);
            }
        }
        hops.push(hop);
        value = value.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(Some(hops))
}

/// `RTA_ENCAP_TYPE`.
pub(super) fn kind(value: &[u8]) -> u16 {
    value.first_chunk().map_or(0, |kind| u16::from_ne_bytes(*kind))
}

/// `RTA_ENCAP`; `None` where it says what we never write.
pub(super) fn read_encap(kind: u16, value: &[u8]) -> Result<Option<Encap>, DecodeError> {
    if kind != ENCAP_IP && kind != ENCAP_IP6 {
        return Ok(None);
    }
    let (mut id, mut source, mut destination, mut ttl) = (0, None, None, 0);
    for attribute in NlasIterator::new(value) {
        let attribute = attribute?;
        let value = attribute.value();
        match attribute.kind() {
            TUNNEL_ID => id = value.first_chunk().map_or(0, |id| u64::from_be_bytes(*id)),
            TUNNEL_DESTINATION => destination = Some(parse_ip(value)?),
            TUNNEL_SOURCE => source = Some(parse_ip(value)?).filter(|source| !source.is_unspecified()),
            TUNNEL_TTL => ttl = parse_u8(value)?,
            // They are 0 unless somebody sets them.
            TUNNEL_TOS | TUNNEL_FLAGS if value.iter().any(|byte| *byte != 0) => return Ok(None),
            TUNNEL_OPTIONS => return Ok(None),
            // Among them padding (`LWTUNNEL_IP_PAD`).
            _ => {}
        }
    }
    Ok(destination.map(|destination| Encap {
        id,
        source,
        destination,
        ttl,
    }))
}

fn tunnel(encap: &Encap) -> Vec<RouteLwTunnelEncap> {
    let v4 = |part| RouteLwTunnelEncap::Ip(part);
    let v6 = |part| RouteLwTunnelEncap::Ip6(part);
    let mut parts = match encap.destination {
        IpAddr::V4(destination) => vec![
            v4(RouteIpTunnel::Id(encap.id)),
            v4(RouteIpTunnel::Destination(destination)),
            v4(RouteIpTunnel::Ttl(encap.ttl)),
        ],
        IpAddr::V6(destination) => vec![
            v6(RouteIp6Tunnel::Id(encap.id)),
            v6(RouteIp6Tunnel::Destination(destination)),
            v6(RouteIp6Tunnel::Hoplimit(encap.ttl)),
        ],
    };
    parts.extend(encap.source.map(|source| match source {
        IpAddr::V4(source) => v4(RouteIpTunnel::Source(source)),
        IpAddr::V6(source) => v6(RouteIp6Tunnel::Source(source)),
    }));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::netlink::attribute::push;

    /// A next hop of several with these attributes.
    fn next_hop(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            push(&mut body, *kind, value);
        }
        let length = u16::try_from(NEXT_HOP_HEADER + body.len()).unwrap();
        [&length.to_ne_bytes()[..], &[0; 6], &body].concat()
    }

    #[test]
    fn unknown_attributes_of_next_hops_are_passed_over() {
        let links = LinkTable::default();
        let mut tunnel = Vec::new();
        push(&mut tunnel, 7, &[]);
        push(&mut tunnel, TUNNEL_ID, &9u64.to_be_bytes());
        push(&mut tunnel, TUNNEL_DESTINATION, &[192, 0, 2, 2]);
        push(&mut tunnel, TUNNEL_TOS, &[0]);
        push(&mut tunnel, 99, &[1; 4]);
        let gateway = (libc::RTA_GATEWAY, &[192, 0, 2, 1][..]);
        let kind = (libc::RTA_ENCAP_TYPE, &ENCAP_IP.to_ne_bytes()[..]);
        let value = next_hop(&[
            gateway,
            (24, &[]),
            kind,
            (libc::RTA_ENCAP, &tunnel),
            (99, &[1; 4]),
        ]);
        let hops = read(&value, &links).unwrap().unwrap();
        let encap = hops[0].encap.as_ref().unwrap();
        assert_eq!((encap.id, encap.destination), (9, IpAddr::from([192, 0, 2, 2])));

        let realm = (libc::RTA_FLOW, &[1, 0, 0, 0][..]);
        assert_eq!(read(&next_hop(&[gateway, realm]), &links).unwrap(), None);
        for told in [
            (TUNNEL_TOS, &[4][..]),
            (TUNNEL_FLAGS, &[1, 0]),
            (TUNNEL_OPTIONS, &[]),
        ] {
            let mut tunnel = tunnel.clone();
            push(&mut tunnel, told.0, told.1);
            assert_eq!(read_encap(ENCAP_IP, &tunnel).unwrap(), None, "{told:?}");
        }
    }
}
