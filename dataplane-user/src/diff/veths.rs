//! Veth pairs, whose ends may be in different namespaces: both ends stand as wanted, or both are made anew.

use crate::model::change::DeleteLinkReason;
use crate::model::{Change, ChangeSet, Conflict, KernelState, Link, LinkKind, Object, Owner, VethPeer};
use crate::net::{LinkName, Namespace};

/// An end: where it is, and its name there.
type End = (Option<Namespace>, LinkName);

/// Takes out of the target the pairs that a foreign device is in the way of; deletes ends that are not what they shall be,
/// and pairs that nobody wants, and what went with them out of the observed state.
pub(super) fn settle(observed: &mut KernelState, target: &mut KernelState, set: &mut ChangeSet) {
    for (end, peer) in pairs(target) {
        let other = (peer.namespace.clone(), peer.name.clone());
        let foreign = [&end, &other].into_iter().find_map(|end| {
            let found = link(observed, end)?;
            (found.owner != Owner::Ours).then(|| (end.clone(), found.kind.to_string()))
        });
        if let Some(((namespace, name), found)) = foreign {
            let object = Object::Link(name);
            set.conflicts.push(Conflict {
                object: match namespace {
                    None => object,
                    Some(namespace) => Object::In(namespace, Box::new(object)),
                },
                found,
                only_one: None,
            });
            forget(target, &end);
            forget(target, &other);
            continue;
        }
        for end in [&end, &other] {
            recreate(end, observed, target, set);
        }
    }
    for (end, peer) in pairs(observed) {
        let other = (peer.namespace, peer.name);
        // With the one whose name something else shall have, the pair goes before that is made.
        for end in [&end, &other] {
            recreate(end, observed, target, set);
        }
        let Some(found) = link(observed, &end) else {
            // It went with its other end.
            continue;
        };
        if found.owner == Owner::Ours && link(target, &end).is_none() {
            delete(&end, DeleteLinkReason::Unneeded, observed, set);
        }
    }
}

/// Deletes an end of ours that is not what it shall be.
fn recreate(end: &End, observed: &mut KernelState, target: &KernelState, set: &mut ChangeSet) {
    let (Some(found), Some(wanted)) = (link(observed, end), link(target, end)) else {
        return;
    };
    if found.owner == Owner::Ours && found.kind != wanted.kind {
        let reason = DeleteLinkReason::Recreate {
            from: found.kind.clone(),
            to: wanted.kind.clone(),
        };
        delete(end, reason, observed, set);
    }
}

/// With an end its other one goes. What is on them goes with ends that are made anew, because that is done first; before
/// ends that nobody needs go, it is taken away or led elsewhere.
fn delete(end: &End, reason: DeleteLinkReason, observed: &mut KernelState, set: &mut ChangeSet) {
    let (namespace, name) = end;
    let first = reason != DeleteLinkReason::Unneeded;
    let delete = Change::DeleteLink(name.clone(), reason);
    set.changes.push(match namespace {
        None => delete,
        Some(namespace) => Change::In(namespace.clone(), Box::new(delete)),
    });
    let peer = link(observed, end).and_then(|found| match &found.kind {
        LinkKind::Veth(peer) => Some((peer.namespace.clone(), peer.name.clone())),
        _ => None,
    });
    for end in [Some(end.clone()), peer].into_iter().flatten() {
        if first {
            forget(observed, &end);
        } else if let Some(state) = observed.at_mut(end.0.as_ref()) {
            state.links.remove(&end.1);
        }
    }
}

/// All ends that make their pair.
fn pairs(state: &KernelState) -> Vec<(End, VethPeer)> {
    let elsewhere = state.namespaces.iter().map(|(name, state)| (Some(name), state));
    let places = [(None, state)].into_iter().chain(elsewhere);
    let ends = places.flat_map(|(namespace, state)| {
        state
            .links
            .iter()
            .filter_map(move |(name, link)| match &link.kind {
                LinkKind::Veth(peer) if peer.is_made_by(namespace, name) => {
                    Some(((namespace.cloned(), name.clone()), peer.clone()))
                }
                _ => None,
            })
    });
    ends.collect()
}

fn link<'a>(state: &'a KernelState, (namespace, name): &End) -> Option<&'a Link> {
    state.at(namespace.as_ref())?.links.get(name)
}

fn forget(state: &mut KernelState, (namespace, name): &End) {
    if let Some(state) = state.at_mut(namespace.as_ref()) {
        state.forget_link(name);
    }
}
