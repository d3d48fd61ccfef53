//! Policy rules: what is missing is made, what is ours and not wanted goes.

use crate::model::{Change, ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    let missing = target.rules.difference(&observed.rules);
    set.changes.extend(missing.cloned().map(Change::CreateRule));
    let extra = observed.rules.difference(&target.rules);
    set.changes.extend(extra.cloned().map(Change::DeleteRule));
}
