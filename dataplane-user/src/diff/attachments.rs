//! Programs on devices: attached, replaced in place, taken off; never taken off to be attached again.

use crate::model::{Change, ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    // While an older version's maps are there, a program that is not ours may read them and not the ones that we fill.
    let replace = if observed.older_versions.is_empty() {
        Change::ReplaceProgram
    } else {
        Change::TakeOverProgram
    };
    for (key @ (link, hook), wanted) in &target.attachments {
        match observed.attachments.get(key) {
            None => set.changes.push(Change::Attach(link.clone(), *hook)),
            Some(found) if found == wanted => {}
            Some(_) => set.changes.push(replace(link.clone(), *hook)),
        }
    }
    for (link, hook) in observed.attachments.keys() {
        if !target.attachments.contains_key(&(link.clone(), *hook)) {
            set.changes.push(Change::Detach(link.clone(), *hook));
        }
    }
}
