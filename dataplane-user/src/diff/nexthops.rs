//! Next-hop objects. Values are identities: what differs is another object, and routes are led there; only a group that
//! all its routes leave for the same new one changes in place, whatever the number of those.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::order::{Around, Condition, Needs, Target};
use super::routes;
use crate::model::change::{NetlinkChange, NextHopObjectOperation};
use crate::model::{ChangeSet, KernelState, Owner, RouteGroup, RouteHop, RouteTarget};

/// `observed` becomes what it is once groups have changed in place, so that their routes need no change.
pub(super) fn diff(observed: &mut KernelState, target: &KernelState, set: &mut ChangeSet) {
    let groups = observed.route_targets.iter().filter_map(|found| match found {
        RouteTarget::Group(group) if !target.route_targets.contains(found) => Some(Arc::clone(group)),
        _ => None,
    });
    for from in groups.collect::<Vec<_>>() {
        if let Some(to) = successor(&from, observed, target) {
            observed.replace_route_group(&from, &to);
            let replace = NextHopObjectOperation::Replace(from);
            set.push(NetlinkChange::NextHopObject(RouteTarget::Group(to), replace));
        }
    }
    for new in target.route_targets.difference(&observed.route_targets) {
        let create = NextHopObjectOperation::Create;
        set.push(NetlinkChange::NextHopObject(new.clone(), create));
    }
    for gone in observed.route_targets.difference(&target.route_targets) {
        let delete = NextHopObjectOperation::Delete;
        set.push(NetlinkChange::NextHopObject(gone.clone(), delete));
    }
}

/// The one new group that all routes of a group shall lead to.
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

pub(super) fn needs<'a>(
    target: &'a RouteTarget,
    operation: &'a NextHopObjectOperation,
    around: Around<'a>,
    needs: &mut Needs<'a>,
) {
    let object = Target::from(target);
    if *operation == NextHopObjectOperation::Delete {
        needs.requires(Condition::NextHopObjectUnused(object));
        return release(target, needs);
    }
    needs.provides(Condition::NextHopObject(object));
    for hop in target.hops() {
        require_hop(hop, needs);
        if let RouteTarget::Group(_) = target {
            needs.requires(Condition::NextHopObject(Target::Hop(hop)));
        }
    }
    if let NextHopObjectOperation::Replace(former) = operation {
        for (hop, _) in &former.members {
            needs.provides(Condition::NextHopObjectUnused(Target::Hop(hop)));
        }
        // Its routes follow without changes of their own.
        for prefix in around.nets.by_group.get(former).into_iter().flatten() {
            routes::led(*prefix, around, needs);
            for (hop, _) in &former.members {
                needs.provides(Condition::AllowedUnused(&hop.link, *prefix));
            }
            for hop in target.hops().filter(|hop| hop.is_wireguard()) {
                needs.requires(Condition::Allowed(&hop.link, *prefix));
            }
        }
    }
}

/// What a next-hop object needs to send anything.
pub(super) fn require_hop<'a>(hop: &'a RouteHop, needs: &mut Needs<'a>) {
    needs.requires(Condition::Up(&hop.link));
    if let Some(gateway) = hop.gateway {
        needs.requires(Condition::Neighbour(&hop.link, gateway));
    }
}

/// What is needed no more once a next-hop object is gone.
fn release<'a>(target: &'a RouteTarget, needs: &mut Needs<'a>) {
    for hop in target.hops() {
        if let RouteTarget::Group(_) = target {
            needs.provides(Condition::NextHopObjectUnused(Target::Hop(hop)));
            continue;
        }
        needs.provides(Condition::LinkUnused(&hop.link));
        if let Some(gateway) = hop.gateway {
            needs.provides(Condition::NeighbourUnused(&hop.link, gateway));
        }
        if let Some(header) = &hop.encapsulation {
            needs.provides(Condition::SourceUnused(header.remote));
        }
    }
}
