//! Known sources: a source is its identity, so one that stays is never written again, and keeps its counters.

use crate::model::{Change, ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    let new = target.sources.difference(&observed.sources);
    set.changes.extend(new.copied().map(Change::PutSource));
    let gone = observed.sources.difference(&target.sources);
    set.changes.extend(gone.copied().map(Change::DeleteSource));
}
