//! Drift: managed objects that something else changed. This module distinguishes drift from changes of the
//! manifests, counts it, and holds back repairs of objects that keep changing. [`crate::diff::repairs`] defines
//! what a repair is.

mod fights;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use self::fights::Fights;
use crate::apply::{ApplyReport, Outcome};
use crate::diff::repairs::{Earlier, Repair, RepairKind, States, repairs};
use crate::limits;
use crate::model::{Change, ChangeSet, KernelState, Located};
use crate::pauses::Pauses;
use crate::resource::{Problem, Reason};

/// The state between reconciliations that distinguishes drift from other changes.
#[derive(Debug)]
pub struct Drift {
    /// The desired state when the node was converged last.
    reached: Option<KernelState>,
    /// The changes since then.
    earlier: Earlier,
    fights: Fights,
    /// Changes that depend on repairs that are held back.
    waiting: Vec<Change>,
    repairs: Repairs,
}

/// All repairs since the agent started.
#[derive(Clone, Debug, Default)]
pub struct Repairs {
    /// The number of repairs, by kind of object.
    pub counts: BTreeMap<RepairKind, u64>,
    /// The last repairs, oldest first.
    pub recent: VecDeque<RecentRepair>,
}

/// A repair that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecentRepair {
    /// The kind of object.
    pub kind: RepairKind,
    /// The object.
    pub object: Located,
    /// The difference that was found, such as `was gone`.
    pub found: String,
}

impl Drift {
    /// Without state yet; the pauses define what a fight is.
    #[must_use]
    pub fn new(pauses: Pauses) -> Drift {
        Drift {
            reached: None,
            earlier: Earlier::default(),
            fights: Fights::new(pauses),
            waiting: Vec::new(),
            repairs: Repairs::default(),
        }
    }

    /// Finds the repairs in a set of changes. Removes from the set those that were made too often and are held
    /// back now, and the changes that depend on them. Returns the other repairs, each with its changes, for
    /// [`Drift::record`] after the set is applied.
    pub fn find_repairs(
        &mut self,
        observed: &KernelState,
        desired: &KernelState,
        set: &mut ChangeSet,
    ) -> Vec<(Repair, Vec<Change>)> {
        let now = Instant::now();
        self.fights.forget(now);
        let found = self.find(observed, desired, &set.changes);
        let changed = found.iter().filter(|repair| !repair.follows);
        changed.for_each(|repair| self.fights.changed(&repair.object, now));
        let (held, mut kept) = self.divide(found, now);
        let waiting = dependents(&held, set);
        // A repair that can't be made completely is found again by a later reconciliation.
        kept.retain(|repair| repair.changes.iter().all(|index| !waiting.contains(index)));
        let of = |repair: &Repair| {
            let indexes = repair.changes.iter();
            indexes.map(|&index| set.changes[index].clone()).collect()
        };
        let changes = kept.iter().map(of).collect::<Vec<_>>();
        self.waiting = remove(&held, &waiting, set);
        if let Some(reached) = &self.reached {
            self.earlier.add(
                &set.changes,
                States {
                    reached,
                    observed,
                    desired,
                },
                &kept,
            );
        }
        kept.into_iter().zip(changes).collect()
    }

    /// Removes held-back repairs, and the changes that depend on them, from the changes that are still to be
    /// made after a reconciliation.
    pub fn skip_held(&mut self, observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
        let found = self.find(observed, desired, &set.changes);
        let (held, _) = self.divide(found, Instant::now());
        self.waiting = remove(&held, &dependents(&held, set), set);
    }

    fn find(&self, observed: &KernelState, desired: &KernelState, changes: &[Change]) -> Vec<Repair> {
        match &self.reached {
            Some(reached) if !changes.is_empty() => repairs(
                changes,
                States {
                    reached,
                    observed,
                    desired,
                },
                &self.earlier,
            ),
            _ => Vec::new(),
        }
    }

    /// The repairs that are held back now, and the others.
    fn divide(&self, found: Vec<Repair>, now: Instant) -> (Vec<Repair>, Vec<Repair>) {
        found
            .into_iter()
            .partition(|repair| self.fights.is_held(&repair.object, now))
    }

