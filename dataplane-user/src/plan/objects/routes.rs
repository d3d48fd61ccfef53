//! Declared routes: those of one prefix in one table are one route.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::{Place, Planner};
use crate::model::{
    Hop, KernelState, Owner, Paths, Route, RouteKey, RouteKind, RouteScope, connected_subnet,
};
use crate::net::PeerId;
use crate::resource::netlink::{NetlinkRoute, RouteAction};
use crate::resource::{Problem, Reason};

/// A route and its manifest's name.
type Named<'a> = (&'a str, &'a NetlinkRoute);

pub(super) fn plan(placed: Vec<(Place, &str, &NetlinkRoute)>, planner: &mut Planner<'_>) {
    let mut same: BTreeMap<_, Vec<Named<'_>>> = BTreeMap::new();
    for (place, name, route) in placed {
        let key = (place, route.table, route.to);
        same.entry(key).or_default().push((name, route));
    }
    for ((place, ..), routes) in same {
        let facts = planner.facts;
        match merge(&routes, |peer| facts.is_withdrawn(peer.as_str())) {
            Ok(Merged {
                key,
                kind: Some(kind),
            }) => {
                let owner = Owner::Ours;
                let kind = by_known_devices(kind, planner.at(&place));
                match planner.at(&place).routes.entry(key) {
                    Entry::Vacant(vacant) => drop(vacant.insert(Route { owner, kind })),
                    Entry::Occupied(stands) => {
                        let problem = taken(&routes, &key, stands.get());
                        planner.problems.push(problem);
                    }
                }
            }
            Ok(Merged { kind: None, .. }) => {}
            Err(problem) => planner.problems.push(problem),
        }
    }
}

/// What several declarations of a prefix come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    /// Where it stands.
    pub key: RouteKey,
    /// What it does; `None`: all that it leads to is withdrawn, so there is to be no route.
    pub kind: Option<RouteKind>,
}

/// The one route that several declarations of a prefix come to: that of the lowest metric; those of equal metrics join
/// their next hops, and the smallest MTU and the widest scope hold for all. Next hops to withdrawn peers are left out,
/// unless one of the declarations is immune.
///
/// # Errors
/// Where they do different things.
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
            // Told twice, a next hop has the larger of its weights.
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

/// The same with the devices of those gateways that lie in a subnet of a declared device: a route must follow when such an address moves to
/// another device, which the kernel does not do by itself.
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

/// A network or a WireGuard device has a route in this place.
fn taken(routes: &[Named<'_>], key: &RouteKey, stands: &Route) -> Problem {
    let names = routes.iter().map(|(name, _)| format!("NetlinkRoute/{name}"));
    Problem::error(
        Reason::Conflict,
        names.collect::<Vec<_>>().join(", "),
        format!(
            "a TunnelNetwork or a WireGuardInterface has the route {key} already: {}",
            stands.kind
        ),
        "give this one another table or metric, or remove it".to_owned(),
    )
}

fn contradiction(name: &str, key: &RouteKey) -> Problem {
    Problem::error(
        Reason::Conflict,
        format!("NetlinkRoute/{name}"),
        format!("another NetlinkRoute of {key} leads to next hops, or refuses otherwise"),
        "give one of them another metric, or remove it".to_owned(),
    )
}
