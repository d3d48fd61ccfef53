//! Namespaces that may be the same as unreadable ones, under another name. Objects that no manifest declares
//! there may be declared under the other name, so they stay.

use std::collections::BTreeSet;

use crate::model::change::Whole as _;
use crate::model::{KernelState, Owner, each_whole};
use crate::net::LinkName;

/// Adds to the desired state the objects that exist in such a namespace and are not in the desired state. If
/// both have a route with the same key, the observed one stays: manifests with several names of the namespace
/// may declare it together.
pub(super) fn keep(observed: &KernelState, desired: &mut KernelState) {
    for namespace in &observed.uncertain {
        if let Some(found) = observed.namespaces.get(namespace) {
            keep_in(found, desired.namespaces.entry(namespace.clone()).or_default());
        }
    }
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
    use crate::diff::diff;
    use crate::model::wireguard::{Device, Peer};
    use crate::model::{
        Address, AddressScope, Change, Link, LinkKind, MAIN_TABLE, Object, Route, RouteKey, RouteKind, Rule,
    };
    use crate::net::{Family, Namespace, PeerEndpoint, PublicKey};

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
