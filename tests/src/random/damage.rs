//! Damage: changes of the kernel state by others than the agent.

use dataplane_user::model::{
    KernelState, Link, LinkKind, NextHopObject, Owner, ProgramVersion, Route, RouteKey, RouteKind, wireguard,
};
use dataplane_user::net::{LinkName, PeerEndpoint};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::{firewall, foreign_link};

/// A change of the kernel state by others than the agent.
#[derive(Clone, Debug)]
pub enum Damage {
    /// A device is deleted, with everything on it.
    DeleteLink(Index),
    /// A device goes down; the kernel drops the routes through it.
    LinkDown(Index),
    /// A device is replaced by an unmanaged one of the same name.
    ForeignLink(Index),
    /// A device is replaced by an unmanaged one of its kind under another name.
    ForeignTwin(Index),
    /// A device has another port, MTU or MAC.
    OtherLink(Index),
    /// A route is deleted.
    DeleteRoute(Index),
    /// An unmanaged route has the position of a managed one.
    ForeignRoute(Index),
    /// A managed route for another type of service exists beside a managed one.
    TypeOfService(Index),
    /// An address is deleted; the kernel drops the routes that need it.
    DeleteAddress(Index),
    /// A policy rule is deleted.
    DeleteRule(Index),
    /// A setting is changed.
    OtherSysctl(Index),
    /// A program is detached, or an old one is attached.
    Program(Index, bool),
    /// A next-hop object is deleted, and the routes that lead only to it.
    DeleteHop(Index),
    /// A group of next-hop objects is deleted, and the routes that lead to it.
    DeleteGroup(Index),
    /// A neighbour is deleted, or becomes an unmanaged one.
    Neighbour(Index, bool),
    /// A prefix is deleted.
    DeletePrefix(Index),
    /// A known source is deleted.
    DeleteSource(Index),
    /// A WireGuard device gets another port, loses a peer, or a peer roams.
    WireGuard(Index, u8),
    /// The nft table is deleted, changed, or replaced by one of somebody else.
    Firewall(u8),
    /// A stale managed object exists.
    StrayLink,
    /// The devices of the underlay were recreated with their names, so their classes have stale indexes.
    UnderlayAnew,
}

/// Up to four kinds of damage.
pub fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let index = any::<Index>;
    let one = prop_oneof![
        index().prop_map(Damage::DeleteLink),
        index().prop_map(Damage::LinkDown),
        index().prop_map(Damage::ForeignLink),
        index().prop_map(Damage::ForeignTwin),
        index().prop_map(Damage::OtherLink),
        index().prop_map(Damage::DeleteRoute),
        index().prop_map(Damage::ForeignRoute),
        index().prop_map(Damage::TypeOfService),
        index().prop_map(Damage::DeleteAddress),
        index().prop_map(Damage::DeleteRule),
        index().prop_map(Damage::OtherSysctl),
        (index(), any::<bool>()).prop_map(|(i, stale)| Damage::Program(i, stale)),
        index().prop_map(Damage::DeleteHop),
        index().prop_map(Damage::DeleteGroup),
        (index(), any::<bool>()).prop_map(|(i, foreign)| Damage::Neighbour(i, foreign)),
        index().prop_map(Damage::DeletePrefix),
        index().prop_map(Damage::DeleteSource),
        (index(), 0u8..4).prop_map(|(i, how)| Damage::WireGuard(i, how)),
        (0u8..4).prop_map(Damage::Firewall),
        Just(Damage::StrayLink),
        Just(Damage::UnderlayAnew),
    ];
    vec(one, 0..4)
}

