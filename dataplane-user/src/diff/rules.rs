//! Policy rules: what is missing is made, what is ours and not wanted goes.

use crate::model::change::{Existence, NetlinkChange};
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for rule in target.rules.difference(&observed.rules) {
        set.push(NetlinkChange::Rule(rule.clone(), Existence::Create));
    }
    for rule in observed.rules.difference(&target.rules) {
        set.push(NetlinkChange::Rule(rule.clone(), Existence::Delete));
    }
}
