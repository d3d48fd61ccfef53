//! The age of the endpoint of each WireGuard peer. The kernel does not report it, so it counts from the first
//! request that saw the endpoint.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::kernel::wireguard::Reading;
use crate::net::{LinkName, PeerEndpoint, PublicKey};

/// Endpoints as last seen, and when each was first seen. Clones share them. Removed peers are forgotten when
/// their device is read again.
#[derive(Clone, Debug, Default)]
pub struct EndpointAges(Arc<Mutex<BTreeMap<LinkName, Peers>>>);

/// By peer, its endpoint and when that was first seen.
type Peers = BTreeMap<PublicKey, (PeerEndpoint, Instant)>;

impl EndpointAges {
    /// Updates the endpoints of a device from a reading, and returns the age of each. Peers without endpoint
    /// are missing.
    pub(super) fn update(
        &self,
        device: &LinkName,
        reading: &Reading,
        now: Instant,
    ) -> BTreeMap<PublicKey, Duration> {
        let mut devices = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = devices.remove(device).unwrap_or_default();
        let peers = reading.device.peers.iter();
        let seen: Peers = peers
            .filter_map(|(key, peer)| {
                let endpoint = peer.endpoint.clone()?;
                let before = known.get(key).filter(|(known, _)| *known == endpoint);
                Some((*key, (endpoint, before.map_or(now, |(_, since)| *since))))
            })
            .collect();
        let age = |since: &Instant| now.saturating_duration_since(*since);
        let ages = seen.iter().map(|(key, (_, since))| (*key, age(since))).collect();
        devices.insert(device.clone(), seen);
        ages
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::model::wireguard::Peer;

    fn reading(peers: &[(u8, Option<&str>)]) -> Reading {
        let mut reading = Reading::default();
        for (number, endpoint) in peers {
            let peer = Peer {
                endpoint: endpoint.map(|endpoint| endpoint.parse::<SocketAddr>().unwrap().into()),
                ..Peer::default()
            };
            reading.device.peers.insert(key(*number), peer);
        }
        reading
    }

    fn key(number: u8) -> PublicKey {
        PublicKey::from_bytes([number; 32])
    }

    #[test]
    fn an_endpoint_is_as_old_as_the_first_reading_of_it() {
        const HERE: Option<&str> = Some("192.0.2.1:1");
        const THERE: Option<&str> = Some("192.0.2.1:2");
        let ages = EndpointAges::default();
        let start = Instant::now();
        let read = |device: &str, at: u64, peers: &[(u8, Option<&str>)]| {
            let now = start + Duration::from_secs(at);
            let ages = ages
                .clone()
                .update(&LinkName::new(device).unwrap(), &reading(peers), now);
            let seconds = ages.into_iter().map(|(key, age)| (key, age.as_secs()));
            seconds.collect::<Vec<_>>()
        };
        assert_eq!(read("wg0", 0, &[(1, HERE), (2, None)]), [(key(1), 0)]);
        assert_eq!(
            read("wg0", 5, &[(1, HERE), (2, HERE)]),
            [(key(1), 5), (key(2), 0)]
        );
        // A peer of another device is a different one, even with the same key.
        assert_eq!(read("wg1", 6, &[(1, HERE)]), [(key(1), 0)]);
        // The peer roams.
        assert_eq!(
            read("wg0", 9, &[(1, THERE), (2, HERE)]),
            [(key(1), 0), (key(2), 4)]
        );
        assert_eq!(read("wg0", 11, &[(1, THERE)]), [(key(1), 2)]);
        // A peer that was removed and added again is new.
        assert_eq!(
            read("wg0", 12, &[(1, THERE), (2, HERE)]),
            [(key(1), 3), (key(2), 0)]
        );
    }
}
