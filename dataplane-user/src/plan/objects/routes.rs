//! Declared routes: all declarations of one prefix in one table become one route.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Netns, Planner};
use crate::model::{
    Hop, KernelState, Owner, Paths, Route, RouteKey, RouteKind, RouteScope, connected_subnet,
};
use crate::net::PeerId;
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
    for ((netns, ..), routes) in same {
        let facts = planner.facts;
        match merge(&routes, |peer| facts.is_withdrawn(peer.as_str())) {
            Ok(Merged {
                key,
                kind: Some(kind),
            }) => {
                let owner = Owner::Adit;
                let kind = by_known_devices(kind, planner.at(&netns));
                match planner.at(&netns).routes.entry(key) {
                    Entry::Vacant(vacant) => drop(vacant.insert(Route { owner, kind })),
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
    let hops = hops.collect::<std::collections::BTreeSet<_>>();
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

/// Adds the device to each gateway inside a subnet of a declared device. When the address of the subnet moves
/// to another device, the route must follow, which the kernel does not do by itself.
fn by_known_devices(kind: RouteKind, there: &KernelState) -> RouteKind {
    let RouteKind::Paths(mut paths) = kind else {
        return kind;
    };
    let device = |hop: &Hop| {
        let gateway = hop
            .gateway
            .filter(|_| hop.link.is_none() && hop.encap.is_none())?;
        let subnets = there.addresses.iter().filter_map(|((link, address), value)| {
            let subnet = connected_subnet(address, value.peer)?;
            subnet.contains(&gateway).then_some((subnet.prefix_len(), link))
        });
        let (longest, link) = subnets.clone().max()?;
        // Where several devices have the subnet, the kernel chooses.
        let several = subnets
            .filter(|(length, other)| *length == longest && *other != link)
            .count();
        (several == 0).then(|| link.clone())
    };
    let hops = paths.hops.into_iter().map(|hop| Hop {
        link: hop.link.clone().or_else(|| device(&hop)),
        ..hop
    });
    paths.hops = hops.collect();
    RouteKind::Paths(paths)
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
