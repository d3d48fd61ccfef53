//! The changes of one reconciliation.

use super::{Action, Change, Located};
use crate::net::{LinkName, Namespace};

/// An object that Adit does not manage has the name or position of a desired one. Adit does not change it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The desired object.
    pub object: Located,
    /// What exists already, in the syntax of `ip`.
    pub found: String,
    /// The name of the existing device, if it differs from the desired one, and the unique property that both
    /// need.
    pub holder: Option<(LinkName, String)>,
}

/// The changes that lead from one state to another, in an order in which no step interrupts traffic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// The dependencies of each change, by the same index; none for changes beyond its length.
    pub dependencies: Vec<Dependencies>,
    /// Objects that Adit does not change, because something else has their name or position.
    pub conflicts: Vec<Conflict>,
    /// Objects that can't be created yet.
    pub waiting: Vec<Waiting>,
}

/// What a change depends on and what depends on it, by the numbers of conditions in its set. A condition
/// holds once all changes that provide it are executed, and is broken when one of them fails or is skipped.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Conditions without which the change is skipped.
    pub requires: Vec<u32>,
    /// Conditions that it provides.
    pub provides: Vec<u32>,
}

/// A desired object that waits for something that Adit does not create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// The waiting object.
    pub object: Located,
    /// What it waits for, as text that follows "waiting for".
    pub what: String,
}

impl ChangeSet {
    /// Adds a change in the agent's own namespace.
    pub fn push(&mut self, action: impl Into<Action>) {
        self.changes.push(Change::from(action));
    }

    /// Adds the changes of another namespace; everything in `other` concerns that namespace.
    pub fn extend_from(&mut self, namespace: &Namespace, other: ChangeSet) {
        let there = || Some(namespace.clone());
        self.changes
            .extend(other.changes.into_iter().map(|change| Change {
                namespace: there(),
                ..change
            }));
        self.conflicts
            .extend(other.conflicts.into_iter().map(|conflict| Conflict {
                object: conflict.object.object.at(there()),
                ..conflict
            }));
        self.waiting
            .extend(other.waiting.into_iter().map(|waiting| Waiting {
                object: waiting.object.object.at(there()),
                ..waiting
            }));
    }

    /// Only some of the changes, without conflicts and waiting objects.
    #[must_use]
    pub fn only(self, some: impl Fn(&Change) -> bool) -> ChangeSet {
        let mut set = ChangeSet {
            changes: self.changes,
            dependencies: self.dependencies,
            ..ChangeSet::default()
        };
        set.retain(|_, change| some(change));
        set
    }

    /// Keeps the changes for which the predicate is true; it gets the index of each change.
    pub fn retain(&mut self, mut stays: impl FnMut(usize, &Change) -> bool) {
        let mut dependencies = std::mem::take(&mut self.dependencies).into_iter();
        let mut index = 0;
        self.changes.retain(|change| {
            let of_change = dependencies.next();
            let stays = stays(index, change);
            index += 1;
            if stays {
                self.dependencies.extend(of_change);
            }
            stays
        });
    }

    /// Whether there are no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
