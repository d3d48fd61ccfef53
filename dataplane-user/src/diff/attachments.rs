//! Programs on devices: attached, replaced in place, taken off; never taken off to be attached again.

use super::order::{Condition, Needs};
use crate::model::change::{BpfChange, ProgramOperation};
use crate::model::{ChangeSet, KernelState};
use crate::net::LinkName;

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
        set.push(BpfChange::Program(link.clone(), *hook, operation));
    }
    for (link, hook) in observed.attachments.keys() {
        if !target.attachments.contains_key(&(link.clone(), *hook)) {
            let detach = ProgramOperation::Detach;
            set.push(BpfChange::Program(link.clone(), *hook, detach));
        }
    }
}

pub(super) fn needs<'a>(link: &'a LinkName, operation: ProgramOperation, needs: &mut Needs<'a>) {
    match operation {
        ProgramOperation::Attach => {
            needs.requires(Condition::Link(link));
            needs.provides(Condition::Ready(link));
            needs.provides(Condition::Up(link));
            needs.provides(Condition::Maps);
        }
        ProgramOperation::Replace => needs.provides(Condition::TakenOver),
        // The older version's maps are complete, ours perhaps not.
        ProgramOperation::TakeOver => {
            needs.requires(Condition::Maps);
            needs.provides(Condition::TakenOver);
        }
        ProgramOperation::Detach => {
            needs.requires(Condition::LinkUnused(link));
            needs.provides(Condition::Detached(link));
            needs.provides(Condition::ProgramsGone);
        }
    }
}
