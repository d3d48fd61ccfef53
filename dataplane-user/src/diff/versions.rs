//! The pins of this version of the map ABI, and older versions: their maps and links are deleted once the
//! programs of this version have taken over.

use crate::model::change::{DeleteVersion, RestorePins};
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    if observed.unpinned && !desired.unpinned {
        set.push(RestorePins);
    }
    for version in observed.older_versions.difference(&desired.older_versions) {
        set.push(DeleteVersion(*version));
    }
}
