//! WireGuard devices that manifests declare one by one (`WireGuardInterface`), or as a plan of many, beside those that networks
//! make for themselves.

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
    /// What it says of itself.
    pub end: InterfaceEnd,
    /// Where its private key is; `None`: it is to have none.
    pub key: Option<KeySource>,
    /// UDP port; 0: the kernel's choice.
    pub listen_port: u16,
    /// The mark of the packets that it sends; 0: none, or what its default routes need.
    pub fwmark: u32,
    /// Where routes for allowed IPs stand.
    pub routes: AllowedIpRoutes,
    /// The priority of the first of the two rules for its default routes, by family, where that is not the usual one.
    pub rules_at: BTreeMap<Family, u32>,
    /// Its peers, each key once. No two have one allowed prefix; of nested ones the most specific wins.
    pub peers: Vec<Peer>,
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

/// A peer of a device, as manifests and wg-quick's files say it and as the kernel lists it. What a device of the desired or
/// observed state has is a [`wireguard::Peer`]: names and files are no more in it, and an order neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its public key.
    pub public_key: PublicKey,
    /// What people call it.
    pub name: Option<String>,
    /// Where it is; `None`: it is awaited.
    pub endpoint: Option<Endpoint>,
    /// What it may send from, and what is sent to it; no host bits, each once, in the order in which they were written.
    pub allowed_ips: Vec<IpNet>,
    /// Seconds between keepalives; 0: none.
    pub keepalive: u16,
    /// The key that both share.
    pub preshared_key: Option<PresharedSource>,
}

/// Where a preshared key is. No `Debug` shows a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PresharedSource {
    /// In a file of its own.
    File(String),
    /// Here.
    Key(PresharedKey),
}

impl Peer {
    /// A peer of which only the key is known.
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

    /// The file that its preshared key is in.
    #[must_use]
    pub fn preshared_key_file(&self) -> Option<&String> {
        match &self.preshared_key {
            Some(PresharedSource::File(file)) => Some(file),
            _ => None,
        }
    }

    /// Its preshared key, where no file of its own has it.
    #[must_use]
    pub fn known_preshared_key(&self) -> Option<&PresharedKey> {
        match &self.preshared_key {
            Some(PresharedSource::Key(key)) => Some(key),
            _ => None,
        }
    }

    /// Its endpoint, as far as `names` knows the address.
    #[must_use]
    pub fn resolve(&self, names: &BTreeMap<String, Vec<IpAddr>>) -> Option<PeerEndpoint> {
        let find = |name: &str| names.get(name).and_then(|known| known.first()).copied();
        self.endpoint.as_ref()?.resolve(find)
    }

    /// As a device shall have it.
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

/// Peers as a device has them, as far as that is known: a name without an address gives no endpoint, and a file no key. Of several with
/// one key the last one says all.
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
