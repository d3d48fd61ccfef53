//! Revisions of managed state that sends no events, as numbers that are cheap to read: programs on devices,
//! pins, and WireGuard peers.
//!
//! The kernel sends no event when a TCX link is detached, when a pin is removed, or when `wg set` changes a
//! device. Each observation records these numbers. Some seconds later they are read again, and only if one of
//! them differs, a full reconciliation follows, which reads everything. Maps have no number that changes with
//! their entries, so only full reconciliations check them. The same is true for WireGuard devices with more
//! peers than [`limits::RECHECKED_PEERS`], because reading these takes most of the time of a reconciliation.

use std::collections::BTreeMap;

use crate::limits;
use crate::model::Hook;
use crate::model::wireguard::Device;
use crate::net::LinkName;

/// The revisions at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revisions {
    /// The programs of Adit on devices.
    pub programs: BTreeMap<(LinkName, Hook), ProgramRevision>,
    /// The number of pinned links whose device was deleted or replaced.
    pub dead_links: usize,
    /// The kernel ids of the maps at the paths of Adit's pins; `None` if there is no such pin.
    pub maps: BTreeMap<&'static str, Option<u32>>,
    /// The WireGuard devices that were read, without their endpoints, because peers may roam.
    pub wireguard: BTreeMap<LinkName, Device>,
}

/// A program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramRevision {
    /// The kernel id of the program.
    pub id: u32,
    /// The number of changes to this hook with TCX, by any program; `None` with clsact.
    pub hook: Option<u64>,
}

impl Revisions {
    /// Records a WireGuard device, unless it has too many peers.
    pub fn add_wireguard(&mut self, link: &LinkName, device: &Device) {
        if device.peers.len() > limits::RECHECKED_PEERS {
            return;
        }
        let mut device = device.clone();
        for peer in device.peers.values_mut() {
            (peer.endpoint, peer.configured) = (None, None);
        }
        self.wireguard.insert(link.clone(), device);
    }

    /// Describes the first difference to a later moment. A WireGuard device that is in only one of the two is
    /// not a difference, because there are events for devices that are created or deleted.
    #[must_use]
    pub fn difference(&self, later: &Revisions) -> Option<String> {
        let programs = differing(&self.programs, &later.programs)
            .map(|(link, hook)| format!("the {hook} program of {link}"));
        let maps = differing(&self.maps, &later.maps).map(|name| format!("the pin of the map {name}"));
        let peers = || {
            let mut both = later.wireguard.iter();
            both.find(|(link, now)| self.wireguard.get(*link).is_some_and(|before| before != *now))
                .map(|(link, _)| format!("the WireGuard device {link}"))
        };
        let dead = (self.dead_links != later.dead_links).then(|| "a pinned link".to_owned());
        programs.or(maps).or_else(peers).or(dead)
    }
}

/// The first key that is in only one of the maps, or that has different values.
fn differing<'a, K: Ord, V: PartialEq>(before: &'a BTreeMap<K, V>, now: &'a BTreeMap<K, V>) -> Option<&'a K> {
    let mut keys = before.keys().chain(now.keys());
    keys.find(|key| before.get(key) != now.get(key))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::model::wireguard::Peer;
    use crate::net::{PeerEndpoint, PublicKey};

    fn name() -> LinkName {
        LinkName::constant("adit-wg0")
    }

    fn with_peers(number: u32, endpoint: Option<&PeerEndpoint>) -> Revisions {
        let peers = (0..number).map(|number| {
            let mut key = [0; 32];
            key[..4].copy_from_slice(&number.to_be_bytes());
            let peer = Peer {
                endpoint: endpoint.cloned(),
                ..Peer::default()
            };
            (PublicKey::from_bytes(key), peer)
        });
        let device = Device {
            peers: peers.collect(),
            ..Device::default()
        };
        let mut revisions = Revisions::default();
        revisions.add_wireguard(&name(), &device);
        revisions
    }

    #[test]
    fn a_peer_that_goes_differs_and_one_that_roams_does_not() {
        let before = with_peers(2, None);
        assert_eq!(
            before.difference(&with_peers(1, None)).as_deref(),
            Some("the WireGuard device adit-wg0")
        );
        let roamed = with_peers(2, Some(&PeerEndpoint::new(IpAddr::from([192, 0, 2, 1]), 1)));
        assert_eq!(before.difference(&roamed), None);
    }

    #[test]
    fn large_devices_are_left_to_the_full_pass() {
        let large = with_peers(u32::try_from(limits::RECHECKED_PEERS).unwrap() + 1, None);
        assert!(large.wireguard.is_empty());
        assert_eq!(with_peers(3, None).difference(&large), None);
    }

    #[test]
    fn programs_and_pins_differ_by_their_numbers() {
        let of = |id, hook| {
            let program = ProgramRevision { id, hook };
            Revisions {
                programs: BTreeMap::from([((name(), Hook::Egress), program)]),
                maps: BTreeMap::from([("adit_classes", Some(7))]),
                ..Revisions::default()
            }
        };
        let before = of(5, Some(2));
        assert_eq!(before.difference(&before), None);
        let program = Some("the egress program of adit-wg0".to_owned());
        for later in [of(5, Some(3)), of(6, Some(2)), of(5, None)] {
            assert_eq!(before.difference(&later), program);
        }
        let mut later = before.clone();
        later.programs.clear();
        assert_eq!(before.difference(&later), program);
        let mut later = before.clone();
        later.maps.insert("adit_classes", None);
        assert_eq!(
            before.difference(&later).as_deref(),
            Some("the pin of the map adit_classes")
        );
    }
}
