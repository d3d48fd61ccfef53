//! What makes a WireGuard device what it shall be, and nothing more than that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use ipnet::IpNet;

use crate::model::wireguard::{Device, DeviceChange, DeviceConfig, Peer, PeerConfig, PeerUpdate};
use crate::net::key::PublicKey;

/// The changes that make `observed` what is `wanted`: none where it is so already. Additions come before removals, so
/// that a prefix that moves from one peer to another is always somebody's.
///
/// `configured` holds the endpoints that were configured last: where a peer's endpoint is another one, but the
/// configured one is still the same, the peer has roamed and keeps what the kernel learned. Of two peers that want one
/// prefix the last one gets it.
#[must_use]
pub fn diff(
    observed: &Device,
    wanted: &DeviceConfig,
    configured: &BTreeMap<PublicKey, SocketAddr>,
) -> Vec<DeviceChange> {
    let mut changes = Vec::new();
    if observed.public_key != Some(wanted.private_key.public_key()) {
        changes.push(DeviceChange::SetPrivateKey(wanted.private_key.clone()));
    }
    if let Some(port) = wanted.listen_port.filter(|port| *port != observed.listen_port) {
        changes.push(DeviceChange::SetListenPort(port));
    }
    if observed.fwmark != wanted.fwmark {
        changes.push(DeviceChange::SetFwmark(wanted.fwmark));
    }

    let owners = Owners::of(wanted);
    for (key, peer) in &wanted.peers {
        let allowed_ips = owners.prefixes(key, peer);
        let Some(now) = observed.peers.get(key) else {
            let peer = PeerConfig {
                allowed_ips,
                ..peer.clone()
            };
            changes.push(DeviceChange::AddPeer(*key, peer));
            continue;
        };
        let update = PeerUpdate {
            endpoint: endpoint(now, peer, configured.get(key)),
            keepalive: (now.keepalive != peer.keepalive).then_some(peer.keepalive),
            preshared_key: (now.preshared_key != peer.preshared_key).then(|| peer.preshared_key.clone()),
            add: allowed_ips.difference(&now.allowed_ips).copied().collect(),
            // What another peer wants leaves this one by being given to that one.
            remove: now
                .allowed_ips
                .iter()
                .filter(|prefix| !owners.0.contains_key(prefix))
                .copied()
                .collect(),
        };
        if !update.is_empty() {
            changes.push(DeviceChange::UpdatePeer(*key, update));
        }
    }
    let gone = observed
        .peers
        .keys()
        .filter(|key| !wanted.peers.contains_key(key));
    changes.extend(gone.map(|key| DeviceChange::RemovePeer(*key)));
    changes
}

/// The endpoint to be set, if any.
fn endpoint(now: &Peer, wanted: &PeerConfig, configured: Option<&SocketAddr>) -> Option<SocketAddr> {
    // The kernel can't forget an endpoint.
    let endpoint = wanted.endpoint?;
    let stays = now.endpoint == Some(endpoint) || (now.endpoint.is_some() && configured == Some(&endpoint));
    (!stays).then_some(endpoint)
}

/// Whose each prefix is, without host bits, as the kernel keeps them.
struct Owners(BTreeMap<IpNet, PublicKey>);

impl Owners {
    fn of(wanted: &DeviceConfig) -> Owners {
        let pairs = wanted.peers.iter().flat_map(|(key, peer)| {
            let prefixes = peer.allowed_ips.iter();
            prefixes.map(|prefix| (prefix.trunc(), *key))
        });
        Owners(pairs.collect())
    }

