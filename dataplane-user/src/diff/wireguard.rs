//! The changes that give a WireGuard device its desired state, and no others.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::At;
use crate::model::change::WireGuardChange;
use crate::model::order::Detour;
use crate::model::wireguard::{Device, DeviceChange, Peer, PeerUpdate, Preshared};
use crate::model::{ChangeSet, KernelState, Named, Route, RouteKey};
use crate::net::key::{PresharedKey, PublicKey};
use crate::net::{LinkName, PeerEndpoint};

pub(super) fn diff(at: At<'_>, observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    let At {
        namespace,
        detours,
        named,
    } = at;
    revoke(named, observed, desired, set);
    let new = Device::default();
    for (link, wanted) in &desired.wireguard {
        let observed = observed.wireguard.get(link).unwrap_or(&new);
        let yields = detours.contains(&Detour::FreePort(namespace.cloned(), link.clone()));
        let yields = yields.then_some(DeviceChange::YieldListenPort(observed.listen_port));
        for change in yields.into_iter().chain(device(observed, wanted)) {
            set.push(WireGuardChange {
                link: link.clone(),
                change,
            });
        }
    }
}

/// A device that is deleted and whose routes move to other devices loses peers that manifests no longer name
/// before that: the device may have to stay until all routes have moved.
fn revoke(named: &Named, observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    let goes = |link: &&LinkName| observed.links.contains_key(*link) && !desired.links.contains_key(*link);
    for link in observed.wireguard.keys().filter(goes) {
        let moves = |(key, route): (&RouteKey, &Route)| {
            route.links().any(|other| other == link) && desired.routes.contains_key(key)
        };
        let is_used_by_maps = observed
            .classes
            .values()
            .any(|device| device.as_ref() == Some(link));
        if !is_used_by_maps && !observed.routes.iter().any(moves) {
            continue;
        }
        let peers = observed.wireguard[link].peers.keys();
        for key in peers.filter(|key| !named.keys.contains(*key)) {
            set.push(WireGuardChange {
                link: link.clone(),
                change: DeviceChange::RemovePeer(*key),
            });
        }
    }
}

/// The changes that lead from `observed` to `wanted`; none if they are equal. Additions are made before
/// removals, so that a prefix that moves from one peer to another always has a peer.
///
/// If the endpoint of a peer differs from the configured one, but the configured one is unchanged, the peer
/// has roamed and keeps the endpoint that the kernel learned. If two peers have the same allowed IP, the last
/// one gets it. A peer whose preshared key can't be read keeps its current key, and is not created if it does
/// not exist.
#[must_use]
pub fn device(observed: &Device, wanted: &Device) -> Vec<DeviceChange> {
    let mut changes = Vec::new();
    if let Some(key) = wanted.public_key.filter(|key| observed.public_key != Some(*key)) {
        changes.push(DeviceChange::SetPrivateKey(key));
    }
    if wanted.listen_port != 0 && wanted.listen_port != observed.listen_port {
        changes.push(DeviceChange::SetListenPort(wanted.listen_port));
    }
    if observed.fwmark != wanted.fwmark {
        changes.push(DeviceChange::SetFwmark(wanted.fwmark));
    }

    let can_be = |(key, peer): &(&PublicKey, &Peer)| {
        peer.preshared_key != Preshared::Unreadable || observed.peers.contains_key(key)
    };
    let peers = wanted.peers.iter().filter(can_be).collect::<Vec<_>>();
    let owners = Owners::of(&peers);
    let mut removals = Vec::new();
    for (key, peer) in peers {
        let allowed_ips = owners.prefixes(key, peer);
        let Some(now) = observed.peers.get(key) else {
            let peer = Peer {
                allowed_ips,
                configured: peer.endpoint.clone(),
                ..peer.clone()
            };
            changes.push(DeviceChange::AddPeer(*key, peer));
            continue;
        };
        let update = PeerUpdate {
            endpoint: endpoint(now, peer),
            keepalive: (now.keepalive != peer.keepalive).then_some(peer.keepalive),
            preshared_key: preshared_key(now, peer),
            add: allowed_ips.difference(&now.allowed_ips).copied().collect(),
        };
        if !update.is_empty() {
            changes.push(DeviceChange::UpdatePeer(*key, update));
        }
        // A prefix of another peer leaves this one when the other one gets it.
        let unwanted = |prefix: &&IpNet| !owners.0.contains_key(prefix);
        let unwanted: BTreeSet<IpNet> = now.allowed_ips.iter().filter(unwanted).copied().collect();
        if !unwanted.is_empty() {
            removals.push(DeviceChange::RemoveAllowedIps(*key, unwanted));
        }
    }
    changes.extend(removals);
    let gone = observed
        .peers
        .keys()
        .filter(|key| !wanted.peers.contains_key(key));
    changes.extend(gone.map(|key| DeviceChange::RemovePeer(*key)));
    changes
}

