//! Namespaces that may be the same as unreadable ones, under another name. Objects that no manifest declares
//! there may be declared under the other name, so they stay.

use std::collections::BTreeSet;

use crate::model::change::Whole as _;
use crate::model::{KernelState, LinkKind, Owner, each_whole};
use crate::net::{LinkName, Namespace};

/// Adds to the desired state the objects that exist in such a namespace and are not in the desired state. If
/// both have a route with the same key, the observed one stays: manifests with several names of the namespace
/// may declare it together.
pub(super) fn keep(observed: &KernelState, desired: &mut KernelState) {
    for namespace in &observed.uncertain {
        if let Some(found) = observed.namespaces.get(namespace) {
            keep_in(found, desired.namespaces.entry(namespace.clone()).or_default());
        }
    }
    // With one end the kernel deletes the other one, too: an end without the other one would be recreated.
    for (namespace, name) in single_ends(observed, desired) {
        if let Some(there) = desired.namespaces.get_mut(&namespace) {
            there.forget_link(&name);
        }
    }
}

/// The ends of veth pairs in such namespaces whose other ends are not desired.
fn single_ends(observed: &KernelState, desired: &KernelState) -> Vec<(Namespace, LinkName)> {
    let is_unreadable = |namespace: Option<&Namespace>| {
        namespace.is_some_and(|namespace| observed.unreadable.contains_key(namespace))
    };
    let mut single = Vec::new();
    for namespace in &observed.uncertain {
        let links = desired.namespaces.get(namespace).map(|there| &there.links);
        for (name, link) in links.into_iter().flatten() {
            let LinkKind::Veth(peer) = &link.kind else {
                continue;
            };
            let other = desired.at(peer.namespace.as_ref());
            let other = other.and_then(|there| there.links.get(&peer.name));
            let is_pair = is_unreadable(peer.namespace.as_ref())
                || other.is_some_and(|other| match &other.kind {
                    // The end may be declared under the unreadable name of this namespace.
                    LinkKind::Veth(back) => {
                        back.name == *name
                            && (back.namespace.as_ref() == Some(namespace)
                                || is_unreadable(back.namespace.as_ref()))
                    }
                    _ => false,
                });
            if !is_pair {
                single.push((namespace.clone(), name.clone()));
            }
        }
    }
    single
}

