//! Ethernet addresses.

use std::fmt;
use std::net::Ipv6Addr;

use super::NodeName;
use super::hash::stable_hash;

/// An Ethernet address, in wire order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// The address of the GENEVE and VXLAN devices of a node: 02 (locally administered, unicast) and five
    /// bytes of a hash of the node's name, so that every node can compute the address of every other one.
    #[must_use]
    pub fn of_node(node: &NodeName) -> MacAddr {
        let hash = stable_hash(node.as_str().as_bytes()).to_be_bytes();
        MacAddr([0x02, hash[0], hash[1], hash[2], hash[3], hash[4]])
    }

    /// The link-local address derived from it (modified EUI-64; RFC 4291, appendix A).
    #[must_use]
    pub fn link_local(self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.0.map(u16::from);
        Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            (a ^ 2) << 8 | b,
            c << 8 | 0xff,
            0xfe00 | d,
            e << 8 | f,
        )
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_mac_is_local_unicast_and_stable() {
        let mac = MacAddr::of_node(&NodeName::new("node-a").expect("valid"));
        assert_eq!(mac.0[0], 0x02);
        assert_eq!(mac, MacAddr::of_node(&NodeName::new("node-a").expect("valid")));
        assert_ne!(mac, MacAddr::of_node(&NodeName::new("node-b").expect("valid")));
    }

    #[test]
    fn a_link_local_address_is_derived_from_the_mac() {
        let mac = MacAddr([0x02, 0xad, 0x17, 0x00, 0x00, 0x0a]);
        assert_eq!(mac.link_local().to_string(), "fe80::ad:17ff:fe00:a");
    }
}
