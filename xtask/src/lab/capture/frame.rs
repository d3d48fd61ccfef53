//! Takes a frame apart: outer IP header, UDP with GENEVE, VXLAN or WireGuard, or IP in IP, and the addresses inside.
use std::net::{IpAddr, Ipv6Addr};

use super::super::encapsulation::{Encapsulation, is_wireguard_port};
use super::super::family::Family;

const UDP: u8 = 17;
/// IP packets in IP, RFC 2003 and RFC 2473.
const IPV4: u8 = 4;
const IPV6: u8 = 41;
/// IPv6's Fragment header, RFC 8200, section 4.5.
const FRAGMENT: u8 = 44;
pub(super) const ETHERNET: usize = 14;

/// What an outer header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in super::super) struct Outer {
    pub(in super::super) family: Family,
    /// The IP protocol.
    pub(in super::super) protocol: u8,
    /// UDP's destination.
    pub(in super::super) port: Option<u16>,
    /// Where the port is GENEVE's or VXLAN's.
    pub(in super::super) vni: Option<u32>,
    /// Is it a message of WireGuard's, between ports of it?
    pub(in super::super) wireguard: bool,
}

impl Outer {
    /// Whose packet it is by its headers.
    pub(in super::super) fn encapsulation(&self) -> Option<Encapsulation> {
        let has_port = |one: &Encapsulation| self.port.is_some() && one.port() == self.port;
        match (self.protocol, self.family) {
            (UDP, _) if self.wireguard => Some(Encapsulation::Wireguard),
            (UDP, _) => Encapsulation::BY_RANK.into_iter().find(has_port),
            (IPV4, _) | (IPV6, Family::Ipv6) => Some(Encapsulation::Ipip),
            _ => None,
        }
    }
}

/// A packet on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) outer: Outer,
    pub(super) fragment: bool,
    /// Source and destination of the packet inside.
    pub(super) inner: Option<(IpAddr, IpAddr)>,
}

/// The usual name of an IP protocol, or its number.
pub(in super::super) fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        4 => "ipip".to_owned(),
        6 => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        41 => "ipv6".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// `None` for what is neither IPv4 nor IPv6, or cut off.
pub(super) fn parse(frame: &[u8]) -> Option<Packet> {
    let ip = Ip::parse(frame)?;
    let mut outer = Outer {
        family: Family::of(ip.source),
        protocol: ip.protocol,
        port: None,
        vni: None,
        wireguard: false,
    };
    let mut inner = None;
    if ip.protocol == UDP && ip.offset == 0 {
        outer.port = Some(u16_at(ip.payload, 2)?);
        outer.wireguard = is_wireguard(ip.payload);
        if let Some((vni, inside)) = outer.port.and_then(|port| tunnel(port, ip.payload.get(8..)?)) {
            outer.vni = Some(vni);
            inner = Ip::parse(inside).map(|inner| (inner.source, inner.destination));
        }
    }
    if [IPV4, IPV6].contains(&ip.protocol) && ip.offset == 0 {
        inner = Ip::parse_any(ip.payload).map(|inner| (inner.source, inner.destination));
    }
    let fragment = ip.fragment;
    Some(Packet {
        source: ip.source,
        destination: ip.destination,
        outer,
        fragment,
        inner,
    })
}

/// Is it UDP between ports of WireGuard's, with one of its four types of messages and the three zero bytes behind the
/// type (`struct message_header` of drivers/net/wireguard/messages.h)?
fn is_wireguard(udp: &[u8]) -> bool {
    let is_port = |at| u16_at(udp, at).is_some_and(is_wireguard_port);
    is_port(0) && is_port(2) && matches!(udp.get(8..12), Some([1..=4, 0, 0, 0]))
}

/// VNI and inner frame. GENEVE (RFC 8926, section 3.4) and VXLAN (RFC 7348, section 5) have the VNI in the same place.
fn tunnel(port: u16, header: &[u8]) -> Option<(u32, &[u8])> {
    let options = if Some(port) == Encapsulation::Geneve.port() {
        usize::from(header.first()? & 0x3f) * 4
    } else if Some(port) == Encapsulation::Vxlan.port() {
        0
    } else {
        return None;
    };
    let vni = header.get(4..7)?;
    let vni = u32::from_be_bytes([0, vni[0], vni[1], vni[2]]);
    Some((vni, header.get(8 + options..)?))
}

struct Ip<'a> {
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    fragment: bool,
    /// A fragment's; only the one at 0 has the next header.
    offset: u16,
    payload: &'a [u8],
}

impl<'a> Ip<'a> {
    fn parse(frame: &'a [u8]) -> Option<Self> {
        match u16_at(frame, 12)? {
            0x0800 | 0x86dd => Self::parse_any(frame.get(ETHERNET..)?),
            _ => None,
        }
    }

    fn parse_any(packet: &'a [u8]) -> Option<Self> {
        match packet.first()? >> 4 {
            4 => Self::parse_v4(packet),
            6 => Self::parse_v6(packet),
            _ => None,
        }
    }

    fn parse_v4(packet: &'a [u8]) -> Option<Self> {
        let word = u16_at(packet, 6)?;
        let (more, offset) = (word & 0x2000 != 0, word & 0x1fff);
        let address = |at| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
        Some(Self {
            source: address(12)?,
            destination: address(16)?,
            protocol: *packet.get(9)?,
            fragment: more || offset != 0,
            offset,
            payload: packet.get(usize::from(packet[0] & 0x0f) * 4..)?,
        })
    }

