//! What must change for the observed state to become the target. Pure.
//!
//! One file a kind of object, as in `model`; `order` is the only place that knows in which order changes are made.

mod addresses;
mod attachments;
mod bpf;
mod firewall;
mod links;
pub mod order;
pub mod repairs;
mod routes;
mod sources;
mod sysctls;
mod versions;
pub mod wireguard;

use crate::model::{ChangeSet, KernelState};

/// The changes that lead from `observed` to `target`, ordered so that no step opens a hole.
///
/// Where something that is not ours stands where ours should, that is a conflict: it is left alone, what depends on
/// ours is left out, and all else goes on. Nothing foreign is ever changed or deleted.
#[must_use]
pub fn diff(observed: &KernelState, target: &KernelState) -> ChangeSet {
    let mut set = ChangeSet::default();
    let mut observed = observed.clone();
    let mut target = target.clone();
    links::exclude_conflicts(&observed, &mut target, &mut set);
    links::diff(&mut observed, &target, &mut set);
    sysctls::diff(&observed, &target, &mut set);
    addresses::diff(&observed, &target, &mut set);
    wireguard::diff(&observed, &target, &mut set);
    firewall::diff(&observed, &target, &mut set);
    attachments::diff(&observed, &target, &mut set);
    sources::diff(&observed, &target, &mut set);
    bpf::diff(&observed, &target, &mut set);
    versions::diff(&observed, &target, &mut set);
    routes::diff(&observed, &target, &mut set);
    order::sort(&mut set.changes);
    set
}
