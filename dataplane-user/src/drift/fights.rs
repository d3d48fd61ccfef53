//! Fights: how often each object was repaired, and how long it is not repaired after too many repairs.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::limits;
use crate::model::Located;
use crate::pauses::Pauses;

/// The fights of all objects.
#[derive(Debug)]
pub(super) struct Fights {
    pauses: Pauses,
    known: BTreeMap<Located, Fight>,
}

#[derive(Debug, Default)]
struct Fight {
    /// The repairs within the window.
    repairs: VecDeque<Instant>,
    /// The number of pauses so far.
    pauses: u32,
    /// The end of the current or last pause.
    until: Option<Instant>,
}

impl Fight {
    fn pause(&self, pauses: &Pauses) -> Duration {
        let doublings = self.pauses.saturating_sub(1).min(16);
        pauses
            .first_fight
            .saturating_mul(1 << doublings)
            .min(pauses.longest_fight)
    }

    fn is_held(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Whether nothing happened for the length of the window.
    fn is_over(&self, window: Duration, now: Instant) -> bool {
        let last = self.repairs.back().copied().max(self.until);
        last.is_none_or(|last| now.saturating_duration_since(last) >= window)
    }
}

impl Fights {
    pub(super) fn new(pauses: Pauses) -> Fights {
        Fights {
            pauses,
            known: BTreeMap::new(),
        }
    }

    /// Something else changed an object; begins a pause if it was repaired too often.
    pub(super) fn changed(&mut self, object: &Located, now: Instant) {
        let Some(fight) = self.known.get_mut(object) else {
            return;
        };
        let window = self.pauses.fight_window;
        let recent = |at: &Instant| now.saturating_duration_since(*at) < window;
        fight.repairs.retain(recent);
        if fight.is_held(now) {
            return;
        }
        if fight.is_over(window, now) {
            fight.pauses = 0;
        }
        // After a pause one repair is tried. If it did not last, the fight continues.
        let changed_again = fight.pauses > 0 && !fight.repairs.is_empty();
        if fight.repairs.len() >= limits::FIGHT_REPAIRS || changed_again {
            fight.pauses += 1;
            fight.until = Some(now + fight.pause(&self.pauses));
            fight.repairs.clear();
        }
    }

    /// Forgets fights that are over.
    pub(super) fn forget(&mut self, now: Instant) {
        let window = self.pauses.fight_window;
        self.known.retain(|_, fight| !fight.is_over(window, now));
    }

    /// Records the repair of an object.
    pub(super) fn repaired(&mut self, object: &Located, now: Instant) {
        let fight = self.known.entry(object.clone()).or_default();
        fight.repairs.push_back(now);
    }

    pub(super) fn is_held(&self, object: &Located, now: Instant) -> bool {
        self.known.get(object).is_some_and(|fight| fight.is_held(now))
    }

    /// The objects that are not repaired now, and the length of each pause.
    pub(super) fn held(&self, now: Instant) -> Vec<(&Located, Duration)> {
        let held = self.known.iter().filter(|(_, fight)| fight.is_held(now));
        held.map(|(object, fight)| (object, fight.pause(&self.pauses)))
            .collect()
    }

    /// The time until the first pause ends.
    pub(super) fn next_retry(&self, now: Instant) -> Option<Duration> {
        let ends = self.known.values().filter(|fight| fight.is_held(now));
        ends.filter_map(|fight| fight.until)
            .min()
            .map(|until| until - now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Object;
    use crate::net::LinkName;

    fn object() -> Located {
        Object::Link(LinkName::constant("adit0")).into()
    }

    /// Changes an object and repairs it, if that is allowed; returns whether it was.
    fn change(fights: &mut Fights, now: Instant) -> bool {
        fights.changed(&object(), now);
        if fights.is_held(&object(), now) {
            return false;
        }
        fights.repaired(&object(), now);
        true
    }

    #[test]
    fn an_object_that_changes_too_often_is_paused_longer_each_time_but_not_for_ever() {
        let start = Instant::now();
        let second = |number: u64| start + Duration::from_secs(number);
        let mut fights = Fights::new(Pauses::default());
        let made = (0..1000).filter(|&number| change(&mut fights, second(number)));
        let made: Vec<u64> = made.collect();
        assert_eq!(made[..6], [0, 1, 2, 3, 4, 10]);
        let pauses: Vec<u64> = made[5..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        // The second until the object changes again, and the pause.
        assert_eq!(pauses, [11, 21, 41, 81, 161, 301, 301]);
    }

    #[test]
    fn an_object_that_changes_now_and_then_is_always_repaired() {
        let start = Instant::now();
        let mut fights = Fights::new(Pauses::default());
        for number in 0..100 {
            assert!(change(&mut fights, start + Duration::from_secs(13 * number)));
        }
    }

    #[test]
    fn a_fight_that_is_over_is_forgotten() {
        let start = Instant::now();
        let second = |number: u64| start + Duration::from_secs(number);
        let mut fights = Fights::new(Pauses::default());
        let made = (0..6)
            .filter(|&number| change(&mut fights, second(number)))
            .count();
        assert_eq!(made, limits::FIGHT_REPAIRS);
        assert_eq!(
            fights.held(second(6)),
            [(&object(), Pauses::default().first_fight)]
        );
        assert_eq!(fights.next_retry(second(6)), Some(Duration::from_secs(4)));
        assert_eq!(fights.next_retry(second(10)), None);
        assert!(change(&mut fights, second(11)));
        let made = (100..105)
            .filter(|&number| change(&mut fights, second(number)))
            .count();
        assert_eq!(made, limits::FIGHT_REPAIRS, "as if nothing had been");
    }
}
