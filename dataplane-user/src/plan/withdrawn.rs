//! Which peers the kernel shows as withdrawn, while the list of withdrawn peers can't be read. Pure.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::nexthops::hop;
use super::{NetworkLink, PeerLink, network_links};
use crate::model::facts::NodeFacts;
use crate::model::{Hop, KernelState, NextHop, NextHopObject, NodeLabel, Owner, RouteHop, devices};
use crate::net::PeerId;
use crate::resource::netlink::RouteAction;
use crate::resource::{Dataplane, Intent, Network};

/// The peers to which the observed state sends no packets, although the desired state without withdrawn peers,
/// `used`, does. Maps mark the next hops of withdrawn peers; routes do not have them. If no agent has created
/// anything since the machine was booted, missing routes show nothing, and no peer counts as withdrawn.
#[must_use]
pub fn withdrawn(
    intent: &Intent,
    facts: &NodeFacts,
    used: &KernelState,
    observed: &KernelState,
) -> BTreeSet<PeerId> {
    if !has_run(observed) {
        return BTreeSet::new();
    }
    let networks = network_links(intent, facts);
    let links = networks
        .iter()
        .flat_map(|links| links.peers.iter().map(move |peer| (links, peer)));
    let in_overlays = links.filter(|(links, peer)| is_withdrawn(links, peer, used, observed));
    let mut withdrawn = in_overlays
        .map(|(_, peer)| PeerId::from(&peer.node.name))
        .collect::<BTreeSet<_>>();
    withdrawn.extend(declared(intent, used, observed));
    withdrawn
}

/// Whether an agent has created routes or devices since the machine was booted; `adit early` creates only the
/// anchor device and routes that refuse packets.
fn has_run(observed: &KernelState) -> bool {
    let mut links = observed.links.iter();
    let mut routes = observed.routes.values();
    links.any(|(name, link)| link.owner == Owner::Adit && name.as_str() != devices::ANCHOR)
        || routes.any(|route| route.owner == Owner::Adit && !route.refuses())
}

/// Whether the peer should get packets and gets none. New maps show nothing: those of an agent always have
/// next hops, because all peers of a prefix are kept if all of them are withdrawn.
fn is_withdrawn(
    links: &NetworkLink<'_>,
    peer: &PeerLink<'_>,
    used: &KernelState,
    observed: &KernelState,
) -> bool {
    let is_shown = links.dataplane == Dataplane::Routes || !observed.next_hops.is_empty();
    let sends = |state: &KernelState| sends(state, links.network, peer);
    is_shown && sends(used) && !sends(observed)
}

/// Whether packets are sent to a peer, by either dataplane.
fn sends(state: &KernelState, network: &Network, peer: &PeerLink<'_>) -> bool {
    let label = NodeLabel::of(&peer.node.name);
    let usable = |next_hop: &Arc<NextHop>| next_hop.node == label && !state.down.contains(next_hop);
    state.next_hops.iter().any(usable) || hop(network, peer).is_some_and(|hop| leads(state, &hop))
}

/// Whether a next-hop object leads to the same destination.
fn leads(state: &KernelState, to: &RouteHop) -> bool {
    let remote = |hop: &RouteHop| hop.encapsulation.as_ref().map(|outer| outer.remote);
    state.next_hop_objects.iter().any(|desired| match desired {
        NextHopObject::Hop(hop) => {
            (&hop.link, hop.gateway, remote(hop)) == (&to.link, to.gateway, remote(to))
        }
        NextHopObject::Group(_) | NextHopObject::Other(_) => false,
    })
}

/// The peers of declared routes whose next hops are missing.
fn declared<'a>(
    intent: &'a Intent,
    used: &'a KernelState,
    observed: &'a KernelState,
) -> impl Iterator<Item = PeerId> {
    let routes = intent.resources().netlink.routes.values();
    let here = routes.filter(|placed| placed.nodes.contains(&intent.node().name));
    here.flat_map(move |placed| {
        let key = placed.object.key();
        let in_state = move |state: &KernelState, hop: &Hop| {
            let route = state
                .at(placed.namespace.as_ref())
                .and_then(|there| there.routes.get(&key));
            let paths = route.and_then(|route| route.kind.paths());
            let same = |other: &Hop| (other.gateway, other.encap) == (hop.gateway, hop.encap);
            paths.is_some_and(|paths| paths.hops.iter().any(same))
        };
        let hops = match &placed.object.action {
            RouteAction::Unicast(hops) => hops.as_slice(),
            RouteAction::Blackhole | RouteAction::Unreachable => &[],
        };
        let missing = hops
            .iter()
            .filter(move |peer| in_state(used, &peer.hop) && !in_state(observed, &peer.hop));
        missing.filter_map(|peer| peer.peer.clone())
    })
}
