//! Intervals and delays of the agent. Tests shorten them; operators have no reason to. [`limits`] has the
//! defaults with their reasons.

use std::str::FromStr;
use std::time::Duration;

use crate::limits;

/// The times, each with its name for `adit run --pauses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// `first-retry`: delay of the first retry after a failed reconciliation.
    pub first_retry: Duration,
    /// `longest-retry`: the longest delay of a retry; each is twice as long as the one before.
    pub longest_retry: Duration,
    /// `waiting`: interval of checks for namespaces and devices that do not exist yet.
    pub waiting: Duration,
    /// `names`: how long the addresses of a name in an endpoint stay valid.
    pub names: Duration,
    /// `rotation-overlap`: how long a second link stays after a key rotation, once the session on the first link is up
    /// again.
    pub rotation_overlap: Duration,
    /// `fight-window`: five repairs of an object within this time are a fight; without repairs for this time
    /// it is over.
    pub fight_window: Duration,
    /// `first-fight`: how long the object of a fight is not repaired at first.
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
            rotation_overlap: limits::ROTATION_OVERLAP,
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
            ("rotation-overlap", &mut self.rotation_overlap),
            ("fight-window", &mut self.fight_window),
            ("first-fight", &mut self.first_fight),
            ("longest-fight", &mut self.longest_fight),
        ]
    }
}

/// One or more `NAME=MILLISECONDS`, separated by commas; the others keep their defaults.
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
                    "expected NAME=MILLISECONDS, found `{pause}`; the names are {names}"
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
    fn named_pauses_change() {
        let changed = "waiting=100,first-fight=7".parse::<Pauses>();
        let expected = Pauses {
            waiting: Duration::from_millis(100),
            first_fight: Duration::from_millis(7),
            ..Pauses::default()
        };
        assert_eq!(changed, Ok(expected));
    }

    #[test]
    fn an_invalid_text_is_rejected_with_all_names() {
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