    /// Logs and counts the repairs that were made, and returns their numbers by kind. A repair of which a
    /// change failed is found again by the next reconciliation.
    pub fn record(
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
            debug!("restored after the repair that was logged: {repair}");
        }
        for repair in made.iter().take(limits::LOGGED_REPAIRS) {
            warn!(
                kind = repair.kind().name(),
                object = repair.object.to_string(),
                "repaired: {repair}"
            );
        }
        if made.len() > limits::LOGGED_REPAIRS {
            warn!("repaired {} more objects", made.len() - limits::LOGGED_REPAIRS);
        }
        let now = Instant::now();
        let mut numbers = BTreeMap::new();
        for repair in made {
            self.earlier.counted(&repair);
            self.fights.repaired(&repair.object, now);
            *numbers.entry(repair.kind()).or_default() += 1;
            *self.repairs.counts.entry(repair.kind()).or_default() += 1;
            self.repairs.recent.push_back(RecentRepair {
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

    /// Ends a reconciliation towards this desired state; `set` has the changes that are still to be made. If
    /// nothing is left, except for repairs that are held back, the node is converged. Otherwise the remaining
    /// differences may follow from the changes so far.
    pub fn ended(&mut self, observed: &KernelState, desired: KernelState, set: &ChangeSet) {
        if set.is_empty() && self.waiting.is_empty() {
            self.reached = Some(desired);
            self.earlier = Earlier::default();
        } else if let Some(reached) = &self.reached {
            self.earlier.retain(
                &set.changes,
                States {
                    reached,
                    observed,
                    desired: &desired,
                },
            );
        }
    }

    /// A problem for each object that is held back, and one for each change that depends on these objects.
    pub fn problems(&mut self) -> Vec<Problem> {
        let held = self.fights.held(Instant::now());
        let conflicts = held.into_iter().map(|(object, pause)| conflict(object, pause));
        conflicts.chain(self.waiting.iter().map(waiting)).collect()
    }

    /// The time until the next retry of a repair that is held back; `None` if there is none.
    #[must_use]
    pub fn next_retry(&self) -> Option<Duration> {
        self.fights.next_retry(Instant::now())
    }

    /// All repairs since the agent started.
    #[must_use]
    pub fn repairs(&self) -> &Repairs {
        &self.repairs
    }
}

/// The indexes of the changes of repairs.
fn indexes(repairs: &[Repair]) -> BTreeSet<usize> {
    let indexes = repairs.iter().flat_map(|repair| &repair.changes);
    indexes.copied().collect()
}

/// The changes of held-back repairs. Revocations are never held back: whoever adds a peer or a prefix of a peer again
/// and again must not succeed by that.
fn held_changes(held: &[Repair], set: &ChangeSet) -> BTreeSet<usize> {
    let mut held = indexes(held);
    held.retain(|&index| !set.changes[index].is_revocation());
    held
}

/// The changes that depend on held-back repairs, as `apply` would skip them if those failed.
fn dependents(held: &[Repair], set: &ChangeSet) -> BTreeSet<usize> {
    let held = held_changes(held, set);
    let mut broken = BTreeSet::<u32>::new();
    let mut waiting = BTreeSet::new();
    // What a change requires comes before it.
    for (index, needs) in set.dependencies.iter().enumerate() {
        let is_held = held.contains(&index);
        let waits = needs.requires.iter().any(|condition| broken.contains(condition));
        if is_held || waits {
            broken.extend(&needs.provides);
        }
        if waits && !is_held {
            waiting.insert(index);
        }
    }
    waiting
}

/// Removes held-back repairs and the changes that depend on them, and returns the latter.
fn remove(held: &[Repair], waiting: &BTreeSet<usize>, set: &mut ChangeSet) -> Vec<Change> {
    held.iter()
        .for_each(|repair| debug!("not repaired for now: {repair}"));
    let held = held_changes(held, set);
    let removed = waiting.iter().map(|&index| set.changes[index].clone());
    let removed = removed.collect();
    set.retain(|index, _| !held.contains(&index) && !waiting.contains(&index));
    removed
}

fn waiting(change: &Change) -> Problem {
    Problem::warning(
        Reason::Waiting,
        change.located().to_string(),
        format!("waiting for an object that something else keeps changing: {change}"),
        "stop what changes that object, which is in conflict; then the agent makes this change by itself"
            .to_owned(),
    )
}

fn conflict(object: &Located, pause: Duration) -> Problem {
    Problem::error(
        Reason::Conflict,
        object.to_string(),
        format!(
            "repaired {} times within a minute, or changed again soon after a repair: something else keeps changing it \
             (NetworkManager, systemd-networkd, another agent or a script)",
            limits::FIGHT_REPAIRS
        ),
        format!(
            "find out what changes it (`ip monitor`, `adit doctor`) and stop that; the agent restores the object after \
             {} s, then after longer pauses",
            pause.as_secs()
        ),
    )
}
