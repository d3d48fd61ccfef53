//! Converts between values of the model and entries of the maps. Decoding is strict: it only accepts exactly
//! what this version would write.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_ebpf::layout::{self, GroupMember, PrefixKeyV4, PrefixKeyV6, SourceKey, UNUSED_SLOT};
use dataplane_ebpf::select;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::kernel::KernelError;
use crate::model::{Class, NextHop, NodeLabel, Source, TunnelKind, UnderlayDevice};
use crate::net::MacAddr;

/// Encodes a class.
pub(super) fn encode_class(class: &Class, ifindex: u32) -> Result<layout::Class, KernelError> {
    let encapsulation = match class.tunnel {
        TunnelKind::Geneve => layout::Class::GENEVE,
        TunnelKind::Vxlan => layout::Class::VXLAN,
        TunnelKind::Ipip => layout::Class::IPIP,
        TunnelKind::Ip6tnl => layout::Class::IP6TNL,
        TunnelKind::WireGuard => layout::Class::WIREGUARD,
        TunnelKind::None => return encode_bare_class(class, ifindex),
    };
    if class.underlay.is_some() {
        return Err(invalid(
            class,
            "only a class without encapsulation can have an underlay device",
        ));
    }
    if class.ttl == 0 {
        return Err(invalid(class, "with a TTL of 0 every packet would be dropped"));
    }
    if class.dscp.is_some_and(|dscp| dscp > 63) {
        return Err(invalid(class, "a DSCP has six bits"));
    }
    let flag = |on: bool, flag: u16| if on { flag } else { 0 };
    Ok(layout::Class {
        ifindex,
        vni: class.vni,
        source_mac: class.source_mac.unwrap_or_default().0,
        encapsulation,
        unit: class.unit,
        ttl: class.ttl,
        tos: class.dscp.map_or(0, |dscp| dscp << 2),
        flags: flag(class.tunnel.takes_tunnel_key(), layout::Class::TUNNEL_KEY)
            | flag(class.source_mac.is_some(), layout::Class::INNER_ETHERNET)
            | flag(class.dscp.is_none(), layout::Class::INHERIT_DSCP)
            | flag(class.dont_fragment, layout::Class::DONT_FRAGMENT)
            | flag(class.zero_checksum, layout::Class::ZERO_CHECKSUM),
        ..layout::Class::default()
    })
}

/// Decodes the class in a used slot.
pub(super) fn decode_class(raw: &layout::Class) -> Option<Class> {
    let on = |flag: u16| raw.flags & flag != 0;
    let class = Class {
        tunnel: match raw.encapsulation {
            layout::Class::GENEVE => TunnelKind::Geneve,
            layout::Class::VXLAN => TunnelKind::Vxlan,
            layout::Class::IPIP => TunnelKind::Ipip,
            layout::Class::IP6TNL => TunnelKind::Ip6tnl,
            layout::Class::WIREGUARD => TunnelKind::WireGuard,
            layout::Class::NONE => return decode_bare_class(raw),
            _ => return None,
        },
        unit: raw.unit,
        vni: raw.vni,
        source_mac: on(layout::Class::INNER_ETHERNET).then_some(MacAddr(raw.source_mac)),
        ttl: raw.ttl,
        dscp: (!on(layout::Class::INHERIT_DSCP)).then_some(raw.tos >> 2),
        dont_fragment: on(layout::Class::DONT_FRAGMENT),
        zero_checksum: on(layout::Class::ZERO_CHECKSUM),
        underlay: None,
    };
    (encode_class(&class, raw.ifindex).ok()? == *raw).then_some(class)
}

/// Encodes a class without encapsulation, which only has a device.
fn encode_bare_class(class: &Class, ifindex: u32) -> Result<layout::Class, KernelError> {
    let underlay = class
        .underlay
        .filter(|underlay| *class == Class::bare(*underlay))
        .ok_or_else(|| {
            invalid(
                class,
                "a class without encapsulation can only have an underlay device",
            )
        })?;
    Ok(layout::Class {
        ifindex,
        encapsulation: layout::Class::NONE,
        flags: layout::Class::TO_NEIGHBOUR,
        underlay: underlay.to_bytes(),
        ..layout::Class::default()
    })
}

