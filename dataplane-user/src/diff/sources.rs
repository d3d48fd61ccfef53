//! Known sources: a source is its identity, so one that stays is never written again, and keeps its counters.

use super::order::{Around, Condition, Needs};
use crate::model::change::{BpfChange, Existence};
use crate::model::{ChangeSet, KernelState, Source};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for source in target.sources.difference(&observed.sources) {
        set.push(BpfChange::Source(*source, Existence::Create));
    }
    for source in observed.sources.difference(&target.sources) {
        set.push(BpfChange::Source(*source, Existence::Delete));
    }
}

/// What was sent to somebody who is named no more waits for nothing.
pub(super) fn needs<'a>(source: &'a Source, existence: Existence, around: Around<'a>, needs: &mut Needs<'a>) {
    if existence == Existence::Delete && around.named.addresses.contains(&source.address) {
        needs.requires(Condition::SourceUnused(source.address));
    }
}
