//! Checks the routes to the endpoints of declared WireGuard devices. A route may lead into the device itself,
//! or through a device that drops the answers.

use std::net::IpAddr;

use super::{Planner, RULES_AT, allowed_ips};
use crate::model::facts::FoundRoute;
use crate::model::facts::Lookup;
use crate::model::{MAIN_TABLE, RouteKind};
use crate::net::{Family, LinkName};
use crate::resource::{Problem, Reason, WireGuardInterface};

/// Reports problems with the routes to the endpoints of a device. Runs after the routes of the device are
/// planned.
pub(super) fn judge(name: &str, interface: &WireGuardInterface, mark: u32, planner: &mut Planner<'_>) {
    let link = &interface.end.name;
    let peers = planner.desired.wireguard.get(link).map(|device| &device.peers);
    let endpoints = peers
        .into_iter()
        .flatten()
        .filter_map(|(_, peer)| peer.endpoint.as_ref());
    // An endpoint on the link of a named device is reached without a route lookup.
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

/// The prefix of the device's own route if that route covers the endpoint: the kernel finds the route now, or
/// will find it once it exists.
fn around(
    link: &LinkName,
    destination: IpAddr,
    found: Option<&FoundRoute>,
    planner: &Planner<'_>,
) -> Option<String> {
    match found {
        Some(found) if found.links.contains(link) => return Some(found.key.prefix.to_string()),
        // Facts have no lookup for this destination.
        None if planner.facts.paths.contains_key(&destination) => return None,
        _ => {}
    }
    let own = planner.desired.routes.iter().filter(|(key, route)| {
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
            "the route to {prefix} through {link}, which its allowed IPs create, also covers its own endpoint {destination}: \
             packets that the device sends would loop back into it"
        ),
        format!(
            "add a route to {destination} through the uplink, exclude the endpoint from allowedIPs, or use a default route \
             (0.0.0.0/0, ::/0): a rule of priority {} exempts the packets of the device from it",
            RULES_AT + 1
        ),
    )
}

/// With a strict `rp_filter`, IPv4 packets must arrive on the device to which their source is routed. For
/// packets without a mark that is the WireGuard device, and answers have no mark.
fn drops_answers(name: &str, uplink: &LinkName) -> Problem {
    Problem::warning(
        Reason::StrictFilter,
        format!("WireGuardInterface/{name}"),
        format!(
            "it has a default route, and its endpoint is reached through {uplink}, where rp_filter is strict (1): the kernel \
             drops the answers of the endpoint"
        ),
        format!("run `sysctl -w net.ipv4.conf.{uplink}.rp_filter=2`, and store the setting in /etc/sysctl.d"),
    )
}
