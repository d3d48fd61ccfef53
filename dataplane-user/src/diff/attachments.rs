//! Programs on devices: attached, replaced in place, taken off; never taken off to be attached again.

use crate::model::{Change, ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (key @ (link, hook), wanted) in &target.attachments {
        match observed.attachments.get(key) {
            None => set.changes.push(Change::Attach(link.clone(), *hook)),
            Some(found) if found == wanted => {}
            Some(_) => set.changes.push(Change::ReplaceProgram(link.clone(), *hook)),
        }
    }
    for (link, hook) in observed.attachments.keys() {
        if !target.attachments.contains_key(&(link.clone(), *hook)) {
            set.changes.push(Change::Detach(link.clone(), *hook));
        }
    }
}
