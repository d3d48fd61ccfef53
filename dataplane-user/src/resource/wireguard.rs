//! WireGuard devices that manifests declare one by one (`WireGuardInterface`), or as a plan of many, beside those that networks
//! make for themselves.

pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use ipnet::IpNet;

use super::netlink::InterfaceEnd;
use super::node::Endpoint;
use crate::model::MAIN_TABLE;
use crate::net::PublicKey;

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
    /// Its peers. No two have one allowed prefix.
    pub peers: BTreeMap<PublicKey, InterfacePeer>,
}

/// Where a private key is; the key itself never gets into manifests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySource {
    /// The node's own, in the state directory, which its overlay links use too.
    Node,
    /// The one that the node's own changes to, beside it.
    Next,
    /// A file of this name in the state directory, made once.
    Generated(String),
    /// A file, by its absolute path.
    File(String),
    /// A credential that systemd gives the agent (`LoadCredential=`), by its name.
    Credential(String),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Node => f.write_str("the node's own"),
            KeySource::Next => f.write_str("the node's next one"),
            KeySource::Generated(name) => write!(f, "generated for {name}"),
            KeySource::File(path) => write!(f, "file {path}"),
            KeySource::Credential(name) => write!(f, "credential {name}"),
        }
    }
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

/// Two peers' prefixes of which one is in the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap<K> {
    /// The wider one, or the first of two equal ones, and whose it is.
    pub outer: (IpNet, K),
    /// The other one.
    pub inner: (IpNet, K),
}

/// The first prefixes of different peers that overlap. Of equal ones WireGuard silently gives both to the last peer; of
/// nested ones the narrower one wins, which is fine for a default route and a slip for all else.
pub fn overlap<K: Copy + Ord>(prefixes: impl IntoIterator<Item = (IpNet, K)>) -> Option<Overlap<K>> {
    let mut all: Vec<(IpNet, K)> = prefixes.into_iter().collect();
    // The wider of two that begin alike comes first, so those that hold a prefix are on the stack when it comes.
    all.sort_by_key(|(prefix, owner)| (prefix.network(), prefix.prefix_len(), *owner));
    let mut around: Vec<(IpNet, K)> = Vec::new();
    for inner in all {
        while around.last().is_some_and(|outer| !outer.0.contains(&inner.0)) {
            around.pop();
        }
        let held = around.iter().rev().find(|outer| {
            let is_fine = outer.0.prefix_len() == 0 && inner.0.prefix_len() > 0;
            outer.1 != inner.1 && !is_fine
        });
        if let Some(outer) = held {
            return Some(Overlap { outer: *outer, inner });
        }
        around.push(inner);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(list: &[(&str, u8)]) -> Option<(String, String)> {
        let prefixes = list.iter().map(|(prefix, peer)| (prefix.parse().unwrap(), *peer));
        let Overlap { outer, inner } = overlap(prefixes)?;
        Some((
            format!("{} of {}", outer.0, outer.1),
            format!("{} of {}", inner.0, inner.1),
        ))
    }

    #[test]
    fn prefixes_of_different_peers_overlap_but_for_default_routes() {
        let pair = |outer: &str, inner: &str| Some((outer.to_owned(), inner.to_owned()));
        assert_eq!(first(&[]), None);
        assert_eq!(first(&[("10.0.0.1/32", 1), ("10.0.0.2/32", 2)]), None);
        assert_eq!(
            first(&[("10.0.0.0/8", 1), ("10.0.0.2/32", 1)]),
            None,
            "one peer's own"
        );
        assert_eq!(
            first(&[("10.0.0.2/32", 2), ("10.0.0.0/8", 1)]),
            pair("10.0.0.0/8 of 1", "10.0.0.2/32 of 2")
        );
        assert_eq!(
            first(&[("fd00::/64", 1), ("fd00::/64", 2)]),
            pair("fd00::/64 of 1", "fd00::/64 of 2")
        );
        assert_eq!(first(&[("0.0.0.0/0", 1), ("10.0.0.0/8", 2), ("::/0", 1)]), None);
        assert_eq!(
            first(&[("0.0.0.0/0", 1), ("0.0.0.0/0", 2)]),
            pair("0.0.0.0/0 of 1", "0.0.0.0/0 of 2")
        );
        // Past the end of one that held others, and around one of the same peer.
        assert_eq!(
            first(&[("10.0.0.0/24", 1), ("10.0.1.0/24", 2), ("10.0.0.5/32", 1)]),
            None
        );
        assert_eq!(
            first(&[("10.0.0.0/8", 1), ("10.1.0.0/16", 1), ("10.1.1.0/24", 2)]),
            pair("10.1.0.0/16 of 1", "10.1.1.0/24 of 2")
        );
    }
}
