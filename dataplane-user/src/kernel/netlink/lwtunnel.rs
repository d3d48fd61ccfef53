//! The outer headers of lightweight tunnels, in routes and next-hop objects.

use std::net::IpAddr;

use netlink_packet_core::{DecodeError, Emitable as _, NlaBuffer, NlasIterator, ParseableParametrized as _};
use netlink_packet_route::route::{
    RouteAttribute, RouteIp6Tunnel, RouteIp6TunnelFlags, RouteIpTunnel, RouteIpTunnelFlags, RouteLwEnCapType,
    RouteLwTunnelEncap,
};

/// An outer IPv4 or IPv6 header. Fields that are zero or `None` are not encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tunnel {
    pub(super) id: u64,
    pub(super) source: Option<IpAddr>,
    pub(super) destination: IpAddr,
    pub(super) ttl: u8,
    pub(super) tos: u8,
    /// Flags of `RouteIpTunnelFlags`, and others that it does not name.
    pub(super) flags: u16,
}

impl Tunnel {
    /// Encodes the type and the attributes.
    pub(super) fn write(&self) -> (RouteLwEnCapType, Vec<RouteLwTunnelEncap>) {
        let set = |number: u8| Some(number).filter(|number| *number != 0);
        let flags = Some(self.flags).filter(|flags| *flags != 0);
        match self.destination {
            IpAddr::V4(destination) => {
                let mut parts = vec![
                    RouteIpTunnel::Id(self.id),
                    RouteIpTunnel::Destination(destination),
                ];
                if let Some(IpAddr::V4(source)) = self.source {
                    parts.push(RouteIpTunnel::Source(source));
                }
                parts.extend(set(self.ttl).map(RouteIpTunnel::Ttl));
                parts.extend(set(self.tos).map(RouteIpTunnel::Tos));
                let flags = flags.map(RouteIpTunnelFlags::from_bits_retain);
                parts.extend(flags.map(RouteIpTunnel::Flags));
                let parts = parts.into_iter().map(RouteLwTunnelEncap::Ip);
                (RouteLwEnCapType::Ip, parts.collect())
            }
            IpAddr::V6(destination) => {
                let mut parts = vec![
                    RouteIp6Tunnel::Id(self.id),
                    RouteIp6Tunnel::Destination(destination),
                ];
                if let Some(IpAddr::V6(source)) = self.source {
                    parts.push(RouteIp6Tunnel::Source(source));
                }
                parts.extend(set(self.ttl).map(RouteIp6Tunnel::Hoplimit));
                parts.extend(set(self.tos).map(RouteIp6Tunnel::Tc));
                let flags = flags.map(RouteIp6TunnelFlags::from_bits_retain);
                parts.extend(flags.map(RouteIp6Tunnel::Flags));
                let parts = parts.into_iter().map(RouteLwTunnelEncap::Ip6);
                (RouteLwEnCapType::Ip6, parts.collect())
            }
        }
    }

    /// Encodes the attributes of a route or of one of its next hops.
    pub(super) fn attributes(&self) -> [RouteAttribute; 2] {
        let (kind, parts) = self.write();
        [RouteAttribute::Encap(parts), RouteAttribute::EncapType(kind)]
    }
}

/// Decodes the value of an attribute; see [`of_parts`].
pub(super) fn read(kind: RouteLwEnCapType, value: &[u8]) -> Result<Option<Tunnel>, DecodeError> {
    let parts = NlasIterator::new(value);
    of_parts(
        kind,
        parts.map(|part| RouteLwTunnelEncap::parse_with_param(&part?, kind)),
    )
}

