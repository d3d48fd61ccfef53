//! The WireGuard sessions during a key rotation: from the handshakes that the kernel reports, and the time
//! since when its devices have their keys.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::limits;
use crate::model::devices;
use crate::model::facts::{SeenPeer, Session};
use crate::net::{LinkName, PublicKey};

/// The state between reconciliations.
#[derive(Debug)]
pub(super) struct Rotation {
    /// How long the other end may send on a link after this end has left it: it checks handshakes every few
    /// seconds.
    overlap: Duration,
    /// When the devices were observed last, since 1970.
    observed: Option<Duration>,
    /// The key of each device.
    keyed: BTreeMap<LinkName, Keyed>,
    /// For a peer on the second device of a rotation, since when its session on the first device is up too.
    first_up: BTreeMap<(LinkName, PublicKey), Instant>,
    /// The same moment as `observed`, on the clock of `first_up`.
    seen_at: Option<Instant>,
}

/// A device with its key. The kernel also reports the last handshake with the previous key.
#[derive(Debug)]
struct Keyed {
    own: PublicKey,
    /// Earlier handshakes were with another key; since 1970.
    since: Duration,
    /// Bytes received from each peer when the key was first seen: a peer that has sent more since uses this
    /// key.
    received: BTreeMap<PublicKey, u64>,
}

impl Keyed {
    fn new(own: PublicKey, since: Duration, seen: &[SeenPeer], device: &LinkName) -> Keyed {
        let peers = seen.iter().filter(|seen| seen.session.device == *device);
        Keyed {
            own,
            since,
            received: peers.map(|seen| (seen.session.peer, seen.received)).collect(),
        }
    }

    fn is_up(&self, seen: &SeenPeer, now: Duration) -> bool {
        let Some(handshake) = seen.handshake else {
            return false;
        };
        let before = self.received.get(&seen.session.peer).copied().unwrap_or(0);
        let with_this_key = handshake >= self.since || seen.received > before;
        with_this_key && now.saturating_sub(handshake) < limits::WIREGUARD_SESSION
    }
}

impl Rotation {
    pub(super) fn new(overlap: Duration) -> Rotation {
        Rotation {
            overlap,
            observed: None,
            keyed: BTreeMap::new(),
            first_up: BTreeMap::new(),
            seen_at: None,
        }
    }

