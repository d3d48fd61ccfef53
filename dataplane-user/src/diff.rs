//! The changes that lead from the observed to the desired state. Pure.
//!
//! One file per kind of object, as in `model`; only `order` knows in which order changes are executed.

mod addresses;
mod attachments;
mod bpf;
mod bridge_ports;
mod firewall;
mod flood;
mod links;

mod neighbours;
mod nexthops;
pub mod order;
pub mod repairs;
mod routes;
mod sysctls;
mod uncertain;
mod undecoded;
mod versions;
mod veths;
mod waiting;
pub mod wireguard;

use std::collections::BTreeSet;

use crate::model::change::{Existence, Whole};
use crate::model::order::Detour;
use crate::model::{ChangeSet, KernelState, Named, each_whole};
use crate::net::Namespace;

/// The changes that lead from the observed state to the desired state `desired`, in an order in which no step
/// interrupts traffic.
///
/// An object that Adit does not manage and that has the name or position of a desired one is a conflict: it
/// stays, objects that depend on the desired one are skipped, and everything else continues. Objects without
/// the mark of Adit are never changed or deleted.
#[must_use]
pub fn diff(observed: &KernelState, desired: &KernelState) -> ChangeSet {
    let desired = readable(desired, observed);
    let mut detours = BTreeSet::new();
    loop {
        let mut set = ChangeSet::default();
        let (mut left, mut wanted) = (observed.clone(), desired.clone());
        compare(&mut left, &mut wanted, &detours, &mut set);
        let states = order::States {
            before: observed,
            observed: &left,
            desired: &wanted,
        };
        match order::arrange(&mut set, states, &detours) {
            None => return set,
            Some(detour) => drop(detours.insert(detour)),
        }
    }
}

/// The context of the changes of one namespace.
#[derive(Clone, Copy)]
struct At<'a> {
    namespace: Option<&'a Namespace>,
    /// The detours that break circles of changes.
    detours: &'a BTreeSet<Detour>,
    /// The peers that manifests name.
    named: &'a Named,
}

/// Finds the changes, unordered. Removes from `observed` what the kernel deletes together with a recreated
/// device, and from `desired` what a conflict or a missing device makes impossible.
fn compare(
    observed: &mut KernelState,
    desired: &mut KernelState,
    detours: &BTreeSet<Detour>,
    set: &mut ChangeSet,
) {
    // Veth pairs connect namespaces, so they are compared before the objects of single namespaces.
    veths::settle(observed, desired, set);
    let mut elsewhere = std::mem::take(&mut observed.namespaces);
    let mut wanted = std::mem::take(&mut desired.namespaces);
    for namespace in wanted.keys() {
        elsewhere.entry(namespace.clone()).or_default();
    }
    let named = std::mem::take(&mut desired.named);
    let here = At {
        namespace: None,
        detours,
        named: &named,
    };
    one(here, observed, desired, set);
    for (namespace, found) in &mut elsewhere {
        let mut there = ChangeSet::default();
        let wanted = wanted.entry(namespace.clone()).or_default();
        let at = At {
            namespace: Some(namespace),
            ..here
        };
        one(at, found, wanted, &mut there);
        set.extend_from(namespace, there);
    }
    (observed.namespaces, desired.namespaces) = (elsewhere, wanted);
    desired.named = named;
}

/// The desired state without the namespaces that can't be read, in which nothing is changed. In a namespace
/// that may be one of these under another name, existing objects are added to the desired state.
#[must_use]
pub fn readable(desired: &KernelState, observed: &KernelState) -> KernelState {
    let mut desired = desired.clone();
    desired
        .namespaces
        .retain(|namespace, _| !observed.unreadable.contains_key(namespace));
    uncertain::keep(observed, &mut desired);
    desired
}

/// The changes of one namespace, whose states are `observed` and `desired`.
fn one(at: At<'_>, observed: &mut KernelState, desired: &mut KernelState, set: &mut ChangeSet) {
    links::exclude_conflicts(observed, desired, set);
    waiting::exclude(observed, desired, set);
    undecoded::exclude(observed, desired, set);
    links::diff(at, observed, desired, set);
    bridge_ports::diff(observed, desired, set);
    flood::diff(observed, desired, set);
    sysctls::diff(observed, desired, set);
    addresses::diff(observed, desired, set);
    wireguard::diff(at, observed, desired, set);
    firewall::diff(observed, desired, set);
    attachments::diff(observed, desired, set);
    bpf::diff(observed, desired, set);
    neighbours::diff(observed, desired, set);
    nexthops::diff(observed, desired, set);
    versions::diff(observed, desired, set);
    routes::diff(observed, desired, set);
    each_whole!(K => whole::<K>(observed, desired, set));
}

/// Objects whose value is their identity: missing ones are created, and managed ones that are not desired are
/// deleted.
fn whole<K: Whole>(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    let (found, wanted) = (K::all(observed), K::all(desired));
    let missing = wanted.difference(found).cloned();
    let missing = missing.map(|object| object.change(Existence::Create));
    let gone = found.difference(wanted).cloned();
    let gone = gone.map(|object| object.change(Existence::Delete));
    missing.chain(gone).for_each(|change| set.push(change));
}
