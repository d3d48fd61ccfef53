//! Overlay MTUs: the MTU of the underlay path minus the exact overhead.

use crate::net::Encapsulation;
use crate::net::Family;

use super::{NetworkLink, PeerLink};

/// Bytes between the start of the outer and the start of the inner IP header.
///
/// IP 20 or 40, UDP 8, GENEVE (without options) or VXLAN 8, inner Ethernet 14; only IP for IPIP and ip6tnl (a
/// flow-based one sends no encapsulation limit); the data message of WireGuard adds 32 to IP and UDP.
#[must_use]
pub fn overhead(encapsulation: Encapsulation, outer: Family) -> u32 {
    let ip = match outer {
        Family::Ipv4 => 20,
        Family::Ipv6 => 40,
    };
    match encapsulation {
        Encapsulation::Geneve | Encapsulation::Vxlan => ip + 8 + 8 + 14,
        Encapsulation::Ipip => ip,
        Encapsulation::WireGuard => ip + 8 + 32,
        Encapsulation::None => 0,
    }
}

/// The smallest MTU that IPv6 allows on a link (RFC 8200, section 5).
pub(super) const IPV6_MINIMUM: u32 = 1280;
/// The MTU that is assumed for an unknown path, in bytes.
const ETHERNET: u32 = 1500;

impl NetworkLink<'_> {
    /// The MTU of the network on this node in bytes: the declared one, else the smallest of its links.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        if let Some(mtu) = self.network.mtu {
            return mtu;
        }
        // A path that loops through the overlay has no meaningful MTU.
        let straight = self.peers.iter().filter(|peer| peer.looped.is_none());
        let smallest = straight.map(PeerLink::mtu).min();
        smallest
            .unwrap_or_else(|| ETHERNET - overhead(Encapsulation::Geneve, Family::Ipv6))
            .max(IPV6_MINIMUM)
    }
}

impl PeerLink<'_> {
    /// The largest inner packet in bytes that fits into the underlay path without fragmentation.
    #[must_use]
    pub fn mtu(&self) -> u32 {
        // An outer IP packet has at most 65,535 bytes.
        let path = self.underlay_mtu.unwrap_or(ETHERNET).min(65_535);
        path.saturating_sub(self.overhead())
    }

    /// Bytes that the link adds to an inner packet.
    pub(super) fn overhead(&self) -> u32 {
        overhead(self.encapsulation, Family::of(self.destination()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overheads_are_exact() {
        let both = |encapsulation| Family::BOTH.map(|outer| overhead(encapsulation, outer));
        assert_eq!(both(Encapsulation::Geneve), [50, 70]);
        assert_eq!(both(Encapsulation::Vxlan), [50, 70]);
        assert_eq!(both(Encapsulation::Ipip), [20, 40]);
        assert_eq!(both(Encapsulation::WireGuard), [60, 80]);
        assert_eq!(both(Encapsulation::None), [0, 0]);
    }
}
