//! Next-hop objects. Their values are their identities: a different value is another object, and routes are
//! changed to lead to it. Only a group whose routes all move to the same new group changes in place, whatever
//! the number of routes.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::model::change::{NextHopObjectChange, NextHopObjectOperation};
use crate::model::{ChangeSet, KernelState, Owner, RouteGroup, RouteTarget};

/// Applies groups that change in place to `observed`, so that their routes need no change.
pub(super) fn diff(observed: &mut KernelState, target: &KernelState, set: &mut ChangeSet) {
    let groups = observed.route_targets.iter().filter_map(|found| match found {
        RouteTarget::Group(group) if !target.route_targets.contains(found) => Some(Arc::clone(group)),
        _ => None,
    });
    for from in groups.collect::<Vec<_>>() {
        if let Some(to) = successor(&from, observed, target) {
            observed.replace_route_group(&from, &to);
            let replace = NextHopObjectOperation::Replace(from);
            set.push(NextHopObjectChange(RouteTarget::Group(to), replace));
        }
    }
    for new in target.route_targets.difference(&observed.route_targets) {
        let create = NextHopObjectOperation::Create;
        set.push(NextHopObjectChange(new.clone(), create));
    }
    for gone in observed.route_targets.difference(&target.route_targets) {
        let delete = NextHopObjectOperation::Delete;
        set.push(NextHopObjectChange(gone.clone(), delete));
    }
}

/// The one new group to which all routes of a group should lead.
fn successor(
    group: &Arc<RouteGroup>,
    observed: &KernelState,
    target: &KernelState,
) -> Option<Arc<RouteGroup>> {
    let from = RouteTarget::Group(Arc::clone(group));
    let routes = observed
        .routes
        .iter()
        .filter(|(_, route)| route.owner == Owner::Ours);
    let keys = routes
        .filter(|(_, route)| route.target() == Some(&from))
        .map(|(key, _)| key);
    let wanted = keys
        .filter_map(|key| target.routes.get(key))
        .map(|route| route.target());
    let wanted = wanted.collect::<BTreeSet<_>>();
    match wanted.first() {
        Some(Some(to @ RouteTarget::Group(next))) if wanted.len() == 1 => {
            // The kernel can't change a group's kind.
            let alike = next.resilient == group.resilient;
            (alike && !observed.route_targets.contains(to)).then(|| Arc::clone(next))
        }
        _ => None,
    }
}
