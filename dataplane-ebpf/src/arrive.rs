//! What came out of a tunnel: whether it is a packet for the overlay, and whether its sender is known.

use crate::layout::{Class, SourceKey};
use crate::packet::headers::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use crate::packet::{Address, Family, Packet};
use crate::verdict::IngressVerdict;

/// A packet on the ingress of a tunnel device.
pub trait Arriving: Packet {
    /// The ethertype that the kernel took the packet for, in the host's order.
    fn protocol(&self) -> u16;

    /// What its tunnel says of it; none where it came out of no tunnel, or of one over the other family.
    fn outer(&self, family: Family) -> Option<Outer>;
}

/// What a receiving tunnel device keeps of the outer headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outer {
    /// The sender's underlay address.
    pub source: Address,
    /// VNI; 0 for encapsulations without.
    pub vni: u32,
}

/// The known sources, wherever they are.
pub trait Sources {
    /// Counts a packet of so many bytes for a source; false where that is not known.
    fn count(&self, key: &SourceKey, length: u32) -> bool;
}

/// Looks at a packet that arrived by a device of this encapsulation ([`Class::GENEVE`] and its fellows), and counts it for
/// its source. Gives the verdict and the packet's bytes, from the IP header on where it has one.
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

/// GENEVE and VXLAN hand over a frame, ipip and ip6tnl an IP packet. The frames are addressed to our own devices, whose
/// addresses start with 02 and never with a nibble that reads as an IP version.
#[inline(always)]
fn find_ip_header<P: Packet + ?Sized>(packet: &P, version: u8) -> Option<u32> {
    if packet.at::<u8>(0)? >> 4 == version {
        return Some(0);
    }
    #[expect(clippy::cast_possible_truncation, reason = "14")]
    let behind_ethernet = ETHERNET_LENGTH as u32;
    (packet.at::<u8>(ETHERNET_LENGTH)? >> 4 == version).then_some(behind_ethernet)
}

/// The ipip device has IPv4 outside alone, ip6tnl IPv6: the other is not asked for.
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
