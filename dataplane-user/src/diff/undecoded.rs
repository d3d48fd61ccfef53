//! Policy rules that Adit can't decode.
//!
//! The kernel accepts a second, equal rule, so none is created while it is unknown which rules exist. Of most
//! other kinds it refuses to create a second object, which becomes a conflict. A neighbour replaces any other one
//! of its address; only devices of Adit get neighbours, where others have no reason to create permanent ones.

use crate::model::state::RULES;
use crate::model::{ChangeSet, KernelState, Object, Waiting};

/// Removes from the desired state the rules that may exist already.
pub(super) fn exclude(observed: &KernelState, desired: &mut KernelState, set: &mut ChangeSet) {
    if !observed.undecoded.contains_key(RULES) {
        return;
    }
    let unknown = desired.rules.difference(&observed.rules).cloned();
    for rule in unknown.collect::<Vec<_>>() {
        desired.rules.remove(&rule);
        set.waiting.push(Waiting {
            object: Object::Rule(Box::new(rule)).into(),
            what: "it may be one of the rules that can't be decoded".to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::diff;
    use crate::model::{Rule, Undecoded};
    use crate::net::Family;

    #[test]
    fn no_rule_is_created_while_some_cannot_be_decoded() {
        let known = Rule::to_table(Family::Ipv4, 100, 100);
        let unknown = Rule::to_table(Family::Ipv4, 101, 100);
        let desired = KernelState {
            rules: [known.clone(), unknown.clone()].into(),
            ..KernelState::default()
        };
        let mut observed = KernelState {
            rules: [known].into(),
            ..KernelState::default()
        };
        assert_eq!(diff(&observed, &desired).changes.len(), 1);

        let some = Undecoded {
            count: 1,
            first: "too short".to_owned(),
        };
        observed.undecoded.insert(RULES, some);
        let set = diff(&observed, &desired);
        assert_eq!(set.changes, []);
        assert_eq!(set.waiting[0].object, Object::Rule(Box::new(unknown)).into());
    }
}
