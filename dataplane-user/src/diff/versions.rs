//! Older versions of the map ABI: what they have left goes once our programs have taken over.

use super::order::{Condition, Needs};
use crate::model::change::BpfChange;
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for version in observed.older_versions.difference(&target.older_versions) {
        set.push(BpfChange::DeleteVersion(*version));
    }
}

pub(super) fn needs(needs: &mut Needs<'_>) {
    // Its program may still be the one that runs.
    needs.requires(Condition::Maps);
    needs.requires(Condition::TakenOver);
    needs.requires(Condition::ProgramsGone);
}