fn keep_in(found: &KernelState, desired: &mut KernelState) {
    let links = found.links.iter();
    let kept = links.filter(|(name, link)| link.owner == Owner::Adit && !desired.links.contains_key(*name));
    let kept = kept.map(|(name, link)| (name.clone(), link.clone()));
    let kept = kept.collect::<Vec<_>>();
    let names = kept
        .iter()
        .map(|(name, _)| name.clone())
        .collect::<BTreeSet<LinkName>>();
    desired.links.extend(kept);
    for (key, address) in &found.addresses {
        if names.contains(&key.0) && address.owner == Owner::Adit {
            desired.addresses.insert(key.clone(), *address);
        }
    }
    for (port, bridge) in &found.masters {
        if (names.contains(port) || names.contains(bridge)) && !desired.masters.contains_key(port) {
            desired.masters.insert(port.clone(), bridge.clone());
        }
    }
    for name in &names {
        if let Some(alias) = found.aliases.get(name) {
            desired.aliases.insert(name.clone(), alias.clone());
        }
        if let Some(flood) = found.flood.get(name) {
            desired.flood.insert(name.clone(), flood.clone());
        }
        if let Some(device) = found.wireguard.get(name) {
            let mut device = device.clone();
            for peer in device.peers.values_mut() {
                // A peer that has roamed keeps its endpoint.
                peer.endpoint = None;
            }
            desired.wireguard.insert(name.clone(), device);
        }
    }
    for (key, route) in &found.routes {
        if route.owner == Owner::Adit {
            desired.routes.insert(*key, route.clone());
        }
    }
    each_whole!(K => K::all_mut(desired).extend(K::all(found).iter().cloned()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::apply;
    use crate::diff::diff;
    use crate::kernel::fake::FakeKernel;
    use crate::model::wireguard::{Device, Peer};
    use crate::model::{
        Address, AddressScope, Change, ChangeSet, Link, LinkKind, MAIN_TABLE, Object, Route, RouteKey,
        RouteKind, Rule, VethPeer,
    };
    use crate::net::{Family, PeerEndpoint, PublicKey};

    fn here() -> LinkName {
        LinkName::constant("d0")
    }

    fn other() -> LinkName {
        LinkName::constant("d1")
    }

    fn link(kind: LinkKind) -> Link {
        Link {
            owner: Owner::Adit,
            kind,
            mac: None,
            mtu: None,
            arp: true,
            generates_addresses: false,
            up: true,
        }
    }

    fn with_link(name: LinkName, kind: LinkKind) -> KernelState {
        let mut state = KernelState::default();
        state.links.insert(name, link(kind));
        state
    }

    /// Objects that may be declared under another name, beside the bridge that is declared under this one.
    fn found() -> KernelState {
        let mut state = with_link(here(), LinkKind::Bridge);
        state.links.insert(other(), link(LinkKind::WireGuard));
        state.aliases.insert(other(), "label".to_owned());
        let peer = Peer {
            endpoint: Some(PeerEndpoint::new("192.0.2.1".parse().unwrap(), 1)),
            ..Peer::default()
        };
        let device = Device {
            public_key: Some(PublicKey::from_bytes([1; 32])),
            listen_port: 7,
            fwmark: 0,
            peers: [(PublicKey::from_bytes([2; 32]), peer)].into(),
        };
        state.wireguard.insert(other(), device);
        let address = Address {
            owner: Owner::Adit,
            scope: AddressScope::of("10.0.0.1".parse().unwrap()),
            peer: None,
        };
        state
            .addresses
            .insert((other(), "10.0.0.1/24".parse().unwrap()), address);
        let route = Route {
            owner: Owner::Adit,
            kind: RouteKind::on_link(&other(), Family::Ipv4),
        };
        let key = RouteKey::new(MAIN_TABLE, "10.1.0.0/16".parse().unwrap(), 0);
        state.routes.insert(key, route);
        state.rules.insert(Rule::to_table(Family::Ipv4, 100, 100));
        state
    }

    #[test]
    fn a_pair_stays_or_goes_as_a_whole() {
        let (namespace, unreadable) = (Namespace::Pid(7), Namespace::Pid(8));
        let end = |namespace: Option<&Namespace>, name: LinkName| {
            LinkKind::Veth(VethPeer {
                namespace: namespace.cloned(),
                name,
            })
        };
        // The end `d0` is in the agent's namespace, its other end `d1` in this one.
        let pair = |far: &Namespace| {
            let mut state = with_link(here(), end(Some(far), other()));
            let there = with_link(other(), end(None, here()));
            state.namespaces.insert(far.clone(), there);
            state
        };
        let mut observed = pair(&namespace);
        observed.uncertain.insert(namespace.clone());
        observed.unreadable.insert(unreadable.clone(), "why".to_owned());
        for declared in [&namespace, &unreadable] {
            assert_eq!(diff(&observed, &pair(declared)), ChangeSet::default());
        }
        for desired in [KernelState::default(), with_link(here(), LinkKind::Dummy)] {
            let mut kernel = FakeKernel::new(observed.clone());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let report = runtime.block_on(apply(&mut kernel, diff(&observed, &desired)));
            assert_eq!(report.failures().count(), 0, "{report:?}");
            assert_eq!(kernel.state.links, desired.links);
            assert_eq!(diff(&kernel.state, &desired).changes, []);
        }
    }

    #[test]
    fn what_an_unreadable_name_may_have_declared_stays() {
        let namespace = Namespace::Pid(7);
        let with = |state: KernelState| KernelState {
            namespaces: [(namespace.clone(), state)].into(),
            ..KernelState::default()
        };
        let mut observed = with(found());
        let desired = with(with_link(here(), LinkKind::Bridge));
        assert_eq!(
            diff(&observed, &desired).changes.len(),
            4,
            "the device, its route, the rule and its address"
        );
        observed.uncertain.insert(namespace.clone());
        assert_eq!(diff(&observed, &desired).changes, []);
        assert_eq!(diff(&observed, &KernelState::default()).changes, []);

        // A port stays a port, even if its bridge is declared under the other name.
        let there = observed.namespaces.get_mut(&namespace).unwrap();
        there.links.insert(other(), link(LinkKind::Bridge));
        there.wireguard.clear();
        there.links.insert(here(), link(LinkKind::Dummy));
        there.masters.insert(here(), other());
        let desired = with(with_link(here(), LinkKind::Dummy));
        assert_eq!(diff(&observed, &desired).changes, []);

        // A declared device that is missing is created.
        let third = LinkName::constant("d2");
        let desired = with(with_link(third.clone(), LinkKind::Dummy));
        let made = diff(&observed, &desired).changes;
        let all_of_it = |change: &Change| change.action.object() == Object::Link(third.clone());
        assert!(made.len() == 2 && made.iter().all(all_of_it), "{made:?}");
    }
}
