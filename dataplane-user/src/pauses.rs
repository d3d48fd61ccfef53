//! How long the agent waits before it does something again. Tests shorten these times; operators have no reason to. The defaults and
//! their reasons are in [`limits`].

use std::str::FromStr;
use std::time::Duration;

use crate::limits;

/// The times, each with the name that `adit run --pauses` has for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// `first-retry`: before the first retry after a reconciliation that left something undone.
    pub first_retry: Duration,
    /// `longest-retry`: the longest time between two retries; each is twice as long as the one before.
    pub longest_retry: Duration,
    /// `waiting`: between two looks for namespaces and devices that are not there yet.
    pub waiting: Duration,
    /// `names`: how long the addresses of an endpoint's name are believed.
    pub names: Duration,
    /// `drain`: how long a second link stays after a change of keys, when its peer is up on the first link again.
    pub drain: Duration,
    /// `fight-window`: within which five repairs of an object make a fight, and after which one without repairs is over.
    pub fight_window: Duration,
    /// `first-fight`: how long the object of a fight is left alone first.
    pub first_fight: Duration,
    /// `longest-fight`: the longest such pause; each is twice as long as the one before.
    pub longest_fight: Duration,
}

impl Default for Pauses {
    fn default() -> Pauses {
        Pauses {
            first_retry: limits::FIRST_RETRY,
            longest_retry: limits::LONGEST_RETRY,
            waiting: limits::WAITING,
            names: limits::NAMES_LIFETIME,
            drain: limits::DRAIN,
            fight_window: limits::FIGHT_WINDOW,
            first_fight: limits::FIRST_FIGHT,
            longest_fight: limits::LONGEST_FIGHT,
        }
    }
}

impl Pauses {
    fn fields(&mut self) -> [(&'static str, &mut Duration); 8] {
        [
            ("first-retry", &mut self.first_retry),
            ("longest-retry", &mut self.longest_retry),
            ("waiting", &mut self.waiting),
            ("names", &mut self.names),
            ("drain", &mut self.drain),
            ("fight-window", &mut self.fight_window),
            ("first-fight", &mut self.first_fight),
            ("longest-fight", &mut self.longest_fight),
        ]
    }
}

/// `NAME=MILLISECONDS` and further ones after commas; those that are not named are the default's.
impl FromStr for Pauses {
    type Err = String;

    fn from_str(text: &str) -> Result<Pauses, String> {
        let mut pauses = Pauses::default();
        for pause in text.split(',') {
            let mut fields = pauses.fields();
            let field = pause.split_once('=').and_then(|(name, number)| {
                let (_, field) = fields.iter_mut().find(|(known, _)| *known == name)?;
                Some((field, number.parse().ok()?))
            });
            let Some((field, milliseconds)) = field else {
                let names = fields.map(|(name, _)| name).join(", ");
                return Err(format!(
                    "`{pause}` is no NAME=MILLISECONDS; the names are {names}"
                ));
            };
            **field = Duration::from_millis(milliseconds);
        }
        Ok(pauses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_are_named_change() {
        let changed = "waiting=100,first-fight=7".parse::<Pauses>();
        let expected = Pauses {
            waiting: Duration::from_millis(100),
            first_fight: Duration::from_millis(7),
            ..Pauses::default()
        };
        assert_eq!(changed, Ok(expected));
    }

    #[test]
    fn what_is_none_is_refused_with_all_names() {
        for wrong in [
            "",
            "waiting",
            "waiting=",
            "waiting=-1",
            "sleep=1",
            "names=1,",
            "names=1s",
        ] {
            let error = wrong.parse::<Pauses>().unwrap_err();
            let mut all = Pauses::default();
            let named = all.fields().iter().all(|(name, _)| error.contains(name));
            assert!(named, "{wrong}: {error}");
        }
    }
}
