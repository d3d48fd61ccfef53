//! Computes where a state forwards packets, by rules, routes, next-hop objects and maps, as a kernel would.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane_user::model::devices::ANCHOR;
use dataplane_user::model::{
    KernelState, LinkKind, MAIN_TABLE, NextHop, NextHopObject, PrefixTarget, RouteHop, RouteKind, TunnelKind,
};
use dataplane_user::net::{Family, LinkName};
use ipnet::IpNet;

/// The devices by which packets to the first address of a prefix leave; `None` if they do not leave.
#[must_use]
pub fn devices(state: &KernelState, prefix: &IpNet) -> Option<BTreeSet<LinkName>> {
    for table in tables(state, prefix) {
        let routes = state.routes.iter();
        let matching = routes.filter(|(key, _)| key.table == table && key.prefix.contains(&prefix.addr()));
        let best = matching.max_by_key(|(key, _)| (key.prefix.prefix_len(), std::cmp::Reverse(key.metric)));
        match best.map(|(_, route)| &route.kind) {
            None | Some(RouteKind::Throw) => {}
            Some(RouteKind::Gateway { link, .. }) => {
                let led = link.as_str() == ANCHOR && is_up(state, link);
                return led.then(|| by_program(state, prefix))?;
            }
            Some(RouteKind::NextHop { object, .. }) => return by_object(state, prefix, object),
            Some(RouteKind::Paths(paths)) => {
                let links = paths.hops.iter().map(|hop| hop.link.clone());
                return links.collect();
            }
            Some(RouteKind::Unreachable | RouteKind::Blackhole | RouteKind::Other(_)) => return None,
        }
    }
    None
}

/// The tables that are looked up, in order.
fn tables(state: &KernelState, prefix: &IpNet) -> impl Iterator<Item = u32> {
    let family = Family::of_prefix(*prefix);
    let all = move |rule: &&dataplane_user::model::Rule| {
        rule.family == family && rule.iif.is_none() && rule.mark.is_none()
    };
    state
        .rules
        .iter()
        .filter(all)
        .map(|rule| rule.table)
        .chain([MAIN_TABLE])
}

fn by_program(state: &KernelState, prefix: &IpNet) -> Option<BTreeSet<LinkName>> {
    let matching = state
        .prefixes
        .iter()
        .filter(|(known, _)| known.contains(&prefix.addr()));
    let (found, target) = matching.max_by_key(|(known, _)| known.prefix_len())?;
    map_devices(state, found, target)
}

/// The devices that a prefix of the maps leads to; `None` if one of its next hops leads nowhere.
#[must_use]
pub fn map_devices(state: &KernelState, prefix: &IpNet, target: &PrefixTarget) -> Option<BTreeSet<LinkName>> {
    let device = |next_hop: &std::sync::Arc<NextHop>| {
        let link = state.classes.get(&next_hop.class)?.as_ref()?;
        let taken = next_hop.class.tunnel != TunnelKind::WireGuard || is_allowed(state, link, prefix);
        (state.next_hops.contains(next_hop) && is_up(state, link) && taken).then(|| link.clone())
    };
    target.next_hops().map(device).collect()
}

fn by_object(state: &KernelState, prefix: &IpNet, object: &NextHopObject) -> Option<BTreeSet<LinkName>> {
    let device = |hop: &std::sync::Arc<RouteHop>| {
        let there = state.next_hop_objects.contains(&NextHopObject::Hop(hop.clone()));
        let taken = !hop.is_wireguard() || is_allowed(state, &hop.link, prefix);
        let leads = there && taken && is_up(state, &hop.link) && knows_neighbour(state, hop);
        leads.then(|| hop.link.clone())
    };
    let there = state.next_hop_objects.contains(object);
    there.then(|| object.hops().map(device).collect())?
}

fn knows_neighbour(state: &KernelState, hop: &RouteHop) -> bool {
    let kind = state.links.get(&hop.link).map(|link| &link.kind);
    let ethernet = matches!(kind, Some(LinkKind::Geneve { .. } | LinkKind::Vxlan { .. }));
    let known = |gateway: IpAddr| state.neighbours.contains_key(&(hop.link.clone(), gateway));
    !ethernet || hop.gateway.is_some_and(known)
}

fn is_up(state: &KernelState, link: &LinkName) -> bool {
    state.links.get(link).is_some_and(|link| link.up)
}

/// Whether a WireGuard device has a peer for a prefix.
fn is_allowed(state: &KernelState, link: &LinkName, prefix: &IpNet) -> bool {
    let device = state.wireguard.get(link);
    let device = device.filter(|device| device.public_key.is_some());
    let mut peers = device.into_iter().flat_map(|device| device.peers.values());
    peers.any(|peer| peer.allowed_ips.contains(prefix))
}
