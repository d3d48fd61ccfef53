//! Next hops of routes: encodes them, and decodes those of the kernel.

use std::io;

use netlink_packet_core::DecodeError;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{RouteAttribute, RouteLwEnCapType, RouteNextHop, RouteNextHopFlags};
use rtnetlink::RouteNextHopBuilder;

use super::parts::{ip, via};
use crate::kernel::netlink::link_table::LinkTable;
use crate::kernel::netlink::lwtunnel::{self, Tunnel};
use crate::model::{Encap, Hop};

/// Encodes a next hop of a route of this family; `index` is the one of its device.
pub(super) fn write(hop: &Hop, index: Option<u32>, family: AddressFamily) -> io::Result<RouteNextHop> {
    let more = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
    let mut builder = RouteNextHopBuilder::new(family).weight(more);
    if let Some(index) = index {
        builder = builder.interface(index);
    }
    if hop.onlink {
        builder = builder.onlink();
    }
    if let Some(gateway) = hop.gateway {
        builder = builder.via(gateway).map_err(io::Error::other)?;
    }
    let mut message = builder.build();
    // rtnetlink 0.24 supports no IP encapsulation for one of several next hops.
    let encap = hop.encap.as_ref().map(|encap| tunnel(encap).attributes());
    message.attributes.extend(encap.into_iter().flatten());
    Ok(message)
}

/// Decodes several next hops; `None` if one has attributes that Adit never writes.
pub(super) fn read(found: Vec<RouteNextHop>, links: &LinkTable) -> Result<Option<Vec<Hop>>, DecodeError> {
    let mut hops = Vec::with_capacity(found.len());
    for one in found {
        let mut hop = Hop {
            gateway: None,
            link: links.name(one.interface_index).cloned(),
            onlink: one.flags.contains(RouteNextHopFlags::Onlink),
            weight: u16::from(one.hops) + 1,
            encap: None,
        };
        let (mut kind, mut parts) = (RouteLwEnCapType::None, Vec::new());
        for attribute in one.attributes {
            match attribute {
                RouteAttribute::Gateway(gateway) => hop.gateway = Some(ip(&gateway)?),
                RouteAttribute::Via(gateway) => hop.gateway = Some(via(&gateway)?),
                RouteAttribute::EncapType(found) => kind = found,
                RouteAttribute::Encap(found) => parts = found,
                RouteAttribute::Realm(_) => return Ok(None),
                _ => {}
            }
        }
        if kind != RouteLwEnCapType::None {
            hop.encap = encap(lwtunnel::of_parts(kind, parts.into_iter().map(Ok))?);
            if hop.encap.is_none() {
                return Ok(None);
            }
        }
        hops.push(hop);
    }
    Ok(Some(hops))
}

/// Decodes an encapsulation; `None` if it has attributes that Adit never writes.
pub(super) fn encap(found: Option<Tunnel>) -> Option<Encap> {
    // These are 0 by default.
    let plain = found.filter(|found| found.tos == 0 && found.flags == 0);
    plain.map(|found| Encap {
        id: found.id,
        source: found.source,
        destination: found.destination,
        ttl: found.ttl,
    })
}

fn tunnel(encap: &Encap) -> Tunnel {
    Tunnel {
        id: encap.id,
        source: encap.source,
        destination: encap.destination,
        ttl: encap.ttl,
        tos: 0,
        flags: 0,
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use netlink_packet_core::{DefaultNla, Emitable as _, NlaBuffer, ParseableParametrized as _};
    use netlink_packet_route::route::{RouteIpTunnel, RouteLwTunnelEncap, RouteRealm, RouteType};

    use super::*;

    /// Decodes one of several next hops, in the form of the kernel.
    fn read_one(attributes: Vec<RouteAttribute>) -> Option<Vec<Hop>> {
        let mut hop = RouteNextHop::default();
        hop.attributes = attributes;
        let several = RouteAttribute::MultiPath(vec![hop]);
        let mut bytes = vec![0; several.buffer_len()];
        several.emit(&mut bytes);
        let context = (AddressFamily::Inet, RouteType::Unicast, RouteLwEnCapType::None);
        let parsed = RouteAttribute::parse_with_param(&NlaBuffer::new(&bytes), context);
        let Ok(RouteAttribute::MultiPath(hops)) = parsed else {
            panic!("{parsed:?}");
        };
        read(hops, &LinkTable::default()).unwrap()
    }

    fn raw(kind: u16, value: Vec<u8>) -> RouteAttribute {
        RouteAttribute::Other(DefaultNla::new(kind, value))
    }

    #[test]
    fn unknown_attributes_of_next_hops_are_passed_over() {
        let gateway = RouteAttribute::Gateway(IpAddr::from([192, 0, 2, 1]).into());
        let encap = Encap {
            id: 9,
            source: None,
            destination: [192, 0, 2, 2].into(),
            ttl: 0,
        };
        let [parts, kind] = tunnel(&encap).attributes();
        let padding = raw(libc::RTA_PAD, Vec::new());
        let later = raw(99, vec![1; 4]);
        let hops = read_one(vec![gateway.clone(), padding, parts, kind.clone(), later]).unwrap();
        assert_eq!(hops[0].gateway, Some(IpAddr::from([192, 0, 2, 1])));
        assert_eq!(hops[0].encap, Some(encap));

        let realm = RouteAttribute::Realm(RouteRealm {
            source: 0,
            destination: 1,
        });
        assert_eq!(read_one(vec![gateway, realm]), None);
        for said in [RouteIpTunnel::Tos(4), RouteIpTunnel::Opts(Vec::new())] {
            let RouteAttribute::Encap(mut parts) = tunnel(&encap).attributes()[0].clone() else {
                unreachable!("it is the first one");
            };
            parts.push(RouteLwTunnelEncap::Ip(said.clone()));
            let attributes = vec![RouteAttribute::Encap(parts), kind.clone()];
            assert_eq!(read_one(attributes), None, "{said:?}");
        }
    }
}
