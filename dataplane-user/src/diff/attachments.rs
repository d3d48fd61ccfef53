//! Programs on devices: attached, replaced in place, taken off; never taken off to be attached again.

use crate::model::change::{ProgramChange, ProgramOperation};
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    // While an older version's maps are there, a program that is not ours may read them and not the ones that we fill.
    let replace = if observed.older_versions.is_empty() {
        ProgramOperation::Replace
    } else {
        ProgramOperation::TakeOver
    };
    for (key @ (link, hook), wanted) in &target.attachments {
        let operation = match observed.attachments.get(key) {
            None => ProgramOperation::Attach,
            Some(found) if found == wanted => continue,
            Some(_) => replace,
        };
        set.push(ProgramChange(link.clone(), *hook, operation));
    }
    for (link, hook) in observed.attachments.keys() {
        if !target.attachments.contains_key(&(link.clone(), *hook)) {
            let detach = ProgramOperation::Detach;
            set.push(ProgramChange(link.clone(), *hook, detach));
        }
    }
}
