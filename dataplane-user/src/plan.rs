//! From what users want to what the kernel shall hold. Pure: no ifindex, no slot, no clock, no file.
//!
//! One file a kind of object, as in `model`; `links` comes first: it says which node is reached how, and all others
//! follow from that.

mod addresses;
mod advertised;
mod attachments;
mod bpf;
mod devices;
mod families;
mod firewall;
mod links;
mod lookups;
mod mtu;
mod nexthops;
mod objects;
mod programs;
mod return_path;
mod routes;
mod shadows;
mod sources;
mod sysctls;
#[cfg(test)]
mod tests;
pub mod wireguard;

use crate::model::facts::{NodeFacts, Presence};
use crate::model::{KernelState, Named, Owner};
use crate::net::Family;
use crate::resource::{Intent, Node, Problem, Reason};

pub use links::{Loop, Neighbour, NetworkLink, PeerLink, network_links};
pub use lookups::lookups;
pub use mtu::overhead;
pub use nexthops::hop as route_hop;
pub(crate) use objects::wireguard::Marks;
pub use objects::wireguard::default_rules_of;
pub use objects::{Merged, merge as merge_routes};
pub use wireguard::WireGuardLink;

/// What the kernel of this node shall hold, and what stands in the way of having all that was declared.
///
/// The target holds only objects of ours. A problem never takes away more than what it is about: a pair of nodes that
/// can't talk leaves all others talking.
#[must_use]
pub fn plan(intent: &Intent, facts: &NodeFacts) -> (KernelState, Vec<Problem>) {
    let mut problems = own_problems(intent, facts);
    let networks = links::with_problems(intent, facts, &mut problems);
    // Those whose packets can be carried; of the others backstops and filters stand.
    let able = programs::able(intent, &networks, facts, &mut problems);
    let mut target = KernelState::default();
    if intent.is_member() {
        devices::plan(intent, &able, &mut target);
    }
    addresses::plan(intent, &mut target);
    sysctls::plan(&mut target);
    wireguard::plan(&able, &mut target);
    firewall::plan(intent, (facts, &networks), &mut target, &mut problems);
    if programs::are_planned(&able, facts) {
        attachments::plan(&mut target);
        sources::plan(&able, &mut target);
    }
    bpf::plan(intent, &able, &mut target, &mut problems);
    nexthops::plan(intent, &able, &mut target);
    routes::plan(intent, &able, &mut target, &mut problems);
    routes::backstops(&networks, &mut target);
    // Late: those before speak of all devices in the target, and what comes then wants them all.
    objects::plan(intent, facts, &mut target, &mut problems);
    return_path::plan(intent, facts, &mut target, &mut problems);
    shadows::find(intent, (facts, &networks), &target, &mut problems);
    families::skip(facts, &mut target, &mut problems);
    target.named = named(intent);
    debug_assert!(target.links.values().all(|link| link.owner == Owner::Ours));
    problems.sort();
    (target, problems)
}

/// The peers of this node that manifests name: the other nodes of its networks, and the peers of its WireGuard interfaces.
fn named(intent: &Intent) -> Named {
    let own = intent.node();
    let shares_a_network = |node: &&Node| node.networks.iter().any(|network| own.networks.contains(network));
    let mut named = Named::default();
    for node in intent.resources().nodes.values().filter(shares_a_network) {
        named.addresses.extend(
            Family::BOTH
                .into_iter()
                .filter_map(|family| node.underlay.address(family)),
        );
        if let Some(end) = &node.wireguard {
            named.keys.insert(end.public_key);
            named.keys.extend(end.next_public_key);
        }
    }
    let declared = intent.resources().netlink.wireguard.values();
    for placed in declared.filter(|placed| placed.nodes.contains(&own.name)) {
        named
            .keys
            .extend(placed.object.peers.iter().map(|peer| peer.public_key));
    }
    named
}

/// What is odd about this very node.
fn own_problems(intent: &Intent, facts: &NodeFacts) -> Vec<Problem> {
    let node = intent.node();
    let mut problems = Vec::new();
    let underlay = [
        node.underlay.ipv4.map(Into::into),
        node.underlay.ipv6.map(Into::into),
    ];
    for address in underlay.into_iter().flatten() {
        if !facts.local_addresses.contains(&address) {
            problems.push(Problem::warning(
                Reason::ForeignUnderlay,
                format!("TunnelNode/{}", node.name),
                format!("underlay address {address} is on no device of this machine"),
                "peers send there: assign it, translate it towards this node, or correct spec.underlay"
                    .to_owned(),
            ));
        }
    }
    let without_effect = intent.without_effect().map(|(object, field)| {
        Problem::warning(
            Reason::Unsupported,
            object.clone(),
            format!("spec.{field} has no effect yet"),
            format!("delete spec.{field}, or leave it for a later version"),
        )
    });
    problems.extend(without_effect);
    problems.extend(unheard_namespaces(facts));
    problems
}

/// What others change in the namespaces that manifests name is seen late where the kernel does not tell of it.
fn unheard_namespaces(facts: &NodeFacts) -> Option<Problem> {
    let why = facts.unheard_namespaces.as_ref()?;
    let mut presences = facts.namespaces.iter();
    let (namespace, _) = presences.find(|(_, presence)| matches!(presence, Presence::There(_)))?;
    Some(Problem::warning(
        Reason::EventsMissing,
        namespace.to_string(),
        format!(
            "the kernel's events from other namespaces are not heard: {why}; drift there is repaired by full reconciliations only"
        ),
        "give the agent CAP_NET_BROADCAST (packaging/systemd/adit.service.d/namespaces.conf)".to_owned(),
    ))
}
