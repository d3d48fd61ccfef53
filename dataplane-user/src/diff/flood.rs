//! Default destinations of VXLAN devices.

use crate::model::change::{Existence, FloodChange};
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    for (name, wanted) in &desired.flood {
        let found = observed.flood.get(name).cloned().unwrap_or_default();
        for to in wanted.difference(&found) {
            set.push(FloodChange(name.clone(), *to, Existence::Create));
        }
        for to in found.difference(wanted) {
            set.push(FloodChange(name.clone(), *to, Existence::Delete));
        }
    }
}
