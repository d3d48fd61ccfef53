//! Routes.

use crate::model::change::{NetlinkChange, RouteOperation};
use crate::model::{ChangeSet, Conflict, KernelState, Object, Owner, Route, RouteKind};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    // Gateways may be reached by routes of ours: those without one come first.
    let has_gateway = |route: &Route| match &route.kind {
        RouteKind::Gateway { .. } => true,
        RouteKind::Paths(paths) => paths.hops.iter().any(|hop| hop.gateway.is_some()),
        _ => false,
    };
    let mut wanted = target.routes.iter().collect::<Vec<_>>();
    wanted.sort_by_key(|(_, route)| has_gateway(route));
    for (key, wanted) in wanted {
        let operation = match observed.routes.get(key) {
            None => RouteOperation::Create(wanted.clone()),
            Some(found) if found.owner != Owner::Ours => {
                set.conflicts.push(Conflict {
                    object: Object::Route(*key).into(),
                    found: found.kind.to_string(),
                    only_one: None,
                });
                continue;
            }
            Some(found) if wanted.kind.is_met_by(&found.kind) => continue,
            Some(_) => RouteOperation::Replace(wanted.clone()),
        };
        set.push(NetlinkChange::Route(*key, operation));
    }
    for (key, found) in &observed.routes {
        if found.owner == Owner::Ours && !target.routes.contains_key(key) {
            set.push(NetlinkChange::Route(*key, RouteOperation::Delete(found.clone())));
        }
    }
}
