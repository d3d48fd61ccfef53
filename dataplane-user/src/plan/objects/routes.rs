//! Declared routes: all declarations of one prefix in one table become one route.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Netns, Planner};
use crate::model::facts::Gateway;
use crate::model::{
    Hop, KernelState, MAIN_TABLE, Owner, Paths, Route, RouteKey, RouteKind, RouteScope, connected_subnet,
};
use crate::net::{LinkName, PeerId};
use crate::resource::netlink::{NetlinkRoute, RouteAction};
use crate::resource::{Problem, Reason};

/// A route and the name of its manifest.
type Named<'a> = (&'a str, &'a NetlinkRoute);

pub(super) fn plan(placed: Vec<(Netns, &str, &NetlinkRoute)>, planner: &mut Planner<'_>) {
    let mut same: BTreeMap<_, Vec<Named<'_>>> = BTreeMap::new();
    for (netns, name, route) in placed {
        let key = (netns, route.table, route.to);
        same.entry(key).or_default().push((name, route));
    }
    let facts = planner.facts;
    let mut planned: BTreeMap<Netns, Vec<RouteKey>> = BTreeMap::new();
    for ((netns, ..), routes) in same {
        match merge(&routes, |peer| facts.is_withdrawn(peer.as_str())) {
            Ok(Merged {
                key,
                kind: Some(kind),
            }) => {
                let owner = Owner::Adit;
                match planner.at(&netns).routes.entry(key) {
                    Entry::Vacant(vacant) => {
                        vacant.insert(Route { owner, kind });
                        planned.entry(netns).or_default().push(key);
                    }
                    Entry::Occupied(other) => {
                        let problem = collision(&routes, &key, other.get());
                        planner.problems.push(problem);
                    }
                }
            }
            Ok(Merged { kind: None, .. }) => {}
            Err(problem) => planner.problems.push(problem),
        }
    }
    // Late: a declared route can lead to the gateway of another one.
    let nothing = BTreeMap::new();
    for (netns, keys) in planned {
        let found = facts.gateways.get(&netns).unwrap_or(&nothing);
        let there = planner.at(&netns);
        let declared = on_link(there);
        for key in keys {
            if let Some(route) = there.routes.get_mut(&key) {
                add_devices(key.table, &mut route.kind, &declared, found);
            }
        }
    }
}

/// The merged route of several declarations of a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Its key.
    pub key: RouteKey,
    /// Its action; `None`: all of its next hops are withdrawn, so there is no route.
    pub kind: Option<RouteKind>,
}

/// Merges several declarations of a prefix into one route. The lowest metric wins; declarations with the same
/// metric combine their next hops, with the smallest MTU and the widest scope. Next hops to withdrawn peers
/// are skipped, unless one of the declarations is immune.
///
/// # Errors
/// If declarations with the same metric have different actions.
pub fn merge(
    routes: &[(&str, &NetlinkRoute)],
    is_withdrawn: impl Fn(&PeerId) -> bool,
) -> Result<Merged, Problem> {
    let lowest = routes.iter().map(|(_, route)| route.key()).min();
    let key_of_all = lowest.expect("there is one at least");
    let merged = |kind| Merged {
        key: key_of_all,
        kind: Some(kind),
    };
    let best = routes.iter().filter(|(_, route)| route.key() == key_of_all);
    let best = best.copied().collect::<Vec<_>>();
    let refuses = |kind: &RouteAction| best.iter().all(|(_, route)| route.action == *kind);
    if refuses(&RouteAction::Blackhole) {
        return Ok(merged(RouteKind::Blackhole));
    }
    if refuses(&RouteAction::Unreachable) {
        return Ok(merged(RouteKind::Unreachable));
    }
    let immune = best.iter().any(|(_, route)| route.health_immune);
    let mut hops: BTreeMap<Hop, u16> = BTreeMap::new();
    for (name, route) in &best {
        let RouteAction::Unicast(own) = &route.action else {
            return Err(contradiction(name, &key_of_all));
        };
        for peer in own {
            if !immune && peer.peer.as_ref().is_some_and(&is_withdrawn) {
                continue;
            }
            // A next hop that is declared twice has the larger one of its weights.
            let weight = hops
                .entry(Hop {
                    weight: 1,
                    ..peer.hop.clone()
                })
                .or_default();
            *weight = peer.hop.weight.max(*weight);
        }
    }
    if hops.is_empty() {
        return Ok(Merged {
            key: key_of_all,
            kind: None,
        });
    }
    let hops = hops.into_iter().map(|(hop, weight)| Hop { weight, ..hop });
    let hops = hops.collect::<BTreeSet<_>>();
    let declared = best.iter().filter_map(|(_, route)| route.scope).min();
    let on_link = key_of_all.prefix.addr().is_ipv4() && hops.iter().all(|hop| hop.gateway.is_none());
    let usual = if on_link {
        RouteScope::Link
    } else {
        RouteScope::Global
    };
    let paths = Paths {
        scope: declared.unwrap_or(usual),
        source: best.iter().find_map(|(_, route)| route.source),
        mtu: best.iter().filter_map(|(_, route)| route.mtu).min(),
        hops,
    };
    Ok(merged(paths.into_kind()))
}