fn decode_bare_class(raw: &layout::Class) -> Option<Class> {
    let class = Class::bare(UnderlayDevice::from_bytes(raw.underlay)?);
    (encode_bare_class(&class, raw.ifindex).ok()? == *raw).then_some(class)
}

/// Encodes a next hop; `class` is the slot of its class.
pub(super) fn encode_next_hop(next_hop: &NextHop, class: u32) -> Result<layout::NextHop, KernelError> {
    if next_hop.remote.is_ipv4() != next_hop.local.is_ipv4() {
        return Err(invalid(next_hop, "its two addresses have different families"));
    }
    if next_hop.destination_mac == Some(MacAddr::default()) {
        return Err(invalid(next_hop, "its MAC address is all zero, which means none"));
    }
    if next_hop.gateway.is_some() != (next_hop.class.tunnel == TunnelKind::None) {
        return Err(invalid(
            next_hop,
            "a next hop has a neighbour if and only if its class has no encapsulation",
        ));
    }
    if next_hop.gateway.is_some_and(|gateway| gateway.is_unspecified()) {
        return Err(invalid(next_hop, "an all-zero address can't be a neighbour"));
    }
    let flag = |on: bool, flag: u16| if on { flag } else { 0 };
    Ok(layout::NextHop {
        remote: address_bytes(next_hop.remote),
        local: address_bytes(next_hop.local),
        destination_mac: next_hop.destination_mac.unwrap_or_default().0,
        flags: flag(next_hop.remote.is_ipv6(), layout::NextHop::OUTER_IPV6)
            | flag(
                next_hop.gateway.is_some_and(|gateway| gateway.is_ipv6()),
                layout::NextHop::GATEWAY_IPV6,
            ),
        class,
        gateway: next_hop.gateway.map(address_bytes).unwrap_or_default(),
        ..layout::NextHop::default()
    })
}

/// Decodes the next hop in a used slot, with its class and its label.
pub(super) fn decode_next_hop(
    raw: &layout::NextHop,
    label: &layout::NodeLabel,
    class: Class,
) -> Option<NextHop> {
    let ipv6 = raw.flags & layout::NextHop::OUTER_IPV6 != 0;
    let gateway_ipv6 = raw.flags & layout::NextHop::GATEWAY_IPV6 != 0;
    let mac = MacAddr(raw.destination_mac);
    let next_hop = NextHop {
        node: decode_label(label)?,
        remote: address_from(&raw.remote, ipv6),
        local: address_from(&raw.local, ipv6),
        destination_mac: (mac != MacAddr::default()).then_some(mac),
        gateway: (class.tunnel == TunnelKind::None).then(|| address_from(&raw.gateway, gateway_ipv6)),
        class,
    };
    (encode_next_hop(&next_hop, raw.class).ok()? == *raw).then_some(next_hop)
}

/// Encodes the name of a node, with padding.
pub(super) fn encode_label(label: &NodeLabel) -> Result<layout::NodeLabel, KernelError> {
    let text = label.as_str().as_bytes();
    let mut bytes = [0; layout::NodeLabel::LEN];
    let Some(start) = bytes.get_mut(..text.len()) else {
        return Err(invalid(label, "a label can have at most 64 bytes"));
    };
    start.copy_from_slice(text);
    if text.is_empty() || text.contains(&0) {
        return Err(invalid(label, "a label must not be empty or contain zero bytes"));
    }
    Ok(layout::NodeLabel(bytes))
}

fn decode_label(raw: &layout::NodeLabel) -> Option<NodeLabel> {
    let length = raw.0.iter().position(|byte| *byte == 0).unwrap_or(raw.0.len());
    let label = NodeLabel::from_text(std::str::from_utf8(&raw.0[..length]).ok()?);
    (encode_label(&label).ok()? == *raw).then_some(label)
}

/// The key of this next hop in a group, from which the programs choose.
pub(super) fn member_key(next_hop: &NextHop) -> u32 {
    select::member_key(&address_bytes(next_hop.remote))
}

