//! Default destinations of VXLAN devices.

use crate::model::{Change, ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (name, wanted) in &target.flood {
        let found = observed.flood.get(name).cloned().unwrap_or_default();
        let add = wanted.difference(&found);
        set.changes
            .extend(add.map(|&to| Change::AddFlood(name.clone(), to)));
        let extra = found.difference(wanted);
        set.changes
            .extend(extra.map(|&to| Change::DeleteFlood(name.clone(), to)));
    }
}
