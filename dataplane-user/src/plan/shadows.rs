//! Routes that take packets which should enter the overlay: a subnet of this machine, an allowed IP of a
//! declared WireGuard device, or a route of somebody else, that is more specific than the overlay route.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::advertised::advertised;
use super::{Inputs, NetworkLink, network_links};
use crate::limits;
use crate::model::devices::is_overlay_device;
use crate::model::facts::NodeFacts;
use crate::model::order::NetSet;
use crate::model::{ANCHOR_METRIC, KernelState, MAIN_TABLE, Owner, RouteKey};
use crate::net::{Family, LinkName};
use crate::resource::{Dataplane, Intent, Problem, Reason};

/// The metrics that the kernel gives to routes to the subnets of addresses (`IP6_RT_PRIO_ADDRCONF`,
/// linux/ipv6_route.h).
const SUBNET_METRIC_V4: u32 = 0;
const SUBNET_METRIC_V6: u32 = 256;

/// A route outside the overlay, and a description of its origin.
struct Other {
    key: RouteKey,
    what: String,
    remedy: String,
}

/// Runs last: it reads declared routes from the desired state.
pub(super) fn find(
    Inputs {
        intent,
        facts,
        networks,
    }: Inputs<'_>,
    desired: &KernelState,
    problems: &mut Vec<Problem>,
) {
    let others = allowed_ips(intent, desired).into_iter();
    tell(
        intent,
        networks,
        &others.chain(subnets(facts)).collect::<Vec<_>>(),
        problems,
    );
}

/// The problems that routes which others have added take packets of the overlay; only the first ones.
#[must_use]
pub fn by_routes(intent: &Intent, facts: &NodeFacts, observed: &KernelState) -> Vec<Problem> {
    let mut problems = Vec::new();
    let foreign = observed.routes.iter();
    let foreign = foreign.filter(|(key, route)| route.owner == Owner::Other && key.table == MAIN_TABLE);
    let mut foreign = foreign.peekable();
    if foreign.peek().is_none() {
        return problems;
    }
    let networks = network_links(intent, facts);
    // There may be many routes and many peers, so most routes are excluded by one lookup.
    let of_peers = networks.iter().flat_map(|links| {
        let peers = links.peers.iter();
        peers.flat_map(|peer| advertised(peer.node, links.network).map(|advertised| advertised.cidr))
    });
    let of_peers = of_peers.collect::<NetSet>();
    let foreign = foreign.filter(|(key, _)| of_peers.overlaps(&key.prefix));
    let others = foreign.map(|(key, route)| Other {
        key: *key,
        what: format!("the route {key} {}", route.kind),
        remedy: remedy(key),
    });
    for other in others {
        tell(intent, &networks, &[other], &mut problems);
        if problems.len() >= limits::NAMED_SHADOWS {
            break;
        }
    }
    problems
}

fn remedy(key: &RouteKey) -> String {
    match key.prefix.prefix_len() {
        0 => format!(
            "give this default route a metric above {ANCHOR_METRIC}, or declare an overlay that does not contain everything"
        ),
        _ => format!("delete the route with `ip route delete {key}`, or change the prefixes of the peer"),
    }
}

fn tell(intent: &Intent, networks: &[NetworkLink<'_>], others: &[Other], problems: &mut Vec<Problem>) {
    for links in networks {
        let prefixes = &links.network.prefixes;
        let near = others.iter().filter(|other| {
            let overlaps = |prefix: &IpNet| overlap(prefix, &other.key.prefix);
            prefixes.iter().any(overlaps)
        });
        for other in near {
            let hidden = hidden(intent, links, &other.key);
            let Some((peer, prefix)) = hidden.first() else {
                continue;
            };
            let more = match hidden.len() {
                1 => String::new(),
                all => format!(", and for {} other prefixes of peers", all - 1),
            };
            problems.push(Problem::warning(
                Reason::Shadowed,
                format!("TunnelNetwork/{}", links.network.name),
                format!(
                    "{} takes precedence over the overlay for {prefix}, which TunnelNode/{peer} advertises{more}",
                    other.what
                ),
                other.remedy.clone(),
            ));
        }
    }
}

/// The prefixes of peers whose packets a route takes, in whole or in part.
fn hidden<'a>(intent: &Intent, links: &NetworkLink<'a>, other: &RouteKey) -> Vec<(&'a str, IpNet)> {
    let own: Vec<IpNet> = advertised(intent.node(), links.network)
        .map(|own| own.cidr)
        .collect();
    // Packets to prefixes that this node advertises itself are sent to no peer.
    let is_own = |prefix: &IpNet| own.iter().any(|own| own.contains(prefix));
    if is_own(&other.prefix) {
        return Vec::new();
    }
    let peers = links.peers.iter();
    let prefixes = peers.flat_map(|peer| {
        let advertised = advertised(peer.node, links.network);
        advertised.map(move |advertised| (peer.node.name.as_str(), advertised.cidr))
    });
    let taken = prefixes.filter(|(_, prefix)| {
        overlap(prefix, &other.prefix)
            && !is_own(prefix)
            && overlay_route(links, *prefix).is_some_and(|route| wins(other, &route))
    });
    taken.collect()
}

