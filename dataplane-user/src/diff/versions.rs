//! Older versions of the map ABI: their maps and links are deleted once the programs of this version have
//! taken over.

use crate::model::change::DeleteVersion;
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    for version in observed.older_versions.difference(&desired.older_versions) {
        set.push(DeleteVersion(*version));
    }
}
