//! The order of changes.
//!
//! Each kind of object states beside its changes, in `model`, what a change requires and what it provides. A
//! change that refers to an object requires that the object exists. A change that deletes an object requires
//! that nothing uses it any more. A change that needs a unique property (a UDP port, a VNI, a name) requires
//! that no other device has it. A failure breaks the conditions that the failed change provides; exactly the
//! changes that require those are skipped, and the changes that depend on them. Changes that do not depend on
//! each other are ordered by [`Stage`](crate::model::order::Stage), so that plans are readable.

mod cycle;
mod graph;
mod needs;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::model::order::Detour;
use crate::model::{Change, ChangeSet, KernelState};

/// The states between which changes are ordered.
#[derive(Clone, Copy)]
pub(super) struct States<'a> {
    /// The observed state.
    pub(super) before: &'a KernelState,
    /// The same without what the kernel deletes together with recreated devices.
    pub(super) observed: &'a KernelState,
    /// The desired state without conflicts.
    pub(super) desired: &'a KernelState,
}

/// Sorts the changes and stores the dependencies of each. Returns a detour if changes wait for each other in a circle and this detour was not
/// used yet; the caller computes the changes again with it.
pub(super) fn arrange(set: &mut ChangeSet, states: States<'_>, detours: &BTreeSet<Detour>) -> Option<Detour> {
    let (needs, of_slots) = needs::of_changes(&set.changes, states, detours);
    let ranks = set.changes.iter().map(Change::rank).collect::<Vec<_>>();
    let backwards = graph::first_backwards(&ranks, &needs, |condition| !of_slots[condition as usize]);
    debug_assert!(
        backwards.is_none(),
        "{:?}",
        backwards.map(|(late, early)| format!("{} requires {}", set.changes[early], set.changes[late]))
    );
    let order = match graph::sort(&ranks, &needs) {
        graph::Sorted::Whole(order) => order,
        graph::Sorted::Circle { links, rest } => {
            let waits = cycle::waits_for_slots(&links, &of_slots);
            let detour = cycle::detour(&waits, &set.changes, &needs);
            if let Some(detour) = detour.filter(|detour| !detours.contains(detour)) {
                return Some(detour);
            }
            rest
        }
    };
    let mut changes = std::mem::take(&mut set.changes)
        .into_iter()
        .map(Some)
        .collect::<Vec<_>>();
    let mut needs = needs.into_iter().map(Some).collect::<Vec<_>>();
    set.changes = order.iter().filter_map(|&index| changes[index].take()).collect();
    set.dependencies = order.iter().filter_map(|&index| needs[index].take()).collect();
    None
}
