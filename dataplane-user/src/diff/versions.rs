//! Older versions of the map ABI: what they have left goes once our programs have taken over.

use crate::model::{Change, ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    let gone = observed.older_versions.difference(&target.older_versions);
    set.changes.extend(gone.copied().map(Change::DeleteVersion));
}
