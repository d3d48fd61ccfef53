//! Changes that belong together: those of a pass.

use super::{Action, Change, Located};
use crate::net::{LinkName, Namespace};

/// Something that is not ours stands where ours should; it is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Where.
    pub object: Located,
    /// What stands there, in the words of `ip`.
    pub found: String,
    /// The device that is found, where it has another name, and what it has that only one can have.
    pub holder: Option<(LinkName, String)>,
}

/// The changes that lead from one state to another, in an order in which no step opens a hole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// In order.
    pub changes: Vec<Change>,
    /// Of each change what it depends on, and what depends on it; nothing of a change that has no place here.
    pub dependencies: Vec<Dependencies>,
    /// What is left alone.
    pub conflicts: Vec<Conflict>,
    /// What can't be made yet.
    pub waiting: Vec<Waiting>,
}

/// What a change depends on and what depends on it, by the numbers of conditions in its set. A condition holds once all changes that
/// provide it are made, and is broken when one of them fails or is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dependencies {
    /// Conditions without which the change is left out.
    pub requires: Vec<u32>,
    /// Conditions that it provides.
    pub provides: Vec<u32>,
}

/// Something that waits for something else to be there; nobody says when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What waits.
    pub object: Located,
    /// What it waits for, in words.
    pub what: String,
}

impl ChangeSet {
    /// Adds a change in the agent's own namespace.
    pub fn push(&mut self, action: impl Into<Action>) {
        self.changes.push(Change::from(action));
    }

    /// Adds what is to be done in another namespace: all that `other` says is about that one.
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

    /// Some of the changes, and nothing else.
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

    /// Keeps those changes of which, with their numbers, this is true.
    pub fn retain(&mut self, mut stays: impl FnMut(usize, &Change) -> bool) {
        let mut dependencies = std::mem::take(&mut self.dependencies).into_iter();
        let mut number = 0;
        self.changes.retain(|change| {
            let of_change = dependencies.next();
            let stays = stays(number, change);
            number += 1;
            if stays {
                self.dependencies.extend(of_change);
            }
            stays
        });
    }

    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}
