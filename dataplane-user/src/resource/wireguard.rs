//! WireGuard devices that manifests declare one by one (`WireGuardInterface`) or as a plan of many
//! (`WireGuardNetworkPlan`); not the ones of overlay networks.

pub mod plan;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::netlink::InterfaceEnd;
use super::node::Endpoint;
use crate::model::{MAIN_TABLE, wireguard};
use crate::net::{Family, KeySource, PeerEndpoint, PresharedKey, PublicKey};

/// A device (`WireGuardInterface`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuardInterface {
    /// Its common properties.
    pub end: InterfaceEnd,
    /// The source of its private key; `None`: it has none.
    pub key: Option<KeySource>,
    /// UDP port; 0: the kernel's choice.
    pub listen_port: u16,
    /// The mark of the packets that it sends; 0: none, or chosen if its default routes need one.
    pub fwmark: u32,
    /// The routing tables of the routes for allowed IPs.
    pub routes: AllowedIpRoutes,
    /// The priority of the first of the two rules for its default routes, by family, if it is not the usual
    /// one.
    pub rules_at: BTreeMap<Family, u32>,
    /// Its peers, each key once. No two peers have the same allowed IP; of nested ones the most specific
    /// wins.
    pub peers: Vec<Peer>,
}

/// The routing tables of the routes for allowed IPs, like `Table` in wg-quick(8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum AllowedIpRoutes {
    /// No routes.
    Off,
    /// In the main table; default routes in a separate table, which is looked up for packets that the device
    /// does not send itself and for which the main table has no more specific route.
    #[default]
    Auto,
    /// All routes in this table.
    Table(u32),
}

impl AllowedIpRoutes {
    /// Whether one of these prefixes is a default route that gets a separate table and rules.
    pub fn lead_everywhere<'a>(self, prefixes: impl IntoIterator<Item = &'a IpNet>) -> bool {
        let mut prefixes = prefixes.into_iter();
        self == AllowedIpRoutes::Auto && prefixes.any(|prefix| prefix.prefix_len() == 0)
    }

    /// The table of the route for an allowed IP; `None`: it needs no route. `own` is the table of default
    /// routes, `subnets` are prefixes that have a route already.
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

/// A peer of a device, as in manifests, in wg-quick files and in the kernel's list. A device of the desired
/// or observed state has a [`wireguard::Peer`] instead, without names, files and order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its public key.
    pub public_key: PublicKey,
    /// Its name for people.
    pub name: Option<String>,
    /// Its endpoint; `None`: the peer must connect first.
    pub endpoint: Option<Endpoint>,
    /// The prefixes from which it may send, and that are sent to it; no host bits, each once, in the order of
    /// the file.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives; 0: none.
    pub keepalive: u16,
    /// The preshared key.
    pub preshared_key: Option<PresharedSource>,
}

/// The source of a preshared key. No `Debug` shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresharedSource {
    /// A separate file.
    File(String),
    /// The key itself.
    Key(PresharedKey),
}

impl Peer {
    /// A peer with only a public key.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Peer {
        Peer {
            public_key,
            name: None,
            endpoint: None,
            allowed_ips: Vec::new(),
            keepalive: 0,
            preshared_key: None,
        }
    }

    /// The file with its preshared key.
    #[must_use]
    pub fn preshared_key_file(&self) -> Option<&String> {
        match &self.preshared_key {
            Some(PresharedSource::File(file)) => Some(file),
            _ => None,
        }
    }

    /// Its preshared key, unless it is in a separate file.
    #[must_use]
    pub fn known_preshared_key(&self) -> Option<&PresharedKey> {
        match &self.preshared_key {
            Some(PresharedSource::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// Its endpoint, if `names` has the address of its name.
    #[must_use]
    pub fn resolve(&self, names: &BTreeMap<String, Vec<IpAddr>>) -> Option<PeerEndpoint> {
        let find = |name: &str| names.get(name).and_then(|known| known.first()).copied();
        self.endpoint.as_ref()?.resolve(find)
    }

    /// The peer as part of the desired state of a device.
    #[must_use]
    pub fn on_device(
        &self,
        endpoint: Option<PeerEndpoint>,
        preshared_key: wireguard::Preshared,
    ) -> wireguard::Peer {
        wireguard::Peer {
            configured: endpoint.clone(),
            endpoint,
            allowed_ips: self.allowed_ips.iter().copied().collect(),
            keepalive: self.keepalive,
            preshared_key,
        }
    }
}

/// Peers as part of the desired state of a device, as far as known: a name without an address gives no
/// endpoint, and a file gives no key. Of several peers with the same public key the last one is used.
#[must_use]
pub fn on_device<'a>(
    peers: impl IntoIterator<Item = &'a Peer>,
    names: &BTreeMap<String, Vec<IpAddr>>,
) -> BTreeMap<PublicKey, wireguard::Peer> {
    let on_device = |peer: &Peer| {
        let preshared_key = peer.known_preshared_key().cloned().into();
        (
            peer.public_key,
            peer.on_device(peer.resolve(names), preshared_key),
        )
    };
    peers.into_iter().map(on_device).collect()
}

/// The first prefix that two peers have in common, with both peers: WireGuard would silently give it to the
/// last one. Nested prefixes are fine, because the most specific one wins.
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
