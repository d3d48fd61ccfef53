//! What others changed of ours: told apart from what we want otherwise, counted, and not fought over for ever.

mod fights;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use self::fights::Fights;
use crate::apply::{ApplyReport, Outcome};
use crate::diff::repairs::{Earlier, Repair, RepairKind, repairs};
use crate::limits;
use crate::model::{Change, ChangeSet, KernelState, Located};
use crate::pauses::Pauses;
use crate::resource::{Problem, Reason};

/// What is remembered between two passes to know drift by.
#[derive(Debug)]
pub struct Drift {
    /// What the kernel was led to last.
    reached: Option<KernelState>,
    /// What was changed since then.
    earlier: Earlier,
    fights: Fights,
    repairs: Repairs,
}

/// What something else changed and the agent restored, since it started.
#[derive(Clone, Debug, Default)]
pub struct Repairs {
    /// How many, by kind of object.
    pub counts: BTreeMap<RepairKind, u64>,
    /// The last ones, oldest first.
    pub recent: VecDeque<Made>,
}

/// A repair that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// The kind of object.
    pub kind: RepairKind,
    /// The object.
    pub object: Located,
    /// What was found: `was gone`.
    pub found: String,
}

impl Drift {
    /// Remembers nothing yet; the pauses say what a fight is.
    #[must_use]
    pub fn new(pauses: Pauses) -> Drift {
        Drift {
            reached: None,
            earlier: Earlier::default(),
            fights: Fights::new(pauses),
            repairs: Repairs::default(),
        }
    }

    /// Finds the repairs in a set of changes, and takes those out of it that are not made now because they were made too
    /// often. What is returned is to be given to [`Drift::made`] when the rest was applied.
    pub fn sort_out(
        &mut self,
        observed: &KernelState,
        target: &KernelState,
        set: &mut ChangeSet,
    ) -> Vec<(Repair, Vec<Change>)> {
        let now = Instant::now();
        self.fights.forget(now);
        let found = self.find(observed, target, &set.changes);
        let broken = found.iter().filter(|repair| !repair.follows);
        broken.for_each(|repair| self.fights.broken(&repair.object, now));
        let (held, kept) = self.divide(found, now);
        let of = |repair: &Repair| {
            let places = repair.changes.iter();
            places.map(|&place| set.changes[place].clone()).collect()
        };
        let changes = kept.iter().map(of).collect::<Vec<_>>();
        take_out(&held, set);
        if let Some(reached) = &self.reached {
            self.earlier.add(&set.changes, observed, (reached, target), &kept);
        }
        kept.into_iter().zip(changes).collect()
    }

    /// Takes the same out of what is left after a pass.
    pub fn leave_out(&self, observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
        let found = self.find(observed, target, &set.changes);
        take_out(&self.divide(found, Instant::now()).0, set);
    }

    fn find(&self, observed: &KernelState, target: &KernelState, changes: &[Change]) -> Vec<Repair> {
        match &self.reached {
            Some(reached) if !changes.is_empty() => {
                repairs(changes, observed, (reached, target), &self.earlier)
            }
            _ => Vec::new(),
        }
    }

    /// Those that are left alone now, and the others.
    fn divide(&self, found: Vec<Repair>, now: Instant) -> (Vec<Repair>, Vec<Repair>) {
        found
            .into_iter()
            .partition(|repair| self.fights.is_held(&repair.object, now))
    }

    /// Logs and counts the repairs that were made; the numbers by kind. One of which something failed is found again by
    /// the next pass.
    pub fn made(
        &mut self,
        repairs: Vec<(Repair, Vec<Change>)>,
        report: &ApplyReport,
    ) -> BTreeMap<RepairKind, u64> {
        let is_done = |outcome: &Outcome| matches!(outcome, Outcome::Done);
        let mut undone: BTreeMap<Located, Vec<&Change>> = BTreeMap::new();
        for (change, _) in report.outcomes.iter().filter(|(_, outcome)| !is_done(outcome)) {
            undone.entry(change.located()).or_default().push(change);
        }
        let is_undone = |change: &Change| {
            let of_object = undone.get(&change.located());
            of_object.is_some_and(|undone| undone.contains(&change))
        };
        let failed = |changes: &[Change]| !undone.is_empty() && changes.iter().any(is_undone);
        let made = repairs.into_iter().filter(|(_, changes)| !failed(changes));
        let (later, made): (Vec<_>, Vec<_>) =
            made.map(|(repair, _)| repair).partition(|repair| repair.follows);
        for repair in later {
            debug!("returned too, after the repair that was told of: {repair}");
        }
        for repair in made.iter().take(limits::LOGGED_REPAIRS) {
            warn!(
                kind = repair.kind().name(),
                object = repair.object.to_string(),
                "repaired: {repair}"
            );
        }
        if made.len() > limits::LOGGED_REPAIRS {
            warn!("repaired {} objects more", made.len() - limits::LOGGED_REPAIRS);
        }
        let now = Instant::now();
        let mut numbers = BTreeMap::new();
        for repair in made {
            self.earlier.counted(&repair);
            self.fights.mended(&repair.object, now);
            *numbers.entry(repair.kind()).or_default() += 1;
            *self.repairs.counts.entry(repair.kind()).or_default() += 1;
            self.repairs.recent.push_back(Made {
                kind: repair.kind(),
                object: repair.object,
                found: repair.found,
            });
        }
        let old = self
            .repairs
            .recent
            .len()
            .saturating_sub(limits::REMEMBERED_REPAIRS);
        self.repairs.recent.drain(..old);
        numbers
    }

    /// The kernel holds this target now, but for what is left alone.
    pub fn reached(&mut self, target: KernelState) {
        self.reached = Some(target);
        self.earlier = Earlier::default();
    }

    /// The kernel still lacks something: what follows from the changes so far, perhaps.
    pub fn missed(&mut self, observed: &KernelState, target: &KernelState, set: &ChangeSet) {
        if let Some(reached) = &self.reached {
            self.earlier.retain(&set.changes, observed, (reached, target));
        }
    }

    /// What is fought over.
    pub fn problems(&mut self) -> Vec<Problem> {
        let held = self.fights.held(Instant::now());
        held.into_iter()
            .map(|(object, pause)| conflict(object, pause))
            .collect()
    }

    /// When something that is left alone shall be tried again.
    #[must_use]
    pub fn next_try(&self) -> Option<Duration> {
        self.fights.next_try(Instant::now())
    }

    /// What was restored since the agent started.
    #[must_use]
    pub fn repairs(&self) -> &Repairs {
        &self.repairs
    }
}

fn take_out(held: &[Repair], set: &mut ChangeSet) {
    let places: BTreeSet<usize> = held
        .iter()
        .flat_map(|repair| repair.changes.iter().copied())
        .collect();
    if places.is_empty() {
        return;
    }
    held.iter()
        .for_each(|repair| debug!("left as it is for now: {repair}"));
    set.retain(|place, _| !places.contains(&place));
}

fn conflict(object: &Located, pause: Duration) -> Problem {
    Problem::error(
        Reason::Conflict,
        object.to_string(),
        format!(
            "it was repaired {} times within a minute or fell again soon after: something else keeps changing it \
             (NetworkManager, systemd-networkd, another agent or a script)",
            limits::FIGHT_REPAIRS
        ),
        format!(
            "find out who does (`ip monitor`, `adit doctor`) and tell it to leave Adit's objects alone; it is tried again \
             every {} s, ever more rarely",
            pause.as_secs()
        ),
    )
}