    fn parse_v6(packet: &'a [u8]) -> Option<Self> {
        let address = |at| Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?).into());
        let mut ip = Self {
            source: address(8)?,
            destination: address(24)?,
            protocol: *packet.get(6)?,
            fragment: false,
            offset: 0,
            payload: packet.get(40..)?,
        };
        if ip.protocol == FRAGMENT {
            ip.fragment = true;
            ip.protocol = *ip.payload.first()?;
            ip.offset = u16_at(ip.payload, 2)? >> 3;
            ip.payload = ip.payload.get(8..)?;
        }
        Some(ip)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + 20];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x45;
        frame[14 + 9] = protocol;
        frame[14 + 12..14 + 16].copy_from_slice(&source);
        frame[14 + 16..14 + 20].copy_from_slice(&destination);
        frame.extend(payload);
        frame
    }

    fn tunnelled(port: u16, header: &[u8]) -> Vec<u8> {
        let inside = v4([10, 88, 0, 1], [10, 88, 0, 2], 1, &[]);
        let payload = [&[0, 0], &port.to_be_bytes()[..], &[0; 4], header, &inside].concat();
        v4([198, 18, 1, 2], [198, 18, 2, 2], UDP, &payload)
    }

    #[test]
    fn what_is_inside_of_both_protocols_is_seen() {
        let geneve = [2, 0, 0x65, 0x58, 0, 1, 2, 0, 9, 9, 9, 9, 9, 9, 9, 9];
        for (port, header) in [(6081, &geneve[..]), (4789, &[8, 0, 0, 0, 0, 1, 2, 0])] {
            let packet = parse(&tunnelled(port, header)).unwrap();
            assert_eq!(
                packet.outer,
                Outer {
                    family: Family::Ipv4,
                    protocol: 17,
                    port: Some(port),
                    vni: Some(258),
                    wireguard: false
                }
            );
            let inner = (IpAddr::from([10, 88, 0, 1]), IpAddr::from([10, 88, 0, 2]));
            assert_eq!(packet.inner, Some(inner));
            assert!(!packet.fragment);
        }
    }

    #[test]
    fn what_is_inside_of_ip_is_seen() {
        let inside = v4([10, 88, 0, 1], [10, 88, 0, 2], 1, &[]);
        let packet = parse(&v4([198, 18, 1, 2], [198, 18, 2, 2], IPV4, &inside[ETHERNET..])).unwrap();
        assert_eq!((packet.outer.protocol, packet.outer.port), (IPV4, None));
        let inner = (IpAddr::from([10, 88, 0, 1]), IpAddr::from([10, 88, 0, 2]));
        assert_eq!(packet.inner, Some(inner));
    }

    #[test]
    fn wireguard_is_told_by_ports_and_type() {
        let packet = |ports: [u16; 2], header: [u8; 4]| {
            let [source, destination] = ports.map(u16::to_be_bytes);
            let payload = [&source[..], &destination, &[0; 4], &header, &[9; 28]].concat();
            parse(&v4([198, 18, 1, 2], [198, 18, 2, 2], UDP, &payload)).unwrap()
        };
        let data = packet([51820, 51820], [4, 0, 0, 0]);
        assert_eq!(data.outer.encapsulation(), Some(Encapsulation::Wireguard));
        assert_eq!((data.outer.port, data.inner), (Some(51820), None));
        assert!(packet([51821, 51821], [1, 0, 0, 0]).outer.wireguard);
        for (ports, header) in [
            ([51820, 51820], [5, 0, 0, 0]),
            ([51820, 51820], [4, 0, 1, 0]),
            ([40000, 51820], [4, 0, 0, 0]),
            ([51820, 51820], [0x45, 0, 0, 0]),
        ] {
            assert_eq!(packet(ports, header).outer.encapsulation(), None);
        }
    }

    #[test]
    fn ipip_is_told_by_its_protocol() {
        let of = |family, protocol| {
            let outer = Outer {
                family,
                protocol,
                port: None,
                vni: None,
                wireguard: false,
            };
            outer.encapsulation()
        };
        for (family, protocol) in [(Family::Ipv4, 4), (Family::Ipv6, 4), (Family::Ipv6, 41)] {
            assert_eq!(of(family, protocol), Some(Encapsulation::Ipip));
        }
        assert_eq!((of(Family::Ipv4, 41), of(Family::Ipv4, 17)), (None, None));
    }

    #[test]
    fn another_port_is_no_tunnel() {
        let packet = parse(&tunnelled(53, &[8, 0, 0, 0, 0, 1, 2, 0])).unwrap();
        assert_eq!(
            (packet.outer.port, packet.outer.vni, packet.inner),
            (Some(53), None, None)
        );
    }

    #[test]
    fn a_later_fragment_has_no_port() {
        let mut frame = tunnelled(6081, &[0; 8]);
        frame[14 + 6..14 + 8].copy_from_slice(&185_u16.to_be_bytes());
        let packet = parse(&frame).unwrap();
        assert!(packet.fragment);
        assert_eq!(packet.outer.port, None);
    }

    #[test]
    fn what_is_cut_off_is_nothing() {
        let frame = tunnelled(6081, &[0; 8]);
        assert_eq!(parse(&frame[..30]), None);
        let packet = parse(&frame[..14 + 20 + 8 + 8]).unwrap();
        assert_eq!((packet.outer.vni, packet.inner), (Some(0), None));
    }
}
