//! Veth pairs, whose ends may be in different namespaces: either both ends are as desired, or both are
//! recreated.

use crate::model::change::{DeleteLinkReason, LinkChange, LinkOperation, NetlinkChange};
use crate::model::{Change, ChangeSet, Conflict, KernelState, Link, LinkKind, Object, Owner, VethPeer};
use crate::net::{LinkName, Namespace};

/// An end: its namespace and name.
type End = (Option<Namespace>, LinkName);

/// Removes pairs that conflict with a device not managed by Adit from the desired state. Deletes ends that
/// differ from the desired ones and undesired pairs, and removes from the observed state what the kernel
/// deletes together with them.
pub(super) fn settle(observed: &mut KernelState, desired: &mut KernelState, set: &mut ChangeSet) {
    keep_unknown(observed, desired);
    for (end, peer) in pairs(desired) {
        let other = (peer.namespace.clone(), peer.name.clone());
        let foreign = [&end, &other].into_iter().find_map(|end| {
            let found = link(observed, end)?;
            (found.owner != Owner::Adit).then(|| (end.clone(), found.kind.to_string()))
        });
        if let Some(((namespace, name), found)) = foreign {
            set.conflicts.push(Conflict {
                object: Object::Link(name).at(namespace),
                found,
                holder: None,
            });
            forget(desired, &end);
            forget(desired, &other);
            continue;
        }
        for end in [&end, &other] {
            recreate(end, observed, desired, set);
        }
    }
    for (end, peer) in pairs(observed) {
        let other = (peer.namespace, peer.name);
        // If another device gets the name of one end, the pair is deleted before that device is created.
        for end in [&end, &other] {
            recreate(end, observed, desired, set);
        }
        let Some(found) = link(observed, &end) else {
            // It was deleted together with its other end.
            continue;
        };
        if found.owner == Owner::Adit && link(desired, &end).is_none() {
            delete(&end, DeleteLinkReason::Unneeded, observed, set);
        }
    }
}

/// An end whose other end is in an unreadable namespace can't be compared: an existing end stays as it is,
/// and a missing one is not created.
fn keep_unknown(observed: &KernelState, desired: &mut KernelState) {
    let halves = ends(desired).into_iter().filter(|(_, peer)| {
        let namespace = peer.namespace.as_ref();
        namespace.is_some_and(|namespace| observed.unreadable.contains_key(namespace))
    });
    for (end, _) in halves.collect::<Vec<_>>() {
        let found = link(observed, &end);
        if found.is_some_and(|found| found.owner != Owner::Adit) {
            // Later reported as a conflict.
            continue;
        }
        let kind = found
            .filter(|found| is_veth(&found.kind))
            .map(|found| found.kind.clone());
        let wanted = desired
            .at_mut(end.0.as_ref())
            .and_then(|state| state.links.get_mut(&end.1));
        match (wanted, kind) {
            (Some(wanted), Some(kind)) => wanted.kind = kind,
            _ => forget(desired, &end),
        }
    }
}

/// Whether a device is an end of a pair, even if its other end is in no known namespace.
fn is_veth(kind: &LinkKind) -> bool {
    matches!(kind, LinkKind::Veth(_)) || matches!(kind, LinkKind::Other(kind) if kind == "veth")
}

/// Deletes a managed end that differs from the desired one.
fn recreate(end: &End, observed: &mut KernelState, desired: &KernelState, set: &mut ChangeSet) {
    let (Some(found), Some(wanted)) = (link(observed, end), link(desired, end)) else {
        return;
    };
    if found.owner == Owner::Adit && found.kind != wanted.kind {
        let reason = DeleteLinkReason::Recreate {
            from: found.kind.clone(),
            to: wanted.kind.clone(),
        };
        delete(end, reason, observed, set);
    }
}

/// Deletes an end, and with it the other one. Ends that are recreated are deleted first, with everything on
/// them. Before undesired ends are deleted, the objects on them are deleted and their traffic takes another
/// path.
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

/// The ends that create their pair, one per pair.
fn pairs(state: &KernelState) -> Vec<(End, VethPeer)> {
    let mut ends = ends(state);
    ends.retain(|((namespace, name), peer)| peer.is_made_by(namespace.as_ref(), name));
    ends
}

/// All ends.
fn ends(state: &KernelState) -> Vec<(End, VethPeer)> {
    let elsewhere = state.namespaces.iter().map(|(name, state)| (Some(name), state));
    let namespaces = [(None, state)].into_iter().chain(elsewhere);
    let ends = namespaces.flat_map(|(namespace, state)| {
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

    /// A state in which `host0` is an end of this kind, and its other end is in another namespace.
    fn state(kind: LinkKind, owner: Owner) -> KernelState {
        let mut state = KernelState::default();
        state.links.insert(name("host0"), veth(kind, owner));
        state
    }

    #[test]
    fn a_pair_stays_while_the_other_namespace_cannot_be_read() {
        // The end that creates the pair is in this namespace, or in the other one.
        for peer in ["eth0", "zz0"] {
            let namespace = Namespace::Pid(7);
            let kind = LinkKind::Veth(VethPeer {
                namespace: Some(namespace.clone()),
                name: name(peer),
            });
            let mut desired = state(kind.clone(), Owner::Adit);
            let far = LinkKind::Veth(VethPeer {
                namespace: None,
                name: name("host0"),
            });
            let mut there = KernelState::default();
            there.links.insert(name(peer), veth(far, Owner::Adit));
            desired.namespaces.insert(namespace.clone(), there);
            let unreadable = [(namespace.clone(), "why".to_owned())];
            let mere = LinkKind::Other("veth".to_owned());

            for kind in [mere.clone(), kind.clone()] {
                let observed = KernelState {
                    unreadable: unreadable.clone().into(),
                    ..state(kind, Owner::Adit)
                };
                assert_eq!(diff(&observed, &desired), ChangeSet::default());
            }
            // A missing end is not created, and a device of others is not adopted.
            let observed = KernelState {
                unreadable: unreadable.clone().into(),
                ..KernelState::default()
            };
            assert_eq!(diff(&observed, &desired), ChangeSet::default());
            let observed = KernelState {
                unreadable: unreadable.clone().into(),
                ..state(mere.clone(), Owner::Other)
            };
            let set = diff(&observed, &desired);
            assert_eq!((set.changes.len(), set.conflicts.len()), (0, 1), "{set:?}");
            // An undesired end is still deleted.
            let observed = KernelState {
                unreadable: unreadable.into(),
                ..state(mere.clone(), Owner::Adit)
            };
            assert_eq!(diff(&observed, &KernelState::default()).changes.len(), 1);
            // So is a pair whose other end was deleted.
            let observed = state(mere, Owner::Adit);
            assert!(!diff(&observed, &desired).is_empty());
        }
    }
}
