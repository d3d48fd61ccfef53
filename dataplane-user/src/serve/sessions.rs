//! Each WireGuard peer's session, read from the devices at that moment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::kernel::KernelError;
use crate::kernel::wireguard::{PeerTraffic, Reading, WireGuard, no_private_keys};
use crate::net::{LinkName, PublicKey};
use crate::status::{SessionStatus, Status};

/// After this time a session's keys are not used any more (`REJECT_AFTER_TIME`, WireGuard's paper, section 6.1).
const SESSION: Duration = Duration::from_secs(180);

/// Fills in what the devices say of each peer. What can't be read is left out.
pub(super) async fn fill_in(status: &mut Status) {
    let links = status.peers.iter().filter_map(|peer| peer.wireguard.as_ref());
    let devices: BTreeSet<String> = links.map(|link| link.device.clone()).collect();
    if devices.is_empty() {
        return;
    }
    let readings = match read(&devices).await {
        Ok(readings) => readings,
        Err(error) => {
            tracing::debug!("WireGuard can't be read for the status: {error}");
            return;
        }
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    set(status, &readings, now);
}

async fn read(devices: &BTreeSet<String>) -> Result<BTreeMap<String, Reading>, KernelError> {
    let mut wireguard = WireGuard::open(no_private_keys())?;
    let mut readings = BTreeMap::new();
    for device in devices {
        let Ok(name) = LinkName::new(device) else {
            continue;
        };
        match wireguard.get_device(&name).await {
            Ok(reading) => drop(readings.insert(device.clone(), reading)),
            Err(error) if error.errno() == Some(libc::ENODEV) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(readings)
}

fn set(status: &mut Status, readings: &BTreeMap<String, Reading>, now: Duration) {
    let mut established = Vec::new();
    for link in status.peers.iter_mut().filter_map(|peer| peer.wireguard.as_mut()) {
        let reading = readings.get(&link.device);
        let key = link.public_key.parse::<PublicKey>().ok();
        link.session = reading
            .zip(key)
            .and_then(|(reading, key)| session(reading, &key, now));
        established.push(link.session.as_ref().is_some_and(|session| session.established));
    }
    status.peers_established = (!established.is_empty()).then(|| established.iter().all(|is| *is));
}

fn session(reading: &Reading, key: &PublicKey, now: Duration) -> Option<SessionStatus> {
    let peer = reading.device.peers.get(key)?;
    let PeerTraffic {
        last_handshake,
        received,
        sent,
    } = *reading.traffic.get(key)?;
    let age = last_handshake.map(|then| now.saturating_sub(then));
    Some(SessionStatus {
        endpoint: peer.endpoint.map(|endpoint| endpoint.to_string()),
        established: age.is_some_and(|age| age < SESSION),
        handshake_age_s: age.map(|age| age.as_secs()),
        received_bytes: received,
        sent_bytes: sent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::wireguard::Peer;
    use crate::status::{PeerStatus, WireGuardStatus};

    fn peer(key: PublicKey) -> PeerStatus {
        PeerStatus {
            node: "b".to_owned(),
            network: "pods".to_owned(),
            encapsulation: "wireguard".to_owned(),
            remote: "192.0.2.1".to_owned(),
            local: "192.0.2.2".to_owned(),
            mtu: 1440,
            wireguard: Some(WireGuardStatus {
                device: "adit-wg0".to_owned(),
                public_key: key.to_string(),
                session: None,
            }),
            withdrawn: false,
            dataplane: String::new(),
            way: None,
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
        let readings = BTreeMap::from([("adit-wg0".to_owned(), reading)]);
        let now = Duration::from_secs(1000);
        let of = |keys: &[PublicKey]| {
            let mut status = Status {
                peers: keys.iter().copied().map(peer).collect(),
                ..Status::default()
            };
            set(&mut status, &readings, now);
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
}
