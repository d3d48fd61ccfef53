//! The session of each WireGuard peer, read from the devices on each request.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::endpoints::EndpointAges;
use crate::kernel::KernelError;
use crate::kernel::netlink::Netlink;
use crate::kernel::wireguard::{PeerTraffic, Reading, WireGuard, no_private_keys};
use crate::limits;
use crate::metrics::UnnamedPeer;
use crate::model::Owner;
use crate::net::{LinkName, PublicKey};
use crate::status::{SessionStatus, Status};

/// Sets the session of each peer. Sessions that can't be read are missing.
pub(super) async fn fill_in(status: &mut Status, ages: &EndpointAges) {
    let devices = devices(status);
    read_and_set(status, &devices, ages).await;
}

/// The same, and returns all other peers of managed WireGuard devices.
pub(super) async fn fill_in_and_list(status: &mut Status, ages: &EndpointAges) -> Vec<UnnamedPeer> {
    let mut devices = devices(status);
    match own_devices().await {
        Ok(own) => devices.extend(own),
        Err(error) => {
            tracing::debug!("metrics without other WireGuard devices, which can't be listed: {error}");
        }
    }
    let sessions = read_and_set(status, &devices, ages).await;
    unnamed(status, sessions)
}

/// The peers that the status does not name.
fn unnamed(status: &Status, sessions: BTreeMap<LinkName, Sessions>) -> Vec<UnnamedPeer> {
    let named = status.peers.iter().filter_map(|peer| peer.wireguard.as_ref());
    let named: BTreeSet<(&LinkName, PublicKey)> = named
        .filter_map(|link| Some((&link.device, link.public_key?)))
        .collect();
    let all = sessions.into_iter().flat_map(|(device, sessions)| {
        sessions
            .into_iter()
            .map(move |(public_key, session)| UnnamedPeer {
                device: device.clone(),
                public_key,
                session,
            })
    });
    all.filter(|peer| !named.contains(&(&peer.device, peer.public_key)))
        .collect()
}

/// The sessions of a device, by peer.
type Sessions = BTreeMap<PublicKey, SessionStatus>;

/// The devices that the status names.
fn devices(status: &Status) -> BTreeSet<LinkName> {
    let links = status.peers.iter().filter_map(|peer| peer.wireguard.as_ref());
    links.map(|link| link.device.clone()).collect()
}

async fn own_devices() -> Result<Vec<LinkName>, KernelError> {
    let links = Netlink::open()?.wireguard_links().await?.into_iter();
    let managed = links.filter(|(_, owner)| *owner == Owner::Adit);
    Ok(managed.map(|(name, _)| name).collect())
}

