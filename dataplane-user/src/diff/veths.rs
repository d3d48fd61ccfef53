//! Veth pairs, whose ends may be in different namespaces: both ends stand as wanted, or both are made anew.

use crate::model::change::{DeleteLinkReason, LinkChange, LinkOperation, NetlinkChange};
use crate::model::{Change, ChangeSet, Conflict, KernelState, Link, LinkKind, Object, Owner, VethPeer};
use crate::net::{LinkName, Namespace};

/// An end: where it is, and its name there.
type End = (Option<Namespace>, LinkName);

/// Takes out of the target the pairs that a foreign device is in the way of; deletes ends that are not what they shall be,
/// and pairs that nobody wants, and what went with them out of the observed state.
pub(super) fn settle(observed: &mut KernelState, target: &mut KernelState, set: &mut ChangeSet) {
    keep_unknown(observed, target);
    for (end, peer) in pairs(target) {
        let other = (peer.namespace.clone(), peer.name.clone());
        let foreign = [&end, &other].into_iter().find_map(|end| {
            let found = link(observed, end)?;
            (found.owner != Owner::Ours).then(|| (end.clone(), found.kind.to_string()))
        });
        if let Some(((namespace, name), found)) = foreign {
            set.conflicts.push(Conflict {
                object: Object::Link(name).at(namespace),
                found,
                holder: None,
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

/// Of an end whose other one is in a namespace that can't be read nobody can tell whether it is the right one: it stays as it
/// is, and is not made where it is not there.
fn keep_unknown(observed: &KernelState, target: &mut KernelState) {
    let halves = ends(target).into_iter().filter(|(_, peer)| {
        let namespace = peer.namespace.as_ref();
        namespace.is_some_and(|namespace| observed.unreadable.contains_key(namespace))
    });
    for (end, _) in halves.collect::<Vec<_>>() {
        let found = link(observed, &end);
        if found.is_some_and(|found| found.owner != Owner::Ours) {
            // A conflict, as everywhere.
            continue;
        }
        let kind = found
            .filter(|found| is_veth(&found.kind))
            .map(|found| found.kind.clone());
        let wanted = target
            .at_mut(end.0.as_ref())
            .and_then(|state| state.links.get_mut(&end.1));
        match (wanted, kind) {
            (Some(wanted), Some(kind)) => wanted.kind = kind,
            _ => forget(target, &end),
        }
    }
}

/// Whether a device is an end of a pair, also where its other one is nowhere that we look.
fn is_veth(kind: &LinkKind) -> bool {
    matches!(kind, LinkKind::Veth(_)) || matches!(kind, LinkKind::Other(kind) if kind == "veth")
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
    let delete = NetlinkChange::Link(LinkChange(name.clone(), LinkOperation::Delete(reason)));
    set.changes.push(Change::new(namespace.clone(), delete));
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
    let mut ends = ends(state);
    ends.retain(|((namespace, name), peer)| peer.is_made_by(namespace.as_ref(), name));
    ends
}

/// All ends.
fn ends(state: &KernelState) -> Vec<(End, VethPeer)> {
    let elsewhere = state.namespaces.iter().map(|(name, state)| (Some(name), state));
    let places = [(None, state)].into_iter().chain(elsewhere);
    let ends = places.flat_map(|(namespace, state)| {
        state
            .links
            .iter()
            .filter_map(move |(name, link)| match &link.kind {
                LinkKind::Veth(peer) => Some(((namespace.cloned(), name.clone()), peer.clone())),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diff::diff;

    fn name(text: &str) -> LinkName {
        LinkName::new(text).unwrap()
    }

    fn veth(kind: LinkKind, owner: Owner) -> Link {
        Link {
            owner,
            kind,
            mac: None,
            mtu: None,
            arp: true,
            generates_addresses: false,
            up: true,
        }
    }

    /// A state in which `host0` is an end of this kind, and its other one in a namespace.
    fn state(kind: LinkKind, owner: Owner) -> KernelState {
        let mut state = KernelState::default();
        state.links.insert(name("host0"), veth(kind, owner));
        state
    }

    #[test]
    fn a_pair_stays_while_the_other_namespace_cannot_be_read() {
        // The end that makes the pair is here, or there.
        for peer in ["eth0", "zz0"] {
            let namespace = Namespace::Pid(7);
            let kind = LinkKind::Veth(VethPeer {
                namespace: Some(namespace.clone()),
                name: name(peer),
            });
            let mut target = state(kind.clone(), Owner::Ours);
            let far = LinkKind::Veth(VethPeer {
                namespace: None,
                name: name("host0"),
            });
            let mut there = KernelState::default();
            there.links.insert(name(peer), veth(far, Owner::Ours));
            target.namespaces.insert(namespace.clone(), there);
            let unreadable = [(namespace.clone(), "why".to_owned())];
            let mere = LinkKind::Other("veth".to_owned());

            for kind in [mere.clone(), kind.clone()] {
                let observed = KernelState {
                    unreadable: unreadable.clone().into(),
                    ..state(kind, Owner::Ours)
                };
                assert_eq!(diff(&observed, &target), ChangeSet::default());
            }
            // It is not made while it can't be, and nobody's else is taken for it.
            let observed = KernelState {
                unreadable: unreadable.clone().into(),
                ..KernelState::default()
            };
            assert_eq!(diff(&observed, &target), ChangeSet::default());
            let observed = KernelState {
                unreadable: unreadable.clone().into(),
                ..state(mere.clone(), Owner::Foreign)
            };
            let set = diff(&observed, &target);
            assert_eq!((set.changes.len(), set.conflicts.len()), (0, 1), "{set:?}");
            // What nobody wants goes all the same.
            let observed = KernelState {
                unreadable: unreadable.into(),
                ..state(mere.clone(), Owner::Ours)
            };
            assert_eq!(diff(&observed, &KernelState::default()).changes.len(), 1);
            // As does a pair whose other end is gone.
            let observed = state(mere, Owner::Ours);
            assert!(!diff(&observed, &target).is_empty());
        }
    }
}
