//! Where the routes to the endpoints of declared devices lead: into the device itself, or by a device that drops the answers.

use std::net::IpAddr;

use super::{Planner, RULES_AT, allowed_ips};
use crate::model::facts::FoundRoute;
use crate::model::facts::Lookup;
use crate::model::{MAIN_TABLE, RouteKind};
use crate::net::{Family, LinkName};
use crate::resource::{Problem, Reason, WireGuardInterface};

/// Tells what is wrong with the ways to a device's endpoints; comes after the device's routes.
pub(super) fn judge(name: &str, interface: &WireGuardInterface, mark: u32, planner: &mut Planner<'_>) {
    let link = &interface.end.name;
    let peers = planner.target.wireguard.get(link).map(|device| &device.peers);
    let endpoints = peers
        .into_iter()
        .flatten()
        .filter_map(|(_, peer)| peer.endpoint.as_ref());
    // No route decides about one that is on the link of a device.
    let routed = endpoints.filter(|endpoint| endpoint.device.is_none());
    let endpoints: Vec<IpAddr> = routed.map(|endpoint| endpoint.address).collect();
    for destination in endpoints {
        let found = planner.facts.routes.get(&Lookup { destination, mark });
        let problem = match around(link, destination, found, planner) {
            Some(prefix) => looped(name, link, destination, &prefix),
            None => {
                let everywhere = interface.routes.lead_everywhere(allowed_ips(interface));
                let uplinks = found.filter(|_| everywhere && Family::of(destination) == Family::Ipv4);
                let strict = uplinks.and_then(|found| found.links.intersection(&planner.facts.strict).next());
                let Some(uplink) = strict else { continue };
                drops_answers(name, uplink)
            }
        };
        if !planner.problems.contains(&problem) {
            planner.problems.push(problem);
        }
    }
}

/// How the device's own route takes what the device sends to an endpoint: the kernel finds it now, or will once it stands.
fn around(
    link: &LinkName,
    destination: IpAddr,
    found: Option<&FoundRoute>,
    planner: &Planner<'_>,
) -> Option<String> {
    match found {
        Some(found) if found.links.contains(link) => return Some(found.key.prefix.to_string()),
        // It was not asked for.
        None if planner.facts.paths.contains_key(&destination) => return None,
        _ => {}
    }
    let own = planner.target.routes.iter().filter(|(key, route)| {
        let by_it = |kind: &RouteKind| {
            let hops = kind.paths().map(|paths| paths.hops).unwrap_or_default();
            hops.iter().any(|hop| hop.link.as_ref() == Some(link))
        };
        key.table == MAIN_TABLE && key.prefix.contains(&destination) && by_it(&route.kind)
    });
    let mut taking = own.filter(|(key, _)| found.is_none_or(|found| !found.beats(key)));
    taking.next().map(|(key, _)| key.prefix.to_string())
}

fn looped(name: &str, link: &LinkName, destination: IpAddr, prefix: &str) -> Problem {
    Problem::error(
        Reason::UnderlayLoop,
        format!("WireGuardInterface/{name}"),
        format!(
            "the route to {prefix} by {link}, which its allowed IPs ask for, leads to its own endpoint {destination}: what the \
             device sends comes back into it"
        ),
        format!(
            "add a route to {destination} by the uplink, leave the endpoint out of allowedIPs, or use a default route \
             (0.0.0.0/0, ::/0), which a rule of priority {} keeps from the device's own packets",
            RULES_AT + 1
        ),
    )
}

/// Strict: IPv4 must come in by the device that its source is routed to, which is the WireGuard device for all that bears no
/// mark; answers bear none.
fn drops_answers(name: &str, uplink: &LinkName) -> Problem {
    Problem::warning(
        Reason::StrictFilter,
        format!("WireGuardInterface/{name}"),
        format!(
            "it has a default route, and {uplink}, by which its endpoint is reached, has a strict rp_filter (1): the kernel \
             drops the endpoint's answers"
        ),
        format!("sysctl -w net.ipv4.conf.{uplink}.rp_filter=2, and keep it in /etc/sysctl.d"),
    )
}
