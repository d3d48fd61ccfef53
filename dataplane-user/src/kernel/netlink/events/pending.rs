//! Received events that were not reported yet, and whether they still require a reconciliation.

use tokio::time::Instant;

use super::Woken;
use super::interest::{Interest, Matter};
use crate::limits;

/// The content of a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) own: bool,
    pub(super) paths: bool,
    pub(super) lost: bool,
}

/// Received events that were not reported yet: when the last one arrived, by what it matters for.
pub(super) struct Pending {
    first: Instant,
    last: Instant,
    own: Option<Instant>,
    paths: Option<Instant>,
    lost: bool,
    put_off: Option<Instant>,
}

impl Pending {
    pub(super) fn new() -> Pending {
        let now = Instant::now();
        Pending {
            first: now,
            last: now,
            own: None,
            paths: None,
            lost: false,
            put_off: None,
        }
    }

    pub(super) fn add(&mut self, heard: Heard) {
        self.last = Instant::now();
        self.own = if heard.own { Some(self.last) } else { self.own };
        self.paths = if heard.paths { Some(self.last) } else { self.paths };
        self.lost |= heard.lost;
    }

    pub(super) fn due(&self) -> Instant {
        self.put_off
            .unwrap_or((self.last + limits::EVENTS_QUIET).min(self.first + limits::EVENTS_LATEST))
    }

    /// Extends the waiting time.
    pub(super) fn put_off(&mut self) {
        self.put_off = Some(Instant::now() + limits::EVENTS_QUIET);
    }

    /// Whether there are events that no reconciliation has covered.
    pub(super) fn woken(&self, interest: &Interest) -> Option<Woken> {
        let unseen =
            |matter, heard: Option<Instant>| heard.is_some_and(|heard| !interest.has_seen(matter, heard));
        if self.lost {
            return Some(Woken::Lost);
        }
        (unseen(Matter::Own, self.own) || unseen(Matter::Paths, self.paths)).then_some(Woken::Changed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::super::interest::UnderlayAddresses;
    use super::*;

    fn heard(own: bool, paths: bool, lost: bool) -> Pending {
        let mut pending = Pending::new();
        pending.add(Heard { own, paths, lost });
        pending
    }

    /// A moment that differs from all others.
    fn next() -> Instant {
        std::thread::sleep(Duration::from_micros(1));
        Instant::now()
    }

    #[test]
    fn an_observation_has_seen_what_was_heard_before_it_and_facts_what_was_heard_before_them() {
        let mut interest = Interest::default();
        let none = BTreeSet::new();
        let nobody = UnderlayAddresses {
            peers: &none,
            local: &none,
        };
        interest.gathered(&[], &BTreeSet::new(), nobody, next());
        let (own, paths, lost) = (
            heard(true, false, false),
            heard(true, true, false),
            heard(true, false, true),
        );
        assert_eq!(own.woken(&interest), Some(Woken::Changed));
        interest.observed(&[], next());
        assert_eq!(own.woken(&interest), None);
        assert_eq!(paths.woken(&interest), Some(Woken::Changed));
        assert_eq!(lost.woken(&interest), Some(Woken::Lost));
        interest.gathered(&[], &BTreeSet::new(), nobody, next());
        assert_eq!(paths.woken(&interest), None);
        assert_eq!(heard(true, false, false).woken(&interest), Some(Woken::Changed));
    }

    #[test]
    fn changes_last_until_the_next_observation() {
        let mut interest = Interest::default();
        assert!(!interest.is_changing());
        interest.changing(next());
        assert!(interest.is_changing());
        interest.observed(&[], next());
        assert!(!interest.is_changing());
    }
}
