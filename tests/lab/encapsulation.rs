//! The properties of each encapsulation that the lab expects on the underlay.
use dataplane_user::net::Family;

use super::options::Encapsulation;

impl Encapsulation {
    /// The name in manifests.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Geneve => "geneve",
            Self::Vxlan => "vxlan",
            Self::Ipip => "ipip",
            Self::Wireguard => "wireguard",
            Self::Plain => "none",
        }
    }

    /// Whether packets of the family `inner` can cross an underlay of the family `underlay`. The flow-based ipip device of
    /// the kernel transports only IPv4, and without encapsulation an IPv6 route cannot have an IPv4 gateway.
    pub(crate) fn carries(self, inner: Family, underlay: Family) -> bool {
        match self {
            Self::Ipip | Self::Plain => (inner, underlay) != (Family::Ipv6, Family::Ipv4),
            Self::Geneve | Self::Vxlan | Self::Wireguard => true,
        }
    }

    /// The overhead in bytes. GENEVE (without options) and VXLAN have an inner Ethernet header; a WireGuard data message
    /// has a header of 16 bytes and a tag of 16 bytes.
    pub(crate) fn overhead(self, underlay: Family) -> u32 {
        let own = match self {
            Self::Geneve | Self::Vxlan => 8 + 8 + 14,
            Self::Wireguard => 8 + 16 + 16,
            Self::Ipip => 0,
            Self::Plain => return 0,
        };
        let ip = match underlay {
            Family::Ipv4 => 20,
            Family::Ipv6 => 40,
        };
        ip + own
    }

    /// The UDP port of encapsulations with a VNI.
    pub(crate) fn port(self) -> Option<u16> {
        match self {
            Self::Geneve => Some(6081),
            Self::Vxlan => Some(4789),
            Self::Ipip | Self::Wireguard | Self::Plain => None,
        }
    }
}

/// The UDP port of the first WireGuard device; the next devices have the next ports.
pub(crate) const WIREGUARD_PORT: u16 = 51820;
/// More WireGuard devices than any network needs.
const WIREGUARD_DEVICES: u16 = 64;

/// Whether this may be the port of a WireGuard device of the agent.
pub(crate) fn is_wireguard_port(port: u16) -> bool {
    (WIREGUARD_PORT..WIREGUARD_PORT + WIREGUARD_DEVICES).contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipip_and_no_encapsulation_refuse_ipv6_over_ipv4() {
        let refused = |underlay| -> Vec<&str> {
            let refused = Encapsulation::BY_RANK
                .into_iter()
                .filter(|one| !one.carries(Family::Ipv6, underlay));
            refused.map(Encapsulation::name).collect()
        };
        assert_eq!(refused(Family::Ipv4), ["ipip", "none"]);
        assert_eq!(refused(Family::Ipv6), [""; 0]);
        assert!(Encapsulation::BY_RANK.iter().all(|one| {
            Family::BOTH
                .iter()
                .all(|underlay| one.carries(Family::Ipv4, *underlay))
        }));
    }

    #[test]
    fn overheads_are_exact() {
        let overheads = Encapsulation::BY_RANK.map(|one| Family::BOTH.map(|family| one.overhead(family)));
        assert_eq!(overheads, [[60, 80], [50, 70], [50, 70], [20, 40], [0, 0]]);
    }

    #[test]
    fn ports_of_wireguard_start_at_its_own() {
        assert!(is_wireguard_port(51820) && is_wireguard_port(51821));
        assert!(!is_wireguard_port(51819) && !is_wireguard_port(51884));
    }
}