    fn prefixes(&self, key: &PublicKey, peer: &PeerConfig) -> BTreeSet<IpNet> {
        let prefixes = peer.allowed_ips.iter().map(IpNet::trunc);
        prefixes
            .filter(|prefix| self.0.get(prefix) == Some(key))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::key::{PresharedKey, PrivateKey};

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn prefixes(list: &[&str]) -> BTreeSet<IpNet> {
        list.iter().map(|prefix| prefix.parse().unwrap()).collect()
    }

    fn wants(peers: &[(u8, &[&str])]) -> DeviceConfig {
        let peer = |(number, list): &(u8, &[&str])| {
            let peer = PeerConfig {
                allowed_ips: prefixes(list),
                ..PeerConfig::default()
            };
            (key(*number), peer)
        };
        DeviceConfig {
            private_key: PrivateKey::from_random(&[1; 32]),
            listen_port: Some(51820),
            fwmark: 0,
            peers: peers.iter().map(peer).collect(),
        }
    }

    /// The device that the kernel would make of it.
    fn made(wanted: &DeviceConfig) -> Device {
        let peer = |peer: &PeerConfig| Peer {
            endpoint: peer.endpoint,
            allowed_ips: peer.allowed_ips.clone(),
            keepalive: peer.keepalive,
            preshared_key: peer.preshared_key.clone(),
            ..Peer::default()
        };
        Device {
            public_key: Some(wanted.private_key.public_key()),
            listen_port: wanted.listen_port.unwrap_or(40000),
            fwmark: wanted.fwmark,
            peers: wanted
                .peers
                .iter()
                .map(|(key, wanted)| (*key, peer(wanted)))
                .collect(),
        }
    }

    fn changes(observed: &Device, wanted: &DeviceConfig) -> Vec<String> {
        let changes = diff(observed, wanted, &BTreeMap::new());
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_differs_nothing_changes() {
        let mut wanted = wants(&[(1, &["10.0.0.0/24"]), (2, &[])]);
        assert_eq!(changes(&made(&wanted), &wanted), [""; 0]);
        wanted.listen_port = None;
        assert_eq!(changes(&made(&wanted), &wanted), [""; 0], "any port will do");
        let observed = made(&wanted);
        let with_host_bits = wants(&[(1, &["10.0.0.7/24"]), (2, &[])]);
        assert_eq!(changes(&observed, &with_host_bits), ["set port 51820"]);
    }

    #[test]
    fn a_key_port_or_mark_alone_is_set() {
        let wanted = wants(&[]);
        let mut observed = made(&wanted);
        observed.listen_port = 1;
        assert_eq!(changes(&observed, &wanted), ["set port 51820"]);
        let observed = Device {
            fwmark: 7,
            ..made(&wanted)
        };
        assert_eq!(changes(&observed, &wanted), ["set fwmark 0x0"]);
        let observed = Device {
            public_key: None,
            ..made(&wanted)
        };
        let all = diff(&observed, &wanted, &BTreeMap::new());
        assert_eq!(all, [DeviceChange::SetPrivateKey(wanted.private_key.clone())]);
    }

    #[test]
    fn a_prefix_moves_by_being_given() {
        let observed = made(&wants(&[
            (1, &["10.0.0.0/24"]),
            (2, &["10.0.1.0/24", "10.0.2.0/24"]),
        ]));
        let wanted = wants(&[(1, &["10.0.0.0/24", "10.0.1.0/24"]), (2, &["10.0.2.0/24"])]);
        assert_eq!(
            changes(&observed, &wanted),
            [format!("update peer {}: +10.0.1.0/24", key(1))]
        );
        let wanted = wants(&[(1, &["10.0.0.0/24"]), (3, &["10.0.1.0/24"])]);
        let expected = [
            format!("add peer {} with 1 prefixes", key(3)),
            format!("remove peer {}", key(2)),
        ];
        assert_eq!(changes(&observed, &wanted), expected);
        let wanted = wants(&[(1, &["10.0.0.0/24"]), (2, &["10.0.1.0/24"])]);
        assert_eq!(
            changes(&observed, &wanted),
            [format!("update peer {}: -10.0.2.0/24", key(2))]
        );
        let twice = wants(&[(1, &["10.0.0.0/24"]), (2, &["10.0.0.0/24"])]);
        let settled = made(&wants(&[(1, &[]), (2, &["10.0.0.0/24"])]));
        assert_eq!(
            changes(&settled, &twice),
            [""; 0],
            "the last one has it, for good"
        );
    }

    #[test]
    fn a_roamed_endpoint_stays_until_another_is_configured() {
        let [configured, roamed, next]: [SocketAddr; 3] =
            ["192.0.2.1:1", "192.0.2.2:2", "[2001:db8::1]:3"].map(|text| text.parse().unwrap());
        let mut wanted = wants(&[(1, &[])]);
        let mut observed = made(&wanted);
        let set = |endpoint: SocketAddr| vec![format!("update peer {}: endpoint {endpoint}", key(1))];
        let with = |observed: &Device, wanted: &DeviceConfig, last: Option<SocketAddr>| -> Vec<String> {
            let last = last.map(|last| (key(1), last)).into_iter().collect();
            diff(observed, wanted, &last)
                .iter()
                .map(ToString::to_string)
                .collect()
        };
        wanted.peers.get_mut(&key(1)).unwrap().endpoint = Some(configured);
        assert_eq!(
            with(&observed, &wanted, Some(configured)),
            set(configured),
            "it has none"
        );
        observed.peers.get_mut(&key(1)).unwrap().endpoint = Some(roamed);
        assert_eq!(with(&observed, &wanted, Some(configured)), [""; 0]);
        assert_eq!(with(&observed, &wanted, None), set(configured), "nobody knows it");
        wanted.peers.get_mut(&key(1)).unwrap().endpoint = Some(next);
        assert_eq!(with(&observed, &wanted, Some(configured)), set(next));
        wanted.peers.get_mut(&key(1)).unwrap().endpoint = None;
        assert_eq!(with(&observed, &wanted, Some(configured)), [""; 0]);
    }

    #[test]
    fn keepalive_and_preshared_key_are_cleared() {
        let wanted = wants(&[(1, &[])]);
        let mut observed = made(&wanted);
        let peer = observed.peers.get_mut(&key(1)).unwrap();
        peer.keepalive = 25;
        peer.preshared_key = Some(PresharedKey::from_bytes(&[7; 32]));
        assert_eq!(
            changes(&observed, &wanted),
            [format!("update peer {}: keepalive 0 s, no preshared key", key(1))]
        );
    }
}
