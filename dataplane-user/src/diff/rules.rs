//! Policy rules: what is missing is made, what is ours and not wanted goes.

use super::order::{Condition, Needs};
use crate::model::change::{Existence, NetlinkChange};
use crate::model::{ChangeSet, KernelState, Rule};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for rule in target.rules.difference(&observed.rules) {
        set.push(NetlinkChange::Rule(rule.clone(), Existence::Create));
    }
    for rule in observed.rules.difference(&target.rules) {
        set.push(NetlinkChange::Rule(rule.clone(), Existence::Delete));
    }
}

pub(super) fn needs<'a>(rule: &'a Rule, existence: Existence, needs: &mut Needs<'a>) {
    match (existence, &rule.iif) {
        (Existence::Create, None) => {
            needs.requires(Condition::Table(rule.table));
            needs.provides(Condition::RulesMade);
        }
        // It, or the routes beside the new one's table, may still be what leads packets.
        (Existence::Delete, None) => {
            needs.requires(Condition::RulesMade);
            needs.requires(Condition::AllLed);
            needs.provides(Condition::RulesGone);
        }
        (Existence::Create, Some(_)) => needs.provides(Condition::DeviceRules),
        (Existence::Delete, Some(link)) => {
            needs.requires(Condition::DeviceRules);
            needs.requires(Condition::Detached(link));
        }
    }
}
