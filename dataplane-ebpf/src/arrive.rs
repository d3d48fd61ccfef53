//! The decision about a packet that arrived through a tunnel: whether it is an IP packet, and whether its
//! source is known.

use crate::layout::{Class, SourceKey};
use crate::packet::headers::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::packet::{Address, Family, Packet};
use crate::verdict::IngressVerdict;

/// A packet on the ingress of a tunnel device.
pub trait Arriving: Packet {
    /// The ethertype that the kernel assigned to the packet, in host byte order.
    fn protocol(&self) -> u16;

    /// The tunnel metadata of the packet. `None` if it did not arrive through a tunnel whose outer family is
    /// `family`.
    fn outer(&self, family: Family) -> Option<Outer>;
}

/// The part of the outer headers that a receiving tunnel device keeps as metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The underlay address of the sender.
    pub source: Address,
    /// The VNI; 0 for encapsulations that have none.
    pub vni: u32,
}

/// The known sources: a BPF map, or a table in tests.
pub trait Sources {
    /// Counts a packet of `length` bytes for a source; returns false if the source is not known.
    fn count(&self, key: &SourceKey, length: u32) -> bool;
}

/// Decides about a packet that arrived on a device of this encapsulation (a constant such as
/// [`Class::GENEVE`]) and counts it for its source. Returns the verdict and the length of the packet in
/// bytes, from the IP header on if it has one.
#[inline(always)]
pub fn arrive<P, S>(packet: &P, encapsulation: u8, sources: &S) -> (IngressVerdict, u32)
where
    P: Arriving + ?Sized,
    S: Sources + ?Sized,
{
    let (version, accepted) = match packet.protocol() {
        ETHERTYPE_IPV4 => (4, IngressVerdict::AcceptedIpv4),
        ETHERTYPE_IPV6 => (6, IngressVerdict::AcceptedIpv6),
        _ => return (IngressVerdict::NotIp, packet.length()),
    };
    let Some(start) = find_ip_header(packet, version) else {
        return (IngressVerdict::BadHeader, packet.length());
    };
    let length = packet.length().saturating_sub(start);
    let Some(key) = source_key(packet, encapsulation) else {
        return (IngressVerdict::NoTunnelKey, length);
    };
    if sources.count(&key, length) {
        (accepted, length)
    } else {
        (IngressVerdict::UnknownSource, length)
    }
}

/// Finds the offset of the IP header. GENEVE and VXLAN deliver a frame, ipip and ip6tnl an IP packet. The
/// frames are addressed to devices of Adit, whose MAC addresses start with 02, so their first nibble is never
/// an IP version.
#[inline(always)]
fn find_ip_header<P: Packet + ?Sized>(packet: &P, version: u8) -> Option<u32> {
    if packet.at::<u8>(0)? >> 4 == version {
        return Some(0);
    }
    #[expect(clippy::cast_possible_truncation, reason = "14")]
    let after_ethernet = ETHERNET_LENGTH as u32;
    (packet.at::<u8>(ETHERNET_LENGTH)? >> 4 == version).then_some(after_ethernet)
}

/// The key of the source. The outer family of an ipip device is always IPv4, that of ip6tnl always IPv6, so
/// only that one is asked for.
#[inline(always)]
fn source_key<P: Arriving + ?Sized>(packet: &P, encapsulation: u8) -> Option<SourceKey> {
    let by_ipv4 = if encapsulation == Class::IP6TNL {
        None
    } else {
        packet.outer(Family::Ipv4)
    };
    let (version, outer) = match by_ipv4 {
        Some(outer) => (4, outer),
        None if encapsulation == Class::IPIP => return None,
        None => (6, packet.outer(Family::Ipv6)?),
    };
    Some(SourceKey {
        address: outer.source.bytes(),
        vni: outer.vni,
        encapsulation,
        version,
        reserved: [0; 2],
    })
}