async fn read_and_set(
    status: &mut Status,
    devices: &BTreeSet<LinkName>,
    ages: &EndpointAges,
) -> BTreeMap<LinkName, Sessions> {
    if devices.is_empty() {
        return BTreeMap::new();
    }
    let readings = match read(devices).await {
        Ok(readings) => readings,
        Err(error) => {
            tracing::debug!("WireGuard devices can't be read: {error}");
            return BTreeMap::new();
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let read_at = Instant::now();
    let sessions = readings.into_iter().map(|(device, reading)| {
        let ages = ages.update(&device, &reading, read_at);
        let of = sessions(&reading, &ages, now);
        (device, of)
    });
    let sessions = sessions.collect();
    set(status, &sessions);
    sessions
}

async fn read(devices: &BTreeSet<LinkName>) -> Result<BTreeMap<LinkName, Reading>, KernelError> {
    let mut wireguard = WireGuard::open(no_private_keys())?;
    let mut readings = BTreeMap::new();
    for device in devices {
        match wireguard.get_device(device).await {
            Ok(reading) => drop(readings.insert(device.clone(), reading)),
            Err(error) if error.errno() == Some(libc::ENODEV) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(readings)
}

fn set(status: &mut Status, sessions: &BTreeMap<LinkName, Sessions>) {
    let mut established = Vec::new();
    for link in status.peers.iter_mut().filter_map(|peer| peer.wireguard.as_mut()) {
        let sessions = sessions.get(&link.device);
        link.session = sessions
            .zip(link.public_key)
            .and_then(|(sessions, key)| sessions.get(&key).cloned());
        established.push(link.session.as_ref().is_some_and(|session| session.established));
    }
    status.peers_established = (!established.is_empty()).then(|| established.iter().all(|is| *is));
}

fn sessions(reading: &Reading, ages: &BTreeMap<PublicKey, Duration>, now: Duration) -> Sessions {
    let peers = reading.device.peers.iter();
    let sessions = peers.filter_map(|(key, peer)| {
        let PeerTraffic {
            last_handshake,
            received,
            sent,
        } = *reading.traffic.get(key)?;
        let age = last_handshake.map(|then| now.saturating_sub(then));
        let session = SessionStatus {
            endpoint: peer.endpoint.as_ref().map(ToString::to_string),
            endpoint_age_s: ages.get(key).map(Duration::as_secs),
            established: age.is_some_and(|age| age < limits::WIREGUARD_SESSION),
            handshake_age_s: age.map(|age| age.as_secs()),
            received_bytes: received,
            sent_bytes: sent,
        };
        Some((*key, session))
    });
    sessions.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wireguard::Peer;
    use crate::net::{Encapsulation, NodeName};
    use crate::resource::Dataplane;
    use crate::status::{PeerStatus, WireGuardStatus};

    fn peer(key: PublicKey) -> PeerStatus {
        PeerStatus {
            node: NodeName::new("b").unwrap(),
            network: "pods".to_owned(),
            encapsulation: Encapsulation::WireGuard,
            remote: Some([192, 0, 2, 1].into()),
            local: Some([192, 0, 2, 2].into()),
            mtu: 1440,
            wireguard: Some(WireGuardStatus {
                device: LinkName::constant("adit-wg0"),
                own_key: None,
                public_key: Some(key),
                session: None,
            }),
            withdrawn: false,
            dataplane: Dataplane::Ebpf,
            path: None,
            received: None,
        }
    }

    #[test]
    fn a_session_lasts_three_minutes() {
        let keys = [1, 2, 3].map(|byte| PublicKey::from_bytes([byte; 32]));
        let mut reading = Reading::default();
        for (key, handshake) in keys.iter().zip([Some(900), Some(819), None]) {
            reading.device.peers.insert(*key, Peer::default());
            let last_handshake = handshake.map(Duration::from_secs);
            reading.traffic.insert(
                *key,
                PeerTraffic {
                    last_handshake,
                    received: 7,
                    sent: 8,
                },
            );
        }
        let ages = BTreeMap::from([(keys[0], Duration::from_secs(42))]);
        let sessions = sessions(&reading, &ages, Duration::from_secs(1000));
        assert_eq!(sessions[&keys[0]].endpoint_age_s, Some(42));
        let sessions = BTreeMap::from([(LinkName::constant("adit-wg0"), sessions)]);
        let of = |keys: &[PublicKey]| {
            let mut status = Status {
                peers: keys.iter().copied().map(peer).collect(),
                ..Status::default()
            };
            set(&mut status, &sessions);
            let sessions = status.peers.iter().map(|peer| peer.wireguard.clone()?.session);
            let shown = |session: SessionStatus| (session.established, session.handshake_age_s);
            (
                status.peers_established,
                sessions.map(|session| session.map(shown)).collect::<Vec<_>>(),
            )
        };
        assert_eq!(of(&keys[..1]), (Some(true), vec![Some((true, Some(100)))]));
        assert_eq!(
            of(&keys[1..]),
            (Some(false), vec![Some((false, Some(181))), Some((false, None))])
        );
        assert_eq!(of(&[PublicKey::from_bytes([9; 32])]), (Some(false), vec![None]));
        assert_eq!(of(&[]), (None, vec![]));
    }

    #[test]
    fn peers_that_are_no_nodes_are_listed_by_device_and_key() {
        let keys = [1, 2].map(|byte| PublicKey::from_bytes([byte; 32]));
        let mut reading = Reading::default();
        for key in keys {
            reading.device.peers.insert(key, Peer::default());
            reading.traffic.insert(key, PeerTraffic::default());
        }
        let of = || sessions(&reading, &BTreeMap::new(), Duration::ZERO);
        let sessions = ["adit-wg0", "hub"].map(|device| (LinkName::constant(device), of()));
        let status = Status {
            peers: vec![peer(keys[0])],
            ..Status::default()
        };
        let unnamed = unnamed(&status, sessions.into());
        let listed = unnamed.iter();
        let listed = listed.map(|peer| (peer.device.as_str(), peer.public_key));
        let expected = [("adit-wg0", keys[1]), ("hub", keys[0]), ("hub", keys[1])];
        assert_eq!(listed.collect::<Vec<_>>(), expected);
    }
}