/// Encodes a group as its slots, four members each, the first slot first; `None` if the number of slots is
/// not the one that the members need.
pub(super) fn encode_group(slots: &[u32], members: &[GroupMember]) -> Option<Vec<layout::Group>> {
    let chunks = members.chunks(layout::Group::MEMBERS);
    if chunks.len() != slots.len() || slots.len() > layout::Group::MAX_SLOTS {
        return None;
    }
    let encode = |(index, chunk): (usize, &[GroupMember])| {
        let mut group = layout::Group {
            count: u32::try_from(chunk.len()).expect("at most four"),
            next: slots.get(index + 1).copied().unwrap_or(UNUSED_SLOT),
            head: u32::from(index == 0),
            ..layout::Group::default()
        };
        group.members[..chunk.len()].copy_from_slice(chunk);
        group
    };
    Some(chunks.enumerate().map(encode).collect())
}

/// Encodes the key of a known source.
pub(super) fn encode_source(source: &Source) -> Result<SourceKey, KernelError> {
    let encapsulation = match (source.tunnel, source.address) {
        (TunnelKind::Geneve, _) => layout::Class::GENEVE,
        (TunnelKind::Vxlan, _) => layout::Class::VXLAN,
        (TunnelKind::Ipip, IpAddr::V4(_)) => layout::Class::IPIP,
        (TunnelKind::Ip6tnl, IpAddr::V6(_)) => layout::Class::IP6TNL,
        _ => {
            return Err(invalid(
                source,
                "packets with this outer source address can't arrive on this device",
            ));
        }
    };
    if source.vni != 0 && !source.tunnel.carries_ethernet() {
        return Err(invalid(source, "this encapsulation has no VNI"));
    }
    Ok(SourceKey {
        address: address_bytes(source.address),
        vni: source.vni,
        encapsulation,
        version: if source.address.is_ipv6() { 6 } else { 4 },
        reserved: [0; 2],
    })
}

/// Decodes the key of a known source.
pub(super) fn decode_source(raw: &SourceKey) -> Option<Source> {
    let source = Source {
        address: address_from(&raw.address, raw.version == 6),
        tunnel: match raw.encapsulation {
            layout::Class::GENEVE => TunnelKind::Geneve,
            layout::Class::VXLAN => TunnelKind::Vxlan,
            layout::Class::IPIP => TunnelKind::Ipip,
            layout::Class::IP6TNL => TunnelKind::Ip6tnl,
            _ => return None,
        },
        vni: raw.vni,
    };
    (encode_source(&source).ok()? == *raw).then_some(source)
}

/// Encodes an address: big-endian, IPv4 in the first four bytes.
pub(super) fn address_bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&v4.octets());
            bytes
        }
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Decodes an address.
pub(super) fn address_from(bytes: &[u8; 16], ipv6: bool) -> IpAddr {
    if ipv6 {
        return Ipv6Addr::from(*bytes).into();
    }
    let [a, b, c, d, ..] = *bytes;
    Ipv4Addr::new(a, b, c, d).into()
}

/// Encodes the key of an IPv4 prefix.
pub(super) fn key_v4(prefix: Ipv4Net) -> PrefixKeyV4 {
    PrefixKeyV4 {
        length: prefix.prefix_len().into(),
        address: prefix.network().octets(),
    }
}

/// Encodes the key of an IPv6 prefix.
pub(super) fn key_v6(prefix: Ipv6Net) -> PrefixKeyV6 {
    PrefixKeyV6 {
        length: prefix.prefix_len().into(),
        address: prefix.network().octets(),
    }
}

/// Decodes the prefix of a key. The kernel ignores host bits, so they are removed.
pub(super) fn prefix_v4(key: &PrefixKeyV4) -> IpNet {
    let length = u8::try_from(key.length).expect("the kernel has no longer prefixes");
    let prefix = Ipv4Net::new(key.address.into(), length).expect("the kernel has no longer prefixes");
    IpNet::V4(prefix.trunc())
}

/// Decodes the prefix of a key. The kernel ignores host bits, so they are removed.
pub(super) fn prefix_v6(key: &PrefixKeyV6) -> IpNet {
    let length = u8::try_from(key.length).expect("the kernel has no longer prefixes");
    let prefix = Ipv6Net::new(key.address.into(), length).expect("the kernel has no longer prefixes");
    IpNet::V6(prefix.trunc())
}

fn invalid(what: &impl std::fmt::Display, why: &str) -> KernelError {
    let source = io::Error::new(io::ErrorKind::InvalidInput, why.to_owned());
    KernelError::new(format!("encoding {what}"), source)
}

