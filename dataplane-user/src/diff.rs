//! The changes that lead from the observed to the desired state. Pure.
//!
//! One file per kind of object, as in `model`; only `order` knows in which order changes are executed.

mod addresses;
mod attachments;
mod bpf;
mod firewall;
mod flood;
mod links;
mod masters;
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

/// The changes that lead from the observed state to the desired state `target`, in an order in which no step
/// interrupts traffic.
///
/// An object that Adit does not manage and that has the name or position of a desired one is a conflict: it
/// stays, objects that depend on the desired one are skipped, and everything else continues. Objects without
/// the mark of Adit are never changed or deleted.
#[must_use]
pub fn diff(observed: &KernelState, target: &KernelState) -> ChangeSet {
    let target = readable(target, observed);
    let mut detours = BTreeSet::new();
    loop {
        let mut set = ChangeSet::default();
        let (mut left, mut wanted) = (observed.clone(), target.clone());
        compare(&mut left, &mut wanted, &detours, &mut set);
        match order::arrange(&mut set, (observed, &left, &wanted), &detours) {
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
/// device, and from `target` what a conflict or a missing device makes impossible.
fn compare(
    observed: &mut KernelState,
    target: &mut KernelState,
    detours: &BTreeSet<Detour>,
    set: &mut ChangeSet,
) {
    // Veth pairs connect namespaces, so they are compared before the objects of single namespaces.
    veths::settle(observed, target, set);
    let mut elsewhere = std::mem::take(&mut observed.namespaces);
    let mut wanted = std::mem::take(&mut target.namespaces);
    for namespace in wanted.keys() {
        elsewhere.entry(namespace.clone()).or_default();
    }
    let named = std::mem::take(&mut target.named);
    let here = At {
        namespace: None,
        detours,
        named: &named,
    };
    one(here, observed, target, set);
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
    (observed.namespaces, target.namespaces) = (elsewhere, wanted);
    target.named = named;
}

/// The desired state without the namespaces that can't be read, in which nothing is changed. In a namespace
/// that may be one of these under another name, existing objects are added to the desired state.
#[must_use]
pub fn readable(target: &KernelState, observed: &KernelState) -> KernelState {
    let mut target = target.clone();
    target
        .namespaces
        .retain(|namespace, _| !observed.unreadable.contains_key(namespace));
    uncertain::keep(observed, &mut target);
    target
}

/// The changes of one namespace, whose states are `observed` and `target`.
fn one(at: At<'_>, observed: &mut KernelState, target: &mut KernelState, set: &mut ChangeSet) {
    links::exclude_conflicts(observed, target, set);
    waiting::exclude(observed, target, set);
    undecoded::exclude(observed, target, set);
    links::diff(at, observed, target, set);
    masters::diff(observed, target, set);
    flood::diff(observed, target, set);
    sysctls::diff(observed, target, set);
    addresses::diff(observed, target, set);
    wireguard::diff(at, observed, target, set);
    firewall::diff(observed, target, set);
    attachments::diff(observed, target, set);
    bpf::diff(observed, target, set);
    neighbours::diff(observed, target, set);
    nexthops::diff(observed, target, set);
    versions::diff(observed, target, set);
    routes::diff(observed, target, set);
    each_whole!(K => whole::<K>(observed, target, set));
}

/// Objects whose value is their identity: missing ones are created, and managed ones that are not desired are
/// deleted.
fn whole<K: Whole>(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    let (found, wanted) = (K::all(observed), K::all(target));
    let missing = wanted.difference(found).cloned();
    let missing = missing.map(|object| object.change(Existence::Create));
    let gone = found.difference(wanted).cloned();
    let gone = gone.map(|object| object.change(Existence::Delete));
    missing.chain(gone).for_each(|change| set.push(change));
}
