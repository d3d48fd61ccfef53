//! How often which object was repaired, and how long it is left alone where that was too often.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::limits;
use crate::model::Located;
use crate::pauses::Pauses;

/// By object.
#[derive(Debug)]
pub(super) struct Fights {
    pauses: Pauses,
    known: BTreeMap<Located, Fight>,
}

#[derive(Debug, Default)]
struct Fight {
    /// The repairs within the window.
    repairs: VecDeque<Instant>,
    /// The pauses so far.
    pauses: u32,
    /// Until when it is left alone.
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

    /// Whether nothing happened for as long as the window is.
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

    /// An object was found broken, and may be repaired if that was not too often.
    pub(super) fn broken(&mut self, object: &Located, now: Instant) {
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
        // After a pause one more repair is tried; that it did not last says that nothing has changed.
        let fell_again = fight.pauses > 0 && !fight.repairs.is_empty();
        if fight.repairs.len() >= limits::FIGHT_REPAIRS || fell_again {
            fight.pauses += 1;
            fight.until = Some(now + fight.pause(&self.pauses));
            fight.repairs.clear();
        }
    }

    /// Forgets what is over.
    pub(super) fn forget(&mut self, now: Instant) {
        let window = self.pauses.fight_window;
        self.known.retain(|_, fight| !fight.is_over(window, now));
    }

    /// An object was repaired.
    pub(super) fn mended(&mut self, object: &Located, now: Instant) {
        let fight = self.known.entry(object.clone()).or_default();
        fight.repairs.push_back(now);
    }

    pub(super) fn is_held(&self, object: &Located, now: Instant) -> bool {
        self.known.get(object).is_some_and(|fight| fight.is_held(now))
    }

    /// What is left alone now, and how long each pause is.
    pub(super) fn held(&self, now: Instant) -> Vec<(&Located, Duration)> {
        let held = self.known.iter().filter(|(_, fight)| fight.is_held(now));
        held.map(|(object, fight)| (object, fight.pause(&self.pauses)))
            .collect()
    }

    /// The time until the first pause ends.
    pub(super) fn next_try(&self, now: Instant) -> Option<Duration> {
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

    /// Breaks and repairs an object, where that is allowed; whether it was.
    fn fall(fights: &mut Fights, now: Instant) -> bool {
        fights.broken(&object(), now);
        if fights.is_held(&object(), now) {
            return false;
        }
        fights.mended(&object(), now);
        true
    }

    #[test]
    fn what_falls_too_often_is_left_alone_ever_longer_but_not_for_ever() {
        let start = Instant::now();
        let second = |number: u64| start + Duration::from_secs(number);
        let mut fights = Fights::new(Pauses::default());
        let made = (0..1000).filter(|&number| fall(&mut fights, second(number)));
        let made: Vec<u64> = made.collect();
        assert_eq!(made[..6], [0, 1, 2, 3, 4, 10]);
        let pauses: Vec<u64> = made[5..].windows(2).map(|pair| pair[1] - pair[0]).collect();
        // The second in which it falls again, and the pause.
        assert_eq!(pauses, [11, 21, 41, 81, 161, 301, 301]);
    }

    #[test]
    fn what_falls_now_and_then_is_always_repaired() {
        let start = Instant::now();
        let mut fights = Fights::new(Pauses::default());
        for number in 0..100 {
            assert!(fall(&mut fights, start + Duration::from_secs(13 * number)));
        }
    }

    #[test]
    fn a_fight_that_is_over_is_forgotten() {
        let start = Instant::now();
        let second = |number: u64| start + Duration::from_secs(number);
        let mut fights = Fights::new(Pauses::default());
        let made = (0..6).filter(|&number| fall(&mut fights, second(number))).count();
        assert_eq!(made, limits::FIGHT_REPAIRS);
        assert_eq!(
            fights.held(second(6)),
            [(&object(), Pauses::default().first_fight)]
        );
        assert_eq!(fights.next_try(second(6)), Some(Duration::from_secs(4)));
        assert_eq!(fights.next_try(second(10)), None);
        assert!(fall(&mut fights, second(11)));
        let made = (100..105)
            .filter(|&number| fall(&mut fights, second(number)))
            .count();
        assert_eq!(made, limits::FIGHT_REPAIRS, "as if nothing had been");
    }
}