/// A destination that will be on the link of a declared device.
struct OnLink {
    /// The table of its route; `None`: it is the subnet of an address.
    table: Option<u32>,
    prefix: IpNet,
    link: LinkName,
}

/// What will be on the links of declared devices. Default routes do not count: everything would be on the link
/// of a VPN device that has one.
fn on_link(there: &KernelState) -> Vec<OnLink> {
    let subnets = there.addresses.iter().filter_map(|((link, address), value)| {
        Some(OnLink {
            table: None,
            prefix: connected_subnet(address, value.peer)?,
            link: link.clone(),
        })
    });
    let connected = there.routes.iter().filter(|(_, route)| route.is_connected());
    let connected = connected.filter_map(|(key, route)| {
        Some(OnLink {
            table: Some(key.table),
            prefix: key.prefix,
            link: route.link()?.clone(),
        })
    });
    let all = subnets.chain(connected);
    all.filter(|one| one.prefix.prefix_len() > 0).collect()
}

/// Adds the device to each gateway of a route in this table. One that is on no link stays without a device.
fn add_devices(table: u32, kind: &mut RouteKind, declared: &[OnLink], found: &BTreeMap<Gateway, LinkName>) {
    let RouteKind::Paths(paths) = kind else {
        return;
    };
    let device = |address| device_of(Gateway { table, address }, declared, found);
    let hops = std::mem::take(&mut paths.hops).into_iter().map(|hop| Hop {
        link: hop.link.or_else(|| device(hop.gateway?)),
        ..hop
    });
    paths.hops = hops.collect();
}

/// The device through which a gateway is on the link: by the routes of its table, else as for a packet.
fn device_of(gateway: Gateway, declared: &[OnLink], found: &BTreeMap<Gateway, LinkName>) -> Option<LinkName> {
    let in_table = |gateway: Gateway| {
        let tables = match gateway.table {
            MAIN_TABLE => [None, Some(MAIN_TABLE)],
            table => [Some(table); 2],
        };
        let there = declared.iter().filter(|one| tables.contains(&one.table));
        longest(gateway.address, there, found.get(&gateway))
    };
    let main = Gateway {
        table: MAIN_TABLE,
        ..gateway
    };
    in_table(gateway).or_else(|| in_table(main))
}

/// The device of the longest declared prefix that contains an address, because when that moves to another device,
/// the route must follow; else `found`, the one of the kernel.
fn longest<'a>(
    address: IpAddr,
    declared: impl Iterator<Item = &'a OnLink> + Clone,
    found: Option<&LinkName>,
) -> Option<LinkName> {
    let all = declared.filter(|one| one.prefix.contains(&address));
    let length = all.clone().map(|one| one.prefix.prefix_len()).max();
    let links = all.filter(|one| Some(one.prefix.prefix_len()) == length);
    let links = links.map(|one| &one.link).collect::<BTreeSet<_>>();
    // Where several devices have the prefix, the kernel chooses.
    let chosen = found.filter(|found| links.is_empty() || links.contains(found));
    chosen.or(links.first().copied()).cloned()
}

/// The problem that a network or a WireGuard device already has a route with this key.
fn collision(routes: &[Named<'_>], key: &RouteKey, other: &Route) -> Problem {
    let names = routes.iter().map(|(name, _)| format!("NetlinkRoute/{name}"));
    Problem::error(
        Reason::Conflict,
        names.collect::<Vec<_>>().join(", "),
        format!(
            "a TunnelNetwork or a WireGuardInterface already declares the route {key}: {}",
            other.kind
        ),
        "give this one another table or metric, or remove it".to_owned(),
    )
}

fn contradiction(name: &str, key: &RouteKey) -> Problem {
    Problem::error(
        Reason::Conflict,
        format!("NetlinkRoute/{name}"),
        format!("another NetlinkRoute declares {key} with a different action"),
        "give one of them another metric, or remove it".to_owned(),
    )
}