/// The overlay route of a prefix.
fn overlay_route(links: &NetworkLink<'_>, prefix: IpNet) -> Option<RouteKey> {
    let (table, prefix) = match links.dataplane {
        Dataplane::Ebpf => {
            let mut around = links.network.prefixes.iter();
            (MAIN_TABLE, *around.find(|around| around.contains(&prefix))?)
        }
        Dataplane::Routes => (links.network.routes.table, prefix),
    };
    Some(RouteKey::new(table, prefix, ANCHOR_METRIC))
}

/// Whether a route of the main table wins if both contain a destination. A separate table of the overlay is
/// looked up first.
fn wins(other: &RouteKey, overlay: &RouteKey) -> bool {
    let rank = |key: &RouteKey| (u8::MAX - key.prefix.prefix_len(), key.metric);
    overlay.table == MAIN_TABLE && rank(other) < rank(overlay)
}

fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

/// The routes of declared WireGuard devices in the main table.
fn allowed_ips(intent: &Intent, desired: &KernelState) -> Vec<Other> {
    let declared = intent.resources().netlink.wireguard(&intent.node().name);
    let here = declared.filter(|(_, placed)| desired.wireguard.contains_key(&placed.object.end.name));
    let devices: BTreeMap<&LinkName, _> = here
        .map(|(name, placed)| (&placed.object.end.name, (name, &placed.object)))
        .collect();
    let mut others = Vec::new();
    if devices.is_empty() {
        return others;
    }
    let routes = desired.routes.iter().filter(|(key, _)| key.table == MAIN_TABLE);
    for (key, route) in routes {
        let hops = route.kind.paths().map(|paths| paths.hops).unwrap_or_default();
        let link = hops.iter().find_map(|hop| hop.link.as_ref());
        let Some((name, interface)) = link.and_then(|link| devices.get(link)) else {
            continue;
        };
        for peer in &interface.peers {
            if peer.allowed_ips.contains(&key.prefix) {
                let peer = peer.name.clone().unwrap_or_else(|| peer.public_key.to_string());
                others.push(Other {
                    key: *key,
                    what: format!(
                        "the allowed IP {} of WireGuardInterface/{name}, peer {peer},",
                        key.prefix
                    ),
                    remedy: "remove the prefix from allowedIPs, set spec.table of the interface, or change the prefixes of the \
                             network"
                        .to_owned(),
                });
            }
        }
    }
    others
}

/// The kernel's routes to the subnets of this machine's addresses.
fn subnets(facts: &NodeFacts) -> impl Iterator<Item = Other> {
    let foreign = facts.subnets.iter().filter(|(link, _)| !is_overlay_device(link));
    foreign.map(|(link, prefix)| {
        let metric = match Family::of_prefix(*prefix) {
            Family::Ipv4 => SUBNET_METRIC_V4,
            Family::Ipv6 => SUBNET_METRIC_V6,
        };
        Other {
            key: RouteKey::new(MAIN_TABLE, *prefix, metric),
            what: format!("the subnet {prefix} of device {link}"),
            remedy: "give the device another subnet, advertise the subnet from this node if it belongs to the overlay, or change \
                     the prefixes of the peer"
                .to_owned(),
        }
    })
}