#[cfg(test)]
mod tests {
    mod bare;

    use super::*;

    fn class() -> Class {
        Class {
            tunnel: TunnelKind::Geneve,
            unit: 0,
            vni: 7,
            source_mac: Some(MacAddr([2, 1, 2, 3, 4, 5])),
            ttl: 64,
            dscp: Some(46),
            dont_fragment: true,
            zero_checksum: false,
            underlay: None,
        }
    }

    #[test]
    fn classes_are_read_back_without_the_bits_of_others() {
        let raw = encode_class(&class(), 9).unwrap();
        assert_eq!(decode_class(&raw), Some(class()));
        assert_eq!(
            decode_class(&layout::Class {
                flags: raw.flags | 1 << 15,
                ..raw
            }),
            None
        );
        assert_eq!(decode_class(&layout::Class { ttl: 0, ..raw }), None);
        assert_eq!(
            decode_class(&layout::Class {
                tos: raw.tos | 1,
                ..raw
            }),
            None
        );
        assert!(encode_class(&Class { ttl: 0, ..class() }, 9).is_err());
        for tunnel in [
            TunnelKind::Vxlan,
            TunnelKind::Ipip,
            TunnelKind::Ip6tnl,
            TunnelKind::WireGuard,
        ] {
            let class = Class {
                tunnel,
                source_mac: tunnel.carries_ethernet().then_some(MacAddr([2; 6])),
                ..class()
            };
            assert_eq!(decode_class(&encode_class(&class, 9).unwrap()), Some(class));
        }
    }

    #[test]
    fn next_hops_are_read_back_with_their_label() {
        for remote in ["192.0.2.1", "2001:db8::1"] {
            let remote: IpAddr = remote.parse().unwrap();
            let next_hop = NextHop {
                node: NodeLabel::from_text("node-a"),
                remote,
                local: remote,
                destination_mac: None,
                gateway: None,
                class: class(),
            };
            let raw = encode_next_hop(&next_hop, 3).unwrap();
            let label = encode_label(&next_hop.node).unwrap();
            assert_eq!(decode_next_hop(&raw, &label, class()).as_ref(), Some(&next_hop));
            let unlabelled = layout::NodeLabel([0; layout::NodeLabel::LEN]);
            assert_eq!(decode_next_hop(&raw, &unlabelled, class()), None);
            let labelled = layout::NextHop { flow_label: 1, ..raw };
            assert_eq!(decode_next_hop(&labelled, &label, class()), None);
        }
    }

    #[test]
    fn sources_are_read_back_and_nothing_else() {
        let source = |address: &str, tunnel, vni| Source {
            address: address.parse().unwrap(),
            tunnel,
            vni,
        };
        for known in [
            source("192.0.2.1", TunnelKind::Geneve, 7),
            source("2001:db8::1", TunnelKind::Vxlan, 0x00ff_ffff),
            source("192.0.2.1", TunnelKind::Ipip, 0),
            source("2001:db8::1", TunnelKind::Ip6tnl, 0),
        ] {
            let raw = encode_source(&known).unwrap();
            assert_eq!(decode_source(&raw), Some(known));
            let others = [
                SourceKey {
                    reserved: [0, 1],
                    ..raw
                },
                SourceKey { version: 5, ..raw },
                SourceKey {
                    version: raw.version ^ 2,
                    ..raw
                },
                SourceKey {
                    encapsulation: 0,
                    ..raw
                },
            ];
            // The first four bytes of an IPv6 address followed by others are no IPv4 address, but zeros may
            // follow in both.
            assert!(others.iter().all(|other| decode_source(other) != Some(known)));
            assert_eq!(decode_source(&others[0]), None);
            assert_eq!(decode_source(&others[1]), None);
            assert_eq!(decode_source(&others[3]), None);
        }
        for refused in [
            source("192.0.2.1", TunnelKind::Ipip, 7),
            source("2001:db8::1", TunnelKind::Ipip, 0),
            source("192.0.2.1", TunnelKind::Ip6tnl, 0),
            source("192.0.2.1", TunnelKind::WireGuard, 0),
            source("192.0.2.1", TunnelKind::None, 0),
        ] {
            assert!(encode_source(&refused).is_err(), "{refused}");
        }
    }
}
