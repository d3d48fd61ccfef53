//! Next-hop objects. Their values are their identities: a different value is another object, and routes are
//! changed to lead to it. Only a group whose routes all move to the same new group changes in place, whatever
//! the number of routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::change::{NextHopObjectChange, NextHopObjectOperation};
use crate::model::{ChangeSet, KernelState, NextHopObject, Owner, RouteGroup};

/// Applies groups that change in place to `observed`, so that their routes need no change.
pub(super) fn diff(observed: &mut KernelState, desired: &KernelState, set: &mut ChangeSet) {
    let groups = observed.next_hop_objects.iter().filter_map(|found| match found {
        NextHopObject::Group(group) if !desired.next_hop_objects.contains(found) => Some(Arc::clone(group)),
        _ => None,
    });
    for from in groups.collect::<Vec<_>>() {
        if let Some(to) = successor(&from, observed, desired) {
            observed.replace_route_group(&from, &to);
            let replace = NextHopObjectOperation::Replace(from);
            set.push(NextHopObjectChange(NextHopObject::Group(to), replace));
        }
    }
    for new in desired.next_hop_objects.difference(&observed.next_hop_objects) {
        let create = NextHopObjectOperation::Create;
        set.push(NextHopObjectChange(new.clone(), create));
    }
    for gone in observed.next_hop_objects.difference(&desired.next_hop_objects) {
        let delete = NextHopObjectOperation::Delete;
        set.push(NextHopObjectChange(gone.clone(), delete));
    }
}

/// The one new group to which all routes of a group should lead.
fn successor(
    group: &Arc<RouteGroup>,
    observed: &KernelState,
    desired: &KernelState,
) -> Option<Arc<RouteGroup>> {
    let from = NextHopObject::Group(Arc::clone(group));
    let routes = observed
        .routes
        .iter()
        .filter(|(_, route)| route.owner == Owner::Adit);
    let keys = routes
        .filter(|(_, route)| route.next_hop_object() == Some(&from))
        .map(|(key, _)| key);
    let wanted = keys
        .filter_map(|key| desired.routes.get(key))
        .map(|route| route.next_hop_object());
    let wanted = wanted.collect::<BTreeSet<_>>();
    match wanted.first() {
        Some(Some(to @ NextHopObject::Group(next))) if wanted.len() == 1 => {
            // The kernel can't change a group's kind.
            let alike = next.resilient == group.resilient;
            (alike && !observed.next_hop_objects.contains(to)).then(|| Arc::clone(next))
        }
        _ => None,
    }
}
