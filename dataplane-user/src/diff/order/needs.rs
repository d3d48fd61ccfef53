//! The dependencies of the changes of a set, with numbered conditions.

use std::collections::{BTreeMap, BTreeSet};

use super::States;
use crate::model::change::Dependencies;
use crate::model::order::{Around, Condition, Detour, Needs, Nets};
use crate::model::{Change, KernelState};
use crate::net::Namespace;

/// The conditions that each change requires and provides, without conditions that no change provides; and for
/// each condition whether it is [`Condition::SlotFree`].
pub(super) fn of_changes(
    changes: &[Change],
    States {
        before,
        observed,
        desired,
    }: States<'_>,
    detours: &BTreeSet<Detour>,
) -> (Vec<Dependencies>, Vec<bool>) {
    let empty = KernelState::default();
    let mut nets: BTreeMap<Option<&Namespace>, Nets> = BTreeMap::new();
    for change in changes {
        let namespace = change.namespace.as_ref();
        let there = desired.at(namespace).unwrap_or(&empty);
        let found = before.at(namespace).unwrap_or(&empty);
        let nets = nets.entry(namespace).or_insert_with(|| Nets::of(found, there));
        nets.add(&change.action, there);
    }
    let mut numbers = BTreeMap::new();
    let mut needs = Vec::with_capacity(changes.len());
    for change in changes {
        let namespace = change.namespace.as_ref();
        let around = Around {
            namespace,
            before: before.at(namespace).unwrap_or(&empty),
            observed: observed.at(namespace).unwrap_or(&empty),
            desired: desired.at(namespace).unwrap_or(&empty),
            named: &desired.named,
            detours,
            nets: &nets[&namespace],
        };
        let mut of_change = Needs::at(namespace);
        change.action.operation().needs(around, &mut of_change);
        for condition in &of_change.provides {
            let next = u32::try_from(numbers.len()).expect("fewer conditions than 2^32");
            numbers.entry(*condition).or_insert(next);
        }
        needs.push(of_change);
    }
    let numbered = |conditions: Vec<_>| {
        let mut conditions = conditions
            .iter()
            .filter_map(|condition| numbers.get(condition).copied())
            .collect::<Vec<u32>>();
        conditions.sort_unstable();
        conditions.dedup();
        conditions
    };
    let dependencies = needs.into_iter().map(|needs| {
        let provides = numbered(needs.provides);
        let mut requires = numbered(needs.requires);
        // A change need not wait for a condition that it provides itself.
        requires.retain(|condition| provides.binary_search(condition).is_err());
        Dependencies { requires, provides }
    });
    let dependencies = dependencies.collect();
    let mut of_slots = vec![false; numbers.len()];
    for ((_, condition), &number) in &numbers {
        of_slots[number as usize] = matches!(condition, Condition::SlotFree(_));
    }
    (dependencies, of_slots)
}
