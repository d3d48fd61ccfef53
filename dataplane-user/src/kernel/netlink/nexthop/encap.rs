//! The outer headers of lightweight tunnels (linux/lwtunnel.h).

use std::net::IpAddr;

use netlink_packet_core::{NlasIterator, parse_ip};

use crate::kernel::netlink::attribute::push;
use crate::model::OuterHeader;

/// `NLA_F_NESTED`.
pub(super) const NESTED: u16 = 1 << 15;
const ENCAP_IP: u16 = 2;
const ENCAP_IP6: u16 = 4;
// `LWTUNNEL_IP_…`, and alike `LWTUNNEL_IP6_…`.
const ID: u16 = 1;
const DESTINATION: u16 = 2;
const SOURCE: u16 = 3;
/// IPv6 calls it hop limit, and the next one traffic class.
const TTL: u16 = 4;
const TOS: u16 = 5;
const FLAGS: u16 = 6;
/// GENEVE, VXLAN and ERSPAN options (`LWTUNNEL_IP_OPTS`), of which Adit writes none.
const OPTIONS: u16 = 8;
// `TUNNEL_…` (linux/if_tunnel.h), big-endian on the wire.
const CHECKSUM: u16 = 0x01;
const DONT_FRAGMENT: u16 = 0x0100;

/// The type and the attributes.
pub(super) fn write(header: &OuterHeader) -> (u16, Vec<u8>) {
    let mut body = Vec::new();
    push(&mut body, ID, &header.id.to_be_bytes());
    for (kind, address) in [(DESTINATION, header.remote), (SOURCE, header.local)] {
        match address {
            IpAddr::V4(address) => push(&mut body, kind, &address.octets()),
            IpAddr::V6(address) => push(&mut body, kind, &address.octets()),
        }
    }
    push(&mut body, TTL, &[header.ttl]);
    push(&mut body, TOS, &[header.tos]);
    let mut flags = 0;
    if header.checksum {
        flags |= CHECKSUM;
    }
    if header.dont_fragment {
        flags |= DONT_FRAGMENT;
    }
    push(&mut body, FLAGS, &flags.to_be_bytes());
    let kind = if header.remote.is_ipv4() {
        ENCAP_IP
    } else {
        ENCAP_IP6
    };
    (kind, body)
}

/// Reads the attributes; `None` where they describe a header that [`write()`] does not produce.
///
/// Unknown attributes are passed over: the kernel adds padding (`LWTUNNEL_IP_PAD`) where the architecture has no efficient
/// unaligned access, and newer kernels report settings that Adit never makes, at their defaults.
pub(super) fn read(kind: u16, body: &[u8]) -> Option<OuterHeader> {
    if ![ENCAP_IP, ENCAP_IP6].contains(&kind) {
        return None;
    }
    let (mut id, mut local, mut remote) = (0, None, None);
    let (mut ttl, mut tos, mut flags) = (0, 0, 0);
    for attribute in NlasIterator::new(body) {
        let attribute = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            ID => id = u64::from_be_bytes(*value.first_chunk()?),
            DESTINATION => remote = Some(parse_ip(value).ok()?),
            SOURCE => local = Some(parse_ip(value).ok()?),
            TTL => ttl = *value.first()?,
            TOS => tos = *value.first()?,
            FLAGS => flags = u16::from_be_bytes(*value.first_chunk()?),
            OPTIONS => return None,
            _ => {}
        }
    }
    let (local, remote): (IpAddr, IpAddr) = (local?, remote?);
    let fits = local.is_ipv4() == (kind == ENCAP_IP) && flags & !(CHECKSUM | DONT_FRAGMENT) == 0;
    fits.then_some(OuterHeader {
        id,
        local,
        remote,
        ttl,
        tos,
        dont_fragment: flags & DONT_FRAGMENT != 0,
        checksum: flags & CHECKSUM != 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_as_they_were_written() {
        let v4 = OuterHeader {
            id: 7,
            local: [192, 0, 2, 1].into(),
            remote: [192, 0, 2, 2].into(),
            ttl: 64,
            tos: 46 << 2,
            dont_fragment: true,
            checksum: false,
        };
        let v6 = OuterHeader {
            local: [1; 16].into(),
            remote: [2; 16].into(),
            dont_fragment: false,
            checksum: true,
            ..v4
        };
        for header in [v4, v6] {
            let (kind, body) = write(&header);
            assert_eq!(read(kind, &body), Some(header));
            assert_eq!(
                read(kind ^ ENCAP_IP ^ ENCAP_IP6, &body),
                None,
                "of the other family"
            );
            assert_eq!(read(1, &body), None, "of another kind");
        }
    }

    #[test]
    fn unknown_attributes_are_passed_over_and_options_are_not() {
        let header = OuterHeader {
            id: 7,
            local: [192, 0, 2, 1].into(),
            remote: [192, 0, 2, 2].into(),
            ttl: 64,
            tos: 0,
            dont_fragment: true,
            checksum: false,
        };
        let (kind, written) = write(&header);
        // `LWTUNNEL_IP_PAD` before the 64-bit id, as the kernel aligns it, and an attribute of a later kernel.
        let mut padded = Vec::new();
        push(&mut padded, 7, &[]);
        padded.extend_from_slice(&written);
        push(&mut padded, 99, &[1; 4]);
        assert_eq!(read(kind, &padded), Some(header));

        push(&mut padded, OPTIONS | NESTED, &[0; 4]);
        assert_eq!(read(kind, &padded), None, "with options");
    }
}
