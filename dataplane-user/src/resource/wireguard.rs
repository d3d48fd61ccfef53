//! WireGuard devices that manifests declare one by one (`WireGuardInterface`), or as a plan of many, beside those that networks
//! make for themselves.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::netlink::InterfaceEnd;
use super::node::Endpoint;
use crate::model::MAIN_TABLE;
use crate::net::{KeySource, PublicKey};

/// A device (`WireGuardInterface`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuardInterface {
    /// What it says of itself.
    pub end: InterfaceEnd,
    /// Where its private key is.
    pub key: KeySource,
    /// UDP port; 0: the kernel's choice.
    pub listen_port: u16,
    /// The mark of the packets that it sends; 0: none, or what its default routes need.
    pub fwmark: u32,
    /// Where routes for allowed IPs stand.
    pub routes: AllowedIpRoutes,
    /// Its peers. No two have one allowed prefix; of nested ones the most specific wins.
    pub peers: BTreeMap<PublicKey, InterfacePeer>,
}

/// Where the routes for allowed IPs stand, as `Table` of wg-quick(8) has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllowedIpRoutes {
    /// There are none.
    Off,
    /// In the main table; default routes in a table of their own, which is asked for all that the device does not send
    /// itself and the main table has no more specific route for.
    #[default]
    Auto,
    /// All in this table.
    Table(u32),
}

impl AllowedIpRoutes {
    /// Whether one of these is a default route that gets a table and rules of its own.
    pub fn lead_everywhere<'a>(self, prefixes: impl IntoIterator<Item = &'a IpNet>) -> bool {
        let mut prefixes = prefixes.into_iter();
        self == AllowedIpRoutes::Auto && prefixes.any(|prefix| prefix.prefix_len() == 0)
    }

    /// The table that an allowed IP's route stands in; `None`: it needs none. `own` is that of default routes, `subnets` are
    /// those that have a route already.
    #[must_use]
    pub fn table(self, prefix: &IpNet, own: u32, subnets: &[IpNet]) -> Option<u32> {
        match self {
            AllowedIpRoutes::Off => None,
            AllowedIpRoutes::Table(table) => Some(table),
            AllowedIpRoutes::Auto if prefix.prefix_len() == 0 => Some(own),
            AllowedIpRoutes::Auto if subnets.iter().any(|subnet| subnet.contains(prefix)) => None,
            AllowedIpRoutes::Auto => Some(MAIN_TABLE),
        }
    }
}

/// A peer of a device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfacePeer {
    /// What people call it.
    pub name: Option<String>,
    /// Where it is; `None`: it is awaited.
    pub endpoint: Option<Endpoint>,
    /// What it may send from, and what is sent to it; no host bits.
    pub allowed_ips: BTreeSet<IpNet>,
    /// Seconds between keepalives; 0: none.
    pub keepalive: u16,
    /// The file with the key that both share.
    pub preshared_key_file: Option<String>,
}

/// The first prefix that two peers have, with both: WireGuard would silently give it to the last one. Nested prefixes are
/// fine, as the most specific one wins.
pub fn shared<K: Copy + PartialEq>(prefixes: impl IntoIterator<Item = (IpNet, K)>) -> Option<(IpNet, K, K)> {
    let mut owners = BTreeMap::new();
    prefixes.into_iter().find_map(|(prefix, owner)| {
        let first = *owners.entry(prefix).or_insert(owner);
        (first != owner).then_some((prefix, first, owner))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_equal_prefixes_of_different_peers_are_shared() {
        let first = |list: &[(&str, u8)]| {
            let prefixes = list.iter().map(|(prefix, peer)| (prefix.parse().unwrap(), *peer));
            shared(prefixes).map(|(prefix, first, second)| (prefix.to_string(), first, second))
        };
        assert_eq!(first(&[]), None);
        assert_eq!(
            first(&[("10.0.0.0/8", 1), ("10.0.0.0/8", 1)]),
            None,
            "one peer's own"
        );
        assert_eq!(first(&[("192.168.0.0/16", 1), ("192.168.5.0/24", 2)]), None);
        assert_eq!(first(&[("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("::/0", 1)]), None);
        let lists = [("fd00::/64", 1), ("10.0.0.0/8", 2), ("fd00::/64", 3)];
        assert_eq!(first(&lists), Some(("fd00::/64".to_owned(), 1, 3)));
    }
}