/// Decodes the parts; `None` if they contain something that [`Tunnel::write`] does not produce.
///
/// Unknown attributes are ignored: the kernel adds padding (`LWTUNNEL_IP_PAD`) on architectures without
/// efficient unaligned access, and newer kernels report settings that Adit never sets, with their defaults.
pub(super) fn of_parts(
    kind: RouteLwEnCapType,
    parts: impl Iterator<Item = Result<RouteLwTunnelEncap, DecodeError>>,
) -> Result<Option<Tunnel>, DecodeError> {
    if !matches!(kind, RouteLwEnCapType::Ip | RouteLwEnCapType::Ip6) {
        return Ok(None);
    }
    let (mut id, mut source, mut destination) = (0, None, None);
    let (mut ttl, mut tos, mut flags) = (0, 0, 0);
    for part in parts {
        match typed(kind, part?)? {
            RouteLwTunnelEncap::Ip(part) => match part {
                RouteIpTunnel::Id(number) => id = number,
                RouteIpTunnel::Destination(address) => destination = Some(IpAddr::V4(address)),
                RouteIpTunnel::Source(address) => source = Some(IpAddr::V4(address)),
                RouteIpTunnel::Ttl(number) => ttl = number,
                RouteIpTunnel::Tos(number) => tos = number,
                RouteIpTunnel::Flags(bits) => flags = bits.bits(),
                RouteIpTunnel::Opts(_) => return Ok(None),
                _ => {}
            },
            RouteLwTunnelEncap::Ip6(part) => match part {
                RouteIp6Tunnel::Id(number) => id = number,
                RouteIp6Tunnel::Destination(address) => destination = Some(IpAddr::V6(address)),
                RouteIp6Tunnel::Source(address) => source = Some(IpAddr::V6(address)),
                RouteIp6Tunnel::Hoplimit(number) => ttl = number,
                RouteIp6Tunnel::Tc(number) => tos = number,
                RouteIp6Tunnel::Flags(bits) => flags = bits.bits(),
                RouteIp6Tunnel::Opts(_) => return Ok(None),
                _ => {}
            },
            _ => {}
        }
    }
    Ok(destination.map(|destination| Tunnel {
        id,
        source: source.filter(|source| !source.is_unspecified()),
        destination,
        ttl,
        tos,
        flags,
    }))
}

/// Decodes a part of one of several next hops, for which netlink-packet-route 0.34 does not use the type.
fn typed(kind: RouteLwEnCapType, part: RouteLwTunnelEncap) -> Result<RouteLwTunnelEncap, DecodeError> {
    let RouteLwTunnelEncap::Other(raw) = part else {
        return Ok(part);
    };
    let mut bytes = vec![0; raw.buffer_len()];
    raw.emit(&mut bytes);
    RouteLwTunnelEncap::parse_with_param(&NlaBuffer::new(&bytes), kind)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::DefaultNla;

    use super::*;

    fn bytes(parts: &[RouteLwTunnelEncap]) -> Vec<u8> {
        let mut bytes = vec![0; parts.buffer_len()];
        parts.emit(&mut bytes);
        bytes
    }

    fn header() -> Tunnel {
        Tunnel {
            id: 7,
            source: Some([192, 0, 2, 1].into()),
            destination: [192, 0, 2, 2].into(),
            ttl: 64,
            tos: 46 << 2,
            flags: 0x0101,
        }
    }

    #[test]
    fn headers_are_read_as_they_were_written() {
        let v6 = Tunnel {
            source: None,
            destination: [2; 16].into(),
            tos: 0,
            ..header()
        };
        for tunnel in [header(), v6] {
            let (kind, parts) = tunnel.write();
            let other = match kind {
                RouteLwEnCapType::Ip => RouteLwEnCapType::Ip6,
                _ => RouteLwEnCapType::Ip,
            };
            let bytes = bytes(&parts);
            assert_eq!(read(kind, &bytes).unwrap().as_ref(), Some(&tunnel));
            assert!(read(other, &bytes).is_err(), "of the other family");
            assert_eq!(
                read(RouteLwEnCapType::Mpls, &[]).unwrap(),
                None,
                "of another kind"
            );
            // Undecoded parts, as for one of several next hops.
            let raw = NlasIterator::new(&bytes).map(|part| {
                let part = part.unwrap();
                RouteLwTunnelEncap::Other(DefaultNla::new(part.kind(), part.value().to_vec()))
            });
            assert_eq!(of_parts(kind, raw.map(Ok)).unwrap(), Some(tunnel));
        }
    }

    #[test]
    fn unknown_attributes_are_passed_over_and_options_are_not() {
        let raw = |kind, value| RouteLwTunnelEncap::Other(DefaultNla::new(kind, value));
        let (kind, mut parts) = header().write();
        // `LWTUNNEL_IP_PAD` before the 64-bit id, with which the kernel aligns it, and an attribute of a
        // later kernel.
        parts.insert(0, raw(7, Vec::new()));
        parts.push(raw(99, vec![1; 4]));
        assert_eq!(read(kind, &bytes(&parts)).unwrap(), Some(header()));

        parts.push(RouteLwTunnelEncap::Ip(RouteIpTunnel::Opts(Vec::new())));
        assert_eq!(read(kind, &bytes(&parts)).unwrap(), None, "with options");
    }
}
