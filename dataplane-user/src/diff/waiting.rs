//! Objects that can't be created yet, because they need a device that neither exists nor is declared, or a
//! device that is not known.

use crate::model::{
    ChangeSet, Conflict, KernelState, Link, Object, Owner, Route, RouteKey, RouteKind, Waiting,
};
use crate::net::LinkName;

/// Removes waiting objects from the desired state, and the objects that depend on them.
pub(super) fn exclude(observed: &KernelState, desired: &mut KernelState, set: &mut ChangeSet) {
    links(observed, desired, set);
    ports(observed, desired, set);
    gateways(observed, desired, set);
    routes(observed, desired, set);
}

/// Devices that send through another device.
fn links(observed: &KernelState, desired: &mut KernelState, set: &mut ChangeSet) {
    let waits = |(name, link): (&LinkName, &Link)| {
        let lower = link.kind.lower()?;
        let below = |name: &LinkName| desired.links.get(name).and_then(|link| link.kind.lower());
        let mut chain = std::iter::successors(Some(lower), |name| below(name));
        // A chain that is longer than there are devices is a circle.
        let ends = chain.nth(desired.links.len()).is_none();
        let there = ends && (desired.links.contains_key(lower) || stays(observed, lower).is_some());
        (!there).then(|| (name.clone(), lower.clone()))
    };
    let waiting = desired.links.iter().filter_map(waits).collect::<Vec<_>>();
    for (name, lower) in waiting {
        set.waiting.push(Waiting {
            object: Object::Link(name.clone()).into(),
            what: format!("device {lower}, through which it sends"),
        });
        desired.forget_link(&name);
    }
}

/// An existing device that is not declared but stays, because Adit does not manage it.
fn stays<'a>(observed: &'a KernelState, name: &LinkName) -> Option<&'a Link> {
    observed
        .links
        .get(name)
        .filter(|found| found.owner != Owner::Adit)
}

/// Devices that are declared as ports of a bridge.
fn ports(observed: &KernelState, desired: &mut KernelState, set: &mut ChangeSet) {
    let (waiting, conflicts) = (&mut set.waiting, &mut set.conflicts);
    let links = &desired.links;
    desired.masters.retain(|port, bridge| {
        if links.contains_key(port) {
            return links.contains_key(bridge);
        }
        match observed.links.get(port) {
            Some(found) if found.owner != Owner::Adit => conflicts.push(Conflict {
                object: Object::Link(port.clone()).into(),
                found: found.kind.to_string(),
                holder: None,
            }),
            _ => waiting.push(Waiting {
                object: Object::Link(bridge.clone()).into(),
                what: format!("device {port}, which is to be its port"),
            }),
        }
        false
    });
}

/// Routes through devices that don't exist or are not up, or that are declared down.
fn routes(observed: &KernelState, desired: &mut KernelState, set: &mut ChangeSet) {
    let missing = |link: &LinkName| match desired.links.get(link) {
        Some(wanted) => !wanted.up,
        None => stays(observed, link).is_none_or(|found| !found.up),
    };
    let waits = |(key, route): (&RouteKey, &Route)| {
        if route.next_hop_object().is_some() {
            // Routes to next-hop objects: their conditions are those of the next-hop objects.
            return None;
        }
        let link = route.links().find(|link| missing(link))?;
        Some((*key, link.clone()))
    };
    let waiting = desired.routes.iter().filter_map(waits).collect::<Vec<_>>();
    for (key, link) in waiting {
        set.waiting.push(Waiting {
            object: Object::Route(key).into(),
            what: format!("device {link} to exist and to be up"),
        });
        desired.routes.remove(&key);
    }
}

/// Routes through gateways that are on the link of no known device. An existing managed route stays.
fn gateways(observed: &KernelState, desired: &mut KernelState, set: &mut ChangeSet) {
    let unreached = |(key, route): (&RouteKey, &Route)| match &route.kind {
        RouteKind::Paths(paths) => {
            let hop = paths.hops.iter().find(|hop| hop.link.is_none())?;
            Some((*key, hop.gateway?))
        }
        _ => None,
    };
    let waiting = desired.routes.iter().filter_map(unreached).collect::<Vec<_>>();
    for (key, gateway) in waiting {
        set.waiting.push(Waiting {
            object: Object::Route(key).into(),
            what: format!("a device that reaches the gateway {gateway}"),
        });
        match observed
            .routes
            .get(&key)
            .filter(|found| found.owner == Owner::Adit)
        {
            Some(found) => desired.routes.insert(key, found.clone()),
            None => desired.routes.remove(&key),
        };
    }
}