/// The endpoint to set, if any: if it differs from the one that was configured last, or none was recorded.
fn endpoint(now: &Peer, wanted: &Peer) -> Option<PeerEndpoint> {
    // The kernel can't forget an endpoint.
    let endpoint = wanted.endpoint.as_ref()?;
    let stays = now.endpoint.is_some() && now.configured.as_ref() == Some(endpoint);
    (!stays).then(|| endpoint.clone())
}

/// The preshared key to set, if any; `Some(None)`: remove it.
fn preshared_key(now: &Peer, wanted: &Peer) -> Option<Option<PresharedKey>> {
    let stays = wanted.preshared_key == Preshared::Unreadable || now.preshared_key == wanted.preshared_key;
    (!stays).then(|| wanted.preshared_key.key().cloned())
}

/// The peer of each prefix, without host bits, as the kernel stores them.
struct Owners(BTreeMap<IpNet, PublicKey>);

impl Owners {
    fn of(wanted: &[(&PublicKey, &Peer)]) -> Owners {
        let pairs = wanted.iter().flat_map(|(key, peer)| {
            let prefixes = peer.allowed_ips.iter();
            prefixes.map(|prefix| (prefix.trunc(), **key))
        });
        Owners(pairs.collect())
    }

    fn prefixes(&self, key: &PublicKey, peer: &Peer) -> BTreeSet<IpNet> {
        let prefixes = peer.allowed_ips.iter().map(IpNet::trunc);
        prefixes
            .filter(|prefix| self.0.get(prefix) == Some(key))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    fn prefixes(list: &[&str]) -> BTreeSet<IpNet> {
        list.iter().map(|prefix| prefix.parse().unwrap()).collect()
    }

    fn wants(peers: &[(u8, &[&str])]) -> Device {
        let peer = |(number, list): &(u8, &[&str])| {
            let peer = Peer {
                allowed_ips: prefixes(list),
                ..Peer::default()
            };
            (key(*number), peer)
        };
        Device {
            public_key: Some(key(0)),
            listen_port: 51820,
            fwmark: 0,
            peers: peers.iter().map(peer).collect(),
        }
    }

    /// A new device after all changes to the desired one.
    fn made(wanted: &Device) -> Device {
        let changes = device(&Device::default(), wanted);
        changes.iter().fold(Device::default(), |made, change| {
            made.changed(change).expect("possible")
        })
    }

    fn changes(observed: &Device, wanted: &Device) -> Vec<String> {
        let changes = device(observed, wanted);
        changes.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_differs_nothing_changes() {
        let mut wanted = wants(&[(1, &["10.0.0.0/24"]), (2, &[])]);
        assert_eq!(changes(&made(&wanted), &wanted), [""; 0]);
        wanted.listen_port = 0;
        assert_eq!(changes(&made(&wanted), &wanted), [""; 0], "any port will do");
        let observed = made(&wanted);
        let with_host_bits = wants(&[(1, &["10.0.0.7/24"]), (2, &[])]);
        assert_eq!(changes(&observed, &with_host_bits), ["listen-port 51820"]);
    }

    #[test]
    fn a_key_port_or_mark_alone_is_set() {
        let wanted = wants(&[]);
        let mut observed = made(&wanted);
        observed.listen_port = 1;
        assert_eq!(changes(&observed, &wanted), ["listen-port 51820"]);
        let observed = Device {
            fwmark: 7,
            ..made(&wanted)
        };
        assert_eq!(changes(&observed, &wanted), ["fwmark 0x0"]);
        let observed = Device {
            public_key: None,
            ..made(&wanted)
        };
        assert_eq!(device(&observed, &wanted), [DeviceChange::SetPrivateKey(key(0))]);
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
            [format!("peer {} allowed-ips +10.0.1.0/24", key(1))]
        );
        let wanted = wants(&[(1, &["10.0.0.0/24"]), (3, &["10.0.1.0/24"])]);
        let expected = [
            format!("peer {} allowed-ips 10.0.1.0/24", key(3)),
            format!("peer {} remove", key(2)),
        ];
        assert_eq!(changes(&observed, &wanted), expected);
        let wanted = wants(&[(1, &["10.0.0.0/24"]), (2, &["10.0.1.0/24"])]);
        assert_eq!(
            changes(&observed, &wanted),
            [format!("peer {} allowed-ips -10.0.2.0/24", key(2))]
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
        let at = |address: &str, port| PeerEndpoint::new(address.parse().unwrap(), port);
        let (configured, roamed) = (at("192.0.2.1", 1), at("192.0.2.2", 2));
        let next = PeerEndpoint {
            device: Some(LinkName::constant("eth0")),
            ..at("fe80::1", 1)
        };
        let mut wanted = wants(&[(1, &[])]);
        let mut observed = made(&wanted);
        let set = |endpoint: &PeerEndpoint| vec![format!("peer {} endpoint {endpoint}", key(1))];
        let with = |observed: &Device, wanted: &Device, last: Option<&PeerEndpoint>| -> Vec<String> {
            let mut observed = observed.clone();
            observed.peers.get_mut(&key(1)).unwrap().configured = last.cloned();
            changes(&observed, wanted)
        };
        let give = |device: &mut Device, endpoint: Option<&PeerEndpoint>| {
            device.peers.get_mut(&key(1)).unwrap().endpoint = endpoint.cloned();
        };
        give(&mut wanted, Some(&configured));
        assert_eq!(
            with(&observed, &wanted, Some(&configured)),
            set(&configured),
            "it has none"
        );
        give(&mut observed, Some(&roamed));
        assert_eq!(with(&observed, &wanted, Some(&configured)), [""; 0]);
        assert_eq!(
            with(&observed, &wanted, None),
            set(&configured),
            "it was never recorded"
        );
        give(&mut wanted, Some(&next));
        assert_eq!(with(&observed, &wanted, Some(&configured)), set(&next));
        let elsewhere = PeerEndpoint {
            device: Some(LinkName::constant("eth1")),
            ..next.clone()
        };
        assert_eq!(
            with(&observed, &wanted, Some(&elsewhere)),
            set(&next),
            "the device counts"
        );
        give(&mut wanted, None);
        assert_eq!(with(&observed, &wanted, Some(&configured)), [""; 0]);
    }

    #[test]
    fn keepalive_and_preshared_key_are_cleared() {
        let wanted = wants(&[(1, &[])]);
        let mut observed = made(&wanted);
        let peer = observed.peers.get_mut(&key(1)).unwrap();
        peer.keepalive = 25;
        peer.preshared_key = Preshared::Key(PresharedKey::from_bytes(&[7; 32]));
        assert_eq!(
            changes(&observed, &wanted),
            [format!(
                "peer {} persistent-keepalive off preshared-key off",
                key(1)
            )]
        );
    }

    #[test]
    fn a_preshared_key_that_cannot_be_read_stays_and_makes_no_peer() {
        let mut wanted = wants(&[(1, &["10.0.0.0/24"]), (2, &["10.0.1.0/24"])]);
        let mut observed = made(&wants(&[(1, &["10.0.0.0/24", "10.0.1.0/24"])]));
        let known = Preshared::Key(PresharedKey::from_bytes(&[7; 32]));
        for there in [known.clone(), Preshared::None] {
            observed.peers.get_mut(&key(1)).unwrap().preshared_key = there;
            for peer in wanted.peers.values_mut() {
                peer.preshared_key = Preshared::Unreadable;
            }
            // The prefix of the peer that is not created goes to nobody, and from who has it.
            assert_eq!(
                changes(&observed, &wanted),
                [format!("peer {} allowed-ips -10.0.1.0/24", key(1))]
            );
        }
        wanted.peers.get_mut(&key(2)).unwrap().preshared_key = known;
        assert_eq!(
            changes(&observed, &wanted),
            [format!(
                "peer {} preshared-key (hidden) allowed-ips 10.0.1.0/24",
                key(2)
            )]
        );
    }
}
