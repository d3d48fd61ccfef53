//! Random policy rules.

use std::collections::BTreeSet;

use dataplane_user::model::Rule;
use dataplane_user::model::rule::Mark;
use dataplane_user::net::{Family, LinkName};
use proptest::collection::vec;
use proptest::prelude::*;

/// Up to four rules, many of which are nearly equal.
pub fn rules() -> impl Strategy<Value = BTreeSet<Rule>> {
    let kind = (any::<bool>(), 0u32..3, 0u32..3, any::<bool>());
    let rule = (kind, any::<bool>(), any::<bool>());
    let rule = rule.prop_map(|((ipv6, priority, mark, masked), device, not)| Rule {
        not,
        mark: Mark::new(mark, if masked { 0xff } else { 0 }),
        iif: device.then(|| LinkName::constant("adit0")),
        ..Rule::to_table(if ipv6 { Family::Ipv6 } else { Family::Ipv4 }, priority, 1730)
    });
    vec(rule, 0..=4).prop_map(BTreeSet::from_iter)
}
