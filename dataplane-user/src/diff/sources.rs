//! Known sources: a source is its identity, so one that stays is never written again, and keeps its counters.

use crate::model::change::{BpfChange, Existence};
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for source in target.sources.difference(&observed.sources) {
        set.push(BpfChange::Source(*source, Existence::Create));
    }
    for source in observed.sources.difference(&target.sources) {
        set.push(BpfChange::Source(*source, Existence::Delete));
    }
}
