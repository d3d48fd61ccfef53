//! Networks with dataplane `routes`: for each prefix that a peer advertises, a route to a next-hop object or
//! a group of them, and the neighbours of their gateways.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::advertised::{Share, advertised, of_prefixes};
use super::links::overlay_address;
use super::{NetworkLink, PeerLink};
use crate::model::{
    ANCHOR_METRIC, KernelState, MAIN_TABLE, Neighbour, NextHopObject, OuterHeader, Owner, Route, RouteGroup,
    RouteHop, RouteKey, RouteKind, Rule,
};
use crate::net::{Family, MacAddr};
use crate::resource::{Dataplane, Intent, Network};

/// The priority of the rules that lead to separate tables: before the rule of the main table, 32766.
const RULE_PRIORITY: u32 = 1730;

pub(super) fn plan(intent: &Intent, networks: &[NetworkLink<'_>], desired: &mut KernelState) {
    let own = |links: &&NetworkLink<'_>| links.dataplane == Dataplane::Routes;
    let mtus = networks.iter().map(|links| (&links.network.name, links.mtu()));
    let mtus = mtus.collect::<BTreeMap<_, _>>();
    for (prefix, shares) in of_prefixes(networks.iter().filter(own)) {
        let Some(network) = shares.first().map(|share| share.network) else {
            continue;
        };
        let source = overlay_address(intent.node(), network, Family::of_prefix(prefix));
        let is_own = advertised(intent.node(), network).any(|advertised| advertised.cidr == prefix);
        let (Some(source), false) = (source, is_own) else {
            continue;
        };
        let Some(leads_to) = combine(&shares, network.routes.resilient) else {
            continue;
        };
        for share in shares.iter().filter(|share| !share.peer.withdrawn) {
            add_neighbour(share.peer, desired);
        }
        desired
            .next_hop_objects
            .extend(leads_to.hops().cloned().map(NextHopObject::Hop));
        desired.next_hop_objects.insert(leads_to.clone());
        let kind = RouteKind::NextHop {
            object: leads_to,
            source: Some(source),
            mtu: mtus.get(&network.name).copied(),
        };
        put(network, prefix, kind, desired);
    }
    // A separate table is looked up before the main one, which has the routes of this node itself.
    for links in networks
        .iter()
        .filter(own)
        .filter(|links| links.network.routes.table != MAIN_TABLE)
    {
        for own in advertised(intent.node(), links.network) {
            put(links.network, own.cidr, RouteKind::Throw, desired);
        }
        let rule = |family| Rule::to_table(family, RULE_PRIORITY, links.network.routes.table);
        desired.rules.extend(Family::BOTH.map(rule));
    }
}

/// The next hop to a peer; `None` while there is none.
#[must_use]
pub fn hop(network: &Network, peer: &PeerLink<'_>) -> Option<RouteHop> {
    let link = peer.device()?;
    let tunnel = peer.tunnel();
    let neighbour = peer.neighbour.as_ref().map(|neighbour| neighbour.address);
    let mac = tunnel
        .carries_ethernet()
        .then(|| MacAddr::of_node(&peer.node.name));
    Some(RouteHop {
        link,
        gateway: neighbour.or(mac.map(|mac| IpAddr::V6(mac.link_local()))),
        encapsulation: tunnel.takes_tunnel_key().then(|| outer_header(network, peer)),
    })
}

fn outer_header(network: &Network, peer: &PeerLink<'_>) -> OuterHeader {
    let over_ipv4 = peer.remote.is_ipv4();
    let ethernet = peer.tunnel().carries_ethernet();
    OuterHeader {
        id: if ethernet { network.vni.into() } else { 0 },
        local: peer.local,
        remote: peer.remote,
        ttl: network.ttl,
        // The kernel can't copy an inner DSCP for these.
        tos: network.dscp.unwrap_or(0) << 2,
        dont_fragment: network.df && over_ipv4,
        checksum: ethernet && !network.zero_checksum(Family::of(peer.remote)),
    }
}

/// The next-hop object of a prefix. If several next hops share the prefix, it stays a group when all but one
/// are withdrawn, so that it can change in place, and back.
fn combine(shares: &[Share<'_, '_>], resilient: bool) -> Option<NextHopObject> {
    let mut declared: BTreeMap<Arc<RouteHop>, Option<u8>> = BTreeMap::new();
    for share in shares {
        let hop = Arc::new(hop(share.network, share.peer)?);
        let weight = declared.entry(hop).or_default();
        if !share.peer.withdrawn {
            // Peers behind the same gateway are one next hop.
            *weight = Some(weight.unwrap_or(0).saturating_add(share.weight));
        }
    }
    let several = declared.len() > 1;
    let usable = declared
        .into_iter()
        .filter_map(|(hop, weight)| Some((hop, weight?)));
    let mut members = usable.collect::<Vec<_>>();
    if members.is_empty() {
        return None;
    }
    if several {
        return Some(NextHopObject::Group(Arc::new(RouteGroup { members, resilient })));
    }
    members.pop().map(|(hop, _)| NextHopObject::Hop(hop))
}

/// Adds the device of a peer as a neighbour, if the tunnel has Ethernet frames.
fn add_neighbour(peer: &PeerLink<'_>, desired: &mut KernelState) {
    let (true, Some(link)) = (peer.tunnel().carries_ethernet(), peer.device()) else {
        return;
    };
    let mac = MacAddr::of_node(&peer.node.name);
    let neighbour = Neighbour {
        owner: Owner::Adit,
        mac,
    };
    desired
        .neighbours
        .insert((link, IpAddr::V6(mac.link_local())), neighbour);
}

fn put(network: &Network, prefix: IpNet, kind: RouteKind, desired: &mut KernelState) {
    let key = RouteKey::new(network.routes.table, prefix, ANCHOR_METRIC);
    let route = Route {
        owner: Owner::Adit,
        kind,
    };
    desired.routes.insert(key, route);
}
