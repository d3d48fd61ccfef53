//! BPF programs on devices: attached, replaced in place, detached; never detached to be attached again.

use crate::model::change::{ProgramChange, ProgramOperation};
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    // While maps of an older ABI version exist, another program may read those instead of the maps that this
    // agent fills.
    let replace = if observed.older_versions.is_empty() {
        ProgramOperation::Replace
    } else {
        ProgramOperation::TakeOver
    };
    for (key @ (link, hook), wanted) in &desired.attachments {
        let operation = match observed.attachments.get(key) {
            None => ProgramOperation::Attach,
            Some(found) if found == wanted => continue,
            Some(_) => replace,
        };
        set.push(ProgramChange(link.clone(), *hook, operation));
    }
    for (link, hook) in observed.attachments.keys() {
        if !desired.attachments.contains_key(&(link.clone(), *hook)) {
            let detach = ProgramOperation::Detach;
            set.push(ProgramChange(link.clone(), *hook, detach));
        }
    }
}
