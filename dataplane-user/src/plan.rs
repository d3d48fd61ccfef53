//! Computes the desired state from declared resources and facts. Pure: no ifindex, no slot, no clock, no
//! file.
//!
//! One file per kind of object, as in `model`. `links` runs first: it decides how each peer is reached, and
//! all others follow from that.

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
mod withdrawn;

use crate::model::facts::{NodeFacts, Presence, Unread};
use crate::model::{KernelState, Named, Owner};
use crate::net::Family;
use crate::resource::{Intent, Node, Problem, Reason};

pub use links::{Loop, Neighbour, NetworkLink, PeerLink, network_links};
pub use lookups::{gateways, lookups};
pub use mtu::overhead;
pub use nexthops::hop as route_hop;
pub(crate) use objects::wireguard::Marks;
pub use objects::wireguard::default_rules_of;
pub use objects::{Merged, merge as merge_routes};
pub use shadows::by_routes as shadowing_routes;
pub use wireguard::WireGuardLink;
pub use withdrawn::withdrawn;

/// What a part of the plan reads.
#[derive(Clone, Copy)]
struct Inputs<'a> {
    intent: &'a Intent,
    facts: &'a NodeFacts,
    networks: &'a [NetworkLink<'a>],
}

/// The desired state of this node's kernel, and the problems that prevent parts of the declared resources.
///
/// The desired state has only objects managed by Adit. A problem affects only its own subject: if a pair of
/// nodes can't communicate, all other pairs still can.
#[must_use]
pub fn plan(intent: &Intent, facts: &NodeFacts) -> (KernelState, Vec<Problem>) {
    let mut problems = own_problems(intent, facts);
    let networks = links::with_problems(intent, facts, &mut problems);
    // The networks whose packets can be forwarded. The others only get backstop routes and filters.
    let able = programs::able(intent, &networks, facts, &mut problems);
    let mut desired = KernelState::default();
    if intent.is_member() {
        devices::plan(intent, &able, &mut desired);
    }
    addresses::plan(intent, &mut desired);
    sysctls::plan(&mut desired);
    wireguard::plan(&able, &mut desired);
    let inputs = Inputs {
        intent,
        facts,
        networks: &networks,
    };
    firewall::plan(inputs, &mut desired, &mut problems);
    if programs::are_planned(&able, facts) {
        attachments::plan(&mut desired);
        sources::plan(&able, &mut desired);
    }
    bpf::plan(intent, &able, &mut desired, &mut problems);
    nexthops::plan(intent, &able, &mut desired);
    routes::plan(intent, &able, &mut desired, &mut problems);
    routes::backstops(&networks, &mut desired);
    // Late: the steps before treat all devices of the desired state as overlay devices, and the steps after need all
    // devices.
    objects::plan(intent, facts, &mut desired, &mut problems);
    return_path::plan(intent, facts, &mut desired, &mut problems);
    shadows::find(inputs, &desired, &mut problems);
    families::skip(facts, &mut desired, &mut problems);
    desired.named = named(intent);
    debug_assert!(desired.links.values().all(|link| link.owner == Owner::Adit));
    problems.sort();
    (desired, problems)
}

/// The peers that manifests name: the other nodes of this node's networks, and the peers of its WireGuard
/// interfaces.
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

/// Problems of this node itself.
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
                format!("no device of this machine has the underlay address {address}"),
                "peers send to this address: assign it to a device, translate it to this node by NAT, or correct spec.underlay"
                    .to_owned(),
            ));
        }
    }
    let without_effect = intent.without_effect().map(|(object, field)| {
        Problem::warning(
            Reason::Unsupported,
            object.clone(),
            format!("spec.{field} has no effect yet"),
            format!("remove spec.{field}, or keep it for a later version of Adit"),
        )
    });
    problems.extend(without_effect);
    problems.extend(unheard_namespaces(facts));
    problems.extend(unread_withdrawals(facts));
    problems
}

/// The list of withdrawn peers can't be read.
fn unread_withdrawals(facts: &NodeFacts) -> Option<Problem> {
    let Unread { why, known } = facts.withdrawn_unread.as_ref()?;
    let severity = if *known { Problem::warning } else { Problem::error };
    let meanwhile = match known {
        true => "the peers of the previous list stay withdrawn",
        false => {
            "peers to which the kernel sends no packets now stay withdrawn, and all others are used, even if they were \
             withdrawn before the machine was booted"
        }
    };
    Some(severity(
        Reason::WithdrawnUnreadable,
        "withdrawn peers".to_owned(),
        format!("the list of withdrawn peers can't be read: {why}; {meanwhile}"),
        "write the id of one withdrawn peer on each line of the file, or remove the file if no peer is withdrawn"
            .to_owned(),
    ))
}

/// Without kernel events, changes of others in the namespaces that manifests name are noticed late.
fn unheard_namespaces(facts: &NodeFacts) -> Option<Problem> {
    let why = facts.unheard_namespaces.as_ref()?;
    let mut presences = facts.namespaces.iter();
    let (namespace, _) = presences.find(|(_, presence)| matches!(presence, Presence::There(_)))?;
    Some(Problem::warning(
        Reason::EventsMissing,
        namespace.to_string(),
        format!(
            "the agent receives no kernel events from other namespaces: {why}; only full reconciliations repair drift there"
        ),
        "give the agent CAP_NET_BROADCAST (packaging/systemd/adit.service.d/namespaces.conf)".to_owned(),
    ))
}
