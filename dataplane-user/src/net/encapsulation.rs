//! Encapsulations, and the symmetric rule that chooses the same one on both ends of a link.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// How packets travel between two nodes. Ordered by preference among requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Encapsulation {
    /// WireGuard.
    WireGuard,
    /// GENEVE, RFC 8926.
    Geneve,
    /// VXLAN, RFC 7348.
    Vxlan,
    /// IP in IP: RFC 2003 over IPv4, RFC 2473 over IPv6.
    Ipip,
    /// No encapsulation: the underlay routes the overlay's addresses.
    None,
}

impl Encapsulation {
    /// All of them, in order of preference.
    pub const ALL: [Encapsulation; 5] = [
        Encapsulation::WireGuard,
        Encapsulation::Geneve,
        Encapsulation::Vxlan,
        Encapsulation::Ipip,
        Encapsulation::None,
    ];

    /// The name in manifests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Encapsulation::WireGuard => "wireguard",
            Encapsulation::Geneve => "geneve",
            Encapsulation::Vxlan => "vxlan",
            Encapsulation::Ipip => "ipip",
            Encapsulation::None => "none",
        }
    }
}

impl fmt::Display for Encapsulation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Encapsulation {
    type Err = String;

    fn from_str(text: &str) -> Result<Encapsulation, String> {
        let named = Encapsulation::ALL.into_iter().find(|named| named.name() == text);
        named.ok_or_else(|| format!("`{text}` is not an encapsulation"))
    }
}

/// The encapsulation that a manifest requests; `None` means `auto`.
pub type RequestedEncapsulation = Option<Encapsulation>;

/// The encapsulation of a link, from the requests of its ends and of the network: security wins.
///
/// WireGuard if any of them requests it; otherwise the first of GENEVE, VXLAN, IPIP and none that any of them
/// requests. Without requests, WireGuard if either underlay address is public, otherwise GENEVE. The result
/// does not depend on the order of the ends, so both ends get the same one.
#[must_use]
pub fn agree(
    ends: [RequestedEncapsulation; 2],
    network: RequestedEncapsulation,
    public_underlay: bool,
) -> Encapsulation {
    if let Some(named) = ends.into_iter().chain([network]).flatten().min() {
        return named;
    }
    if public_underlay {
        Encapsulation::WireGuard
    } else {
        Encapsulation::Geneve
    }
}

/// Whether an underlay address is public: global unicast outside of private, shared (100.64.0.0/10), link-local,
/// unique-local and documentation space.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            // 0.0.0.0/8 and 240.0.0.0/4 are not unicast; 198.18.0.0/15 is for benchmarks (RFC 2544).
            let reserved = v4.octets()[0] == 0 || v4.octets()[0] >= 224;
            let benchmark = v4.octets()[0] == 198 && v4.octets()[1] & 0xfe == 18;
            !(v4.is_private()
                || shared
                || v4.is_link_local()
                || v4.is_loopback()
                || v4.is_documentation()
                || reserved
                || benchmark)
        }
        IpAddr::V6(v6) => {
            let documentation = v6.segments()[0] == 0x2001 && v6.segments()[1] == 0x0db8
                || v6.segments()[0] == 0x3fff && v6.segments()[1] & 0xf000 == 0;
            // Global unicast is 2000::/3 (RFC 4291, section 2.4).
            v6.segments()[0] & 0xe000 == 0x2000 && !documentation
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree_and_security_wins() {
        let wishes = Encapsulation::ALL
            .map(Some)
            .into_iter()
            .chain([None])
            .collect::<Vec<_>>();
        for &a in &wishes {
            for &b in &wishes {
                for &network in &wishes {
                    for public in [false, true] {
                        let link = agree([a, b], network, public);
                        assert_eq!(link, agree([b, a], network, public));
                        let named = [a, b, network].into_iter().flatten().collect::<Vec<_>>();
                        if named.contains(&Encapsulation::WireGuard) {
                            assert_eq!(link, Encapsulation::WireGuard);
                        }
                        assert!(named.is_empty() || named.contains(&link));
                    }
                }
            }
        }
        assert_eq!(agree([None, None], None, true), Encapsulation::WireGuard);
        assert_eq!(agree([None, None], None, false), Encapsulation::Geneve);
        assert_eq!(
            agree([None, Some(Encapsulation::Vxlan)], None, true),
            Encapsulation::Vxlan
        );
    }

    #[test]
    fn public_addresses_are_distinguished_from_others() {
        for public in ["1.1.1.1", "100.128.0.1", "172.32.0.1", "2a00::1", "2001:4860::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for other in [
            "10.0.0.1",
            "100.64.0.1",
            "169.254.1.1",
            "192.0.2.1",
            "172.16.0.1",
            "fd00::1",
            "fe80::1",
            "2001:db8::1",
        ] {
            assert!(!is_public(other.parse().unwrap()), "{other}");
        }
    }
}