/// Applies a damage to a state.
pub fn damage(state: &mut KernelState, damage: &Damage) {
    match damage {
        Damage::DeleteLink(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                state.forget_link(&name);
            }
        }
        Damage::LinkDown(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                state.links.get_mut(&name).expect("picked").up = false;
                state.forget_paths(&name);
            }
        }
        Damage::ForeignLink(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                state.forget_link(&name);
                state.links.insert(name, foreign_link());
            }
        }
        Damage::ForeignTwin(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                let link = Link {
                    kind: state.links[&name].kind.clone(),
                    ..foreign_link()
                };
                state.forget_link(&name);
                state.links.insert(LinkName::constant("twin"), link);
            }
        }
        Damage::OtherLink(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                let link = state.links.get_mut(&name).expect("picked");
                link.mtu = link.mtu.map(|mtu| mtu + 1);
                link.kind = LinkKind::Geneve { port: 1 };
            }
        }
        Damage::DeleteRoute(index) => {
            if let Some(key) = pick(state.routes.keys(), index) {
                state.routes.remove(&key);
            }
        }
        Damage::ForeignRoute(index) => {
            if let Some(key) = pick(state.routes.keys(), index) {
                let kind = RouteKind::Other("blackhole".to_owned());
                state.routes.insert(
                    key,
                    Route {
                        owner: Owner::Other,
                        kind,
                    },
                );
            }
        }
        Damage::TypeOfService(index) => {
            let managed = state.routes.iter();
            let managed =
                managed.filter(|(key, route)| route.owner == Owner::Adit && key.prefix.addr().is_ipv4());
            let keys = managed.map(|(key, _)| key).collect::<Vec<_>>();
            if let Some(key) = pick(keys.into_iter(), index) {
                let route = state.routes[&key].clone();
                state.routes.insert(RouteKey { tos: 0x10, ..key }, route);
            }
        }
        Damage::DeleteAddress(index) => {
            if let Some((link, address)) = pick(state.addresses.keys(), index) {
                state.forget_address(&link, address);
            }
        }
        Damage::DeleteRule(index) => {
            if let Some(rule) = pick(state.rules.iter(), index) {
                state.rules.remove(&rule);
            }
        }
        Damage::OtherSysctl(index) => {
            if let Some(key) = pick(state.sysctls.keys(), index) {
                state.sysctls.insert(key, "1".to_owned());
            }
        }
        Damage::Program(index, stale) => {
            if let Some(key) = pick(state.attachments.keys(), index) {
                if *stale {
                    state.attachments.get_mut(&key).expect("picked").version = ProgramVersion::Stale;
                } else {
                    state.attachments.remove(&key);
                }
            }
        }
        Damage::DeleteHop(index) => {
            if let Some(NextHopObject::Hop(hop)) = pick(state.next_hop_objects.iter(), index) {
                state.forget_hops(|gone| *gone == *hop);
            }
        }
        Damage::DeleteGroup(index) => {
            let groups = state.next_hop_objects.iter();
            let groups = groups.filter(|target| matches!(target, NextHopObject::Group(_)));
            if let Some(group) = pick(groups.collect::<Vec<_>>().into_iter(), index) {
                state.next_hop_objects.remove(&group);
                state
                    .routes
                    .retain(|_, route| route.next_hop_object() != Some(&group));
            }
        }
        Damage::Neighbour(index, foreign) => {
            if let Some(key) = pick(state.neighbours.keys(), index) {
                if *foreign {
                    state.neighbours.get_mut(&key).expect("picked").owner = Owner::Other;
                } else {
                    state.neighbours.remove(&key);
                }
            }
        }
        Damage::DeletePrefix(index) => {
            if let Some(prefix) = pick(state.prefixes.keys(), index) {
                state.prefixes.remove(&prefix);
            }
        }
        Damage::DeleteSource(index) => {
            if let Some(source) = pick(state.sources.iter(), index) {
                state.sources.remove(&source);
            }
        }
        Damage::WireGuard(index, how) => {
            if let Some(name) = pick(state.wireguard.keys(), index) {
                harm_wireguard(state.wireguard.get_mut(&name).expect("picked"), index, *how);
            }
        }
        Damage::Firewall(how) => firewall::harm(&mut state.firewall, *how),
        Damage::StrayLink => {
            let link = Link {
                owner: Owner::Adit,
                ..foreign_link()
            };
            state.links.insert(LinkName::constant("adit-stray"), link);
        }
        Damage::UnderlayAnew => {
            for name in crate::situation::underlay().links.keys() {
                state.forget_link(name);
            }
        }
    }
}

fn harm_wireguard(device: &mut wireguard::Device, index: &Index, how: u8) {
    let peer = pick(device.peers.keys(), index);
    match (how, peer) {
        (1, Some(peer)) => drop(device.peers.remove(&peer)),
        (2, Some(peer)) => {
            let peer = device.peers.get_mut(&peer).expect("picked");
            peer.endpoint = Some(PeerEndpoint::new([203, 0, 113, 1].into(), 1));
            peer.keepalive = 1;
            peer.allowed_ips.pop_first();
        }
        (3, _) => device.public_key = None,
        _ => device.listen_port = 1,
    }
}

fn pick<'a, T: Clone + 'a>(items: impl ExactSizeIterator<Item = &'a T>, index: &Index) -> Option<T> {
    let items = items.collect::<Vec<_>>();
    if items.is_empty() {
        None
    } else {
        Some((*index.get(&items)).clone())
    }
}