    /// Updates the state from the peers of all devices. Returns the sessions that are up, and the peers that
    /// still need their second link.
    pub(super) fn update(
        &mut self,
        seen: &[SeenPeer],
    ) -> (BTreeSet<Session>, BTreeSet<(LinkName, PublicKey)>) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.update_at(seen, now, Instant::now())
    }

    /// The time until the first of the second links may be deleted; `None` if none is pending.
    pub(super) fn due(&self) -> Option<Duration> {
        // The end may be in the past, after a long reconciliation; it counts until an observation has seen
        // it.
        let ends = self.first_up.values().map(|since| *since + self.overlap);
        let awaited = ends.filter(|end| self.seen_at.is_some_and(|seen_at| *end > seen_at));
        awaited
            .min()
            .map(|end| end.saturating_duration_since(Instant::now()))
    }

    fn update_at(
        &mut self,
        seen: &[SeenPeer],
        now: Duration,
        instant: Instant,
    ) -> (BTreeSet<Session>, BTreeSet<(LinkName, PublicKey)>) {
        let mut keyed = BTreeMap::new();
        for SeenPeer { session, .. } in seen {
            let Session { device, own, .. } = session;
            if keyed.contains_key(device) {
                continue;
            }
            let known = match self.keyed.remove(device) {
                Some(known) if known.own == *own => known,
                // Its key has changed since then.
                Some(_) => Keyed::new(*own, now, seen, device),
                // It was created since then, with its key.
                None => Keyed::new(*own, self.observed.unwrap_or(now), seen, device),
            };
            keyed.insert(device.clone(), known);
        }
        self.keyed = keyed;
        self.observed = Some(now);
        let up = seen
            .iter()
            .filter(|seen| self.keyed[&seen.session.device].is_up(seen, now));
        let up = up.map(|seen| seen.session.clone()).collect::<BTreeSet<_>>();

        let mut lingering = BTreeSet::new();
        let mut first_up = BTreeMap::new();
        for unit in devices::wireguard_units() {
            let device = devices::next_wireguard_device(unit);
            for SeenPeer { session, .. } in seen.iter().filter(|seen| seen.session.device == device) {
                let first = Session {
                    device: devices::wireguard_device(unit),
                    ..session.clone()
                };
                let key = (device.clone(), session.peer);
                if up.contains(&first) {
                    let since = self.first_up.get(&key).copied().unwrap_or(instant);
                    first_up.insert(key.clone(), since);
                    if instant.duration_since(since) >= self.overlap {
                        continue;
                    }
                }
                lingering.insert(key);
            }
        }
        self.first_up = first_up;
        self.seen_at = Some(instant);
        (up, lingering)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pauses::Pauses;

    fn seen(device: LinkName, own: u8, handshake: Option<u64>, received: u64) -> SeenPeer {
        SeenPeer {
            session: Session {
                device,
                own: PublicKey::from_bytes([own; 32]),
                peer: PublicKey::from_bytes([9; 32]),
            },
            handshake: handshake.map(Duration::from_secs),
            received,
        }
    }

    #[test]
    fn a_handshake_counts_from_when_the_key_is_there_until_its_session_ends() {
        let mut rotation = Rotation::new(Pauses::default().rotation_overlap);
        let mut up = |own, handshake, received, now| {
            let seen = [seen(devices::wireguard_device(0), own, handshake, received)];
            let (up, _) = rotation.update_at(&seen, Duration::from_secs(now), Instant::now());
            !up.is_empty()
        };
        assert!(!up(1, Some(999), 7, 1000), "by which key, nobody knows");
        assert!(up(1, Some(999), 8, 1001), "what came since then came by this one");
        assert!(up(1, Some(1001), 8, 1002));
        assert!(!up(2, Some(1001), 9, 1003), "by the key before");
        assert!(up(2, Some(1004), 9, 1005));
        assert!(!up(2, Some(1004), 9, 1184));
        assert!(!up(2, None, 9, 1185));
    }

    #[test]
    fn a_handshake_on_a_device_that_was_not_there_before_counts() {
        let mut rotation = Rotation::new(Pauses::default().rotation_overlap);
        let at = |seconds| (Duration::from_secs(seconds), Instant::now());
        let (now, instant) = at(1000);
        assert!(rotation.update_at(&[], now, instant).0.is_empty());
        let made = [seen(devices::next_wireguard_device(0), 1, Some(1001), 100)];
        let (now, instant) = at(1002);
        assert_eq!(rotation.update_at(&made, now, instant).0.len(), 1);
    }

    #[test]
    fn the_end_of_a_second_link_is_due_when_the_first_one_is_up_again() {
        let mut rotation = Rotation::new(Pauses::default().rotation_overlap);
        let begin = Instant::now();
        let mut due = |first, after: u64| {
            let seen = [
                seen(devices::wireguard_device(3), 1, first, 0),
                seen(devices::next_wireguard_device(3), 1, Some(1000), 0),
            ];
            let now = Duration::from_secs(1000 + after);
            rotation.update_at(&seen, now, begin + Duration::from_secs(after));
            rotation.due().is_some()
        };
        assert!(!due(None, 1), "the first one is not up yet");
        assert!(due(Some(1001), 1));
        assert!(
            due(Some(1001), 20),
            "also if the observation took so long that it is over now"
        );
        assert!(!due(Some(1001), 21), "it was seen to be over");
    }

    #[test]
    fn a_second_link_stays_until_the_first_one_has_been_up_for_a_while() {
        let mut rotation = Rotation::new(Pauses::default().rotation_overlap);
        let begin = Instant::now();
        let mut lingers = |first: Option<u64>, after: u64| {
            let seen = [
                seen(devices::wireguard_device(3), 1, first, 0),
                seen(devices::next_wireguard_device(3), 1, Some(1000), 0),
            ];
            let now = Duration::from_secs(1000 + after);
            let (_, lingering) = rotation.update_at(&seen, now, begin + Duration::from_secs(after));
            !lingering.is_empty()
        };
        assert!(lingers(None, 0));
        assert!(lingers(None, 100), "however long that takes");
        assert!(lingers(Some(1101), 101));
        assert!(lingers(Some(1101), 120));
        assert!(!lingers(Some(1101), 121));
    }
}
