//! Declared WireGuard devices, with the routes and rules that wg-quick(8) makes for allowed IPs.

mod endpoints;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Place, Planner};
use crate::model::facts::{OwnKey, SharedKey};
use crate::model::rule::Mark;
use crate::model::wireguard::{self, Device, Preshared};
use crate::model::{LinkKind, MAIN_TABLE, Owner, Route, RouteKey, RouteKind, Rule, connected_subnet};
use crate::net::Family;
use crate::net::KeySource;
use crate::resource::netlink::Placed;
use crate::resource::node::Host;
use crate::resource::wireguard::{Peer, PresharedSource};
use crate::resource::{Problem, Reason, WireGuardInterface};

/// The usual priority of the rule by which what WireGuard sends itself, and the main table's specific routes, go past a default
/// route by it. The next one sends all else to the table with that route.
const RULES_AT: u32 = 1731;
/// The mark and the table of the first device with a default route; the next ones follow (wg-quick(8), `Table`).
const FIRST_MARK: u32 = 51820;

/// Plans a node's devices, in the order of their manifests' names.
pub(super) fn plan<'a>(
    interfaces: impl Iterator<Item = (&'a str, &'a Placed<WireGuardInterface>)>,
    planner: &mut Planner<'_>,
) {
    let mut marks = Marks::default();
    for (name, placed) in interfaces {
        let Some(place) = planner.place(placed.namespace.as_ref(), "WireGuardInterface", name) else {
            continue;
        };
        let interface = &placed.object;
        let port = Some(interface.listen_port).filter(|port| *port != 0);
        if planner.clashes(
            &format!("WireGuardInterface/{name}"),
            &place,
            &LinkKind::WireGuard,
            port,
        ) {
            continue;
        }
        if !planner.link(&place, &interface.end, LinkKind::WireGuard) {
            continue;
        }
        let mark = marks.give(place.clone(), interface);
        let device = device(name, interface, mark, planner);
        let there = planner.at(&place);
        there.wireguard.insert(interface.end.name.clone(), device);
        routes(&place, (name, interface), mark, planner);
        if place.is_none() {
            endpoints::judge(name, interface, mark, planner);
        }
    }
}

/// The marks of devices' own packets, given in the order of their manifests' names.
#[derive(Debug, Default)]
pub(crate) struct Marks(BTreeMap<Place, BTreeSet<u32>>);

impl Marks {
    /// Beside marks, or tables, that are in use in the agent's own namespace.
    pub(crate) fn beside(used: BTreeSet<u32>) -> Marks {
        Marks([(None, used)].into())
    }

    /// The mark of the next device of a place; 0: none.
    pub(crate) fn give(&mut self, place: Place, interface: &WireGuardInterface) -> u32 {
        let used = self.0.entry(place).or_default();
        let leads_everywhere = interface.routes.lead_everywhere(allowed_ips(interface));
        let mark = match (interface.fwmark, leads_everywhere) {
            (0, true) => {
                let free = (FIRST_MARK..).find(|mark| !used.contains(mark));
                free.expect("there are more marks than devices")
            }
            (mark, _) => mark,
        };
        used.insert(mark);
        mark
    }
}

fn device(name: &str, interface: &WireGuardInterface, mark: u32, planner: &mut Planner<'_>) -> Device {
    let peers = interface.peers.iter().filter_map(|declared| {
        let peer = peer(name, declared, planner)?;
        Some((declared.public_key, peer))
    });
    let peers = peers.collect();
    let key = interface.key.as_ref();
    Device {
        public_key: key.and_then(|key| public_key(name, key, planner)),
        listen_port: interface.listen_port,
        fwmark: mark,
        peers,
    }
}

/// `None`, with a problem: whatever key the device has stays.
fn public_key(name: &str, source: &KeySource, planner: &mut Planner<'_>) -> Option<crate::net::PublicKey> {
    let (reason, message, remedy) = match planner.facts.wireguard.keys.get(source) {
        Some(OwnKey::Known(key)) => return Some(*key),
        // One that is there must not be overwritten.
        Some(OwnKey::Unusable(why)) => (
            Reason::KeyUnreadable,
            format!("its private key ({source}) can't be had: {why}"),
            "see that the key is a regular file that its owner alone can read and that its directory can be written, or correct \
             spec.privateKey",
        ),
        // The agent makes it, others don't.
        Some(OwnKey::Missing) if matches!(source, KeySource::Generated(_)) => return None,
        Some(OwnKey::Missing) | None => (
            Reason::Incomplete,
            format!("its private key ({source}) is missing"),
            "make it (`umask 077; adit wg genkey > FILE`), or correct spec.privateKey",
        ),
    };
    planner.problems.push(Problem::error(
        reason,
        format!("WireGuardInterface/{name}"),
        message,
        remedy.to_owned(),
    ));
    None
}

/// `None`, with a problem, where there is no preshared key: without it nothing would come through anyway. Of one that can't
/// be read `plan::wireguard::keys` tells.
fn peer(name: &str, declared: &Peer, planner: &mut Planner<'_>) -> Option<wireguard::Peer> {
    let facts = &planner.facts.wireguard;
    let subject = || match &declared.name {
        Some(peer) => format!("WireGuardInterface/{name}, peer {peer}"),
        None => format!("WireGuardInterface/{name}"),
    };
    let preshared_key = match &declared.preshared_key {
        None => Preshared::None,
        Some(PresharedSource::Key(key)) => Preshared::Key(key.clone()),
        Some(PresharedSource::File(file)) => match facts.preshared_keys.get(file) {
            Some(SharedKey::Known(key)) => Preshared::Key(key.clone()),
            Some(SharedKey::Unreadable(_)) => Preshared::Unreadable,
            found => {
                let why = match found {
                    Some(SharedKey::Missing(why)) => why.clone(),
                    _ => format!("{file} was not read"),
                };
                planner.problems.push(Problem::error(
                    Reason::Incomplete,
                    subject(),
                    format!("the preshared key can't be had: {why}"),
                    format!("put the same key (`adit wg genpsk`) into {file} on both ends, mode 0600"),
                ));
                return None;
            }
        },
    };
    let endpoint = declared.resolve(&facts.names);
    if let (Some(declared), None) = (&declared.endpoint, &endpoint)
        && let Host::Name(host) = &declared.host
    {
        planner.problems.push(Problem::warning(
            Reason::NameUnresolved,
            subject(),
            format!("`{host}` has no address now"),
            "it is looked up time and again; correct the endpoint or the resolver if it never has one"
                .to_owned(),
        ));
    }
    Some(declared.on_device(endpoint, preshared_key))
}

/// A route for each allowed IP that no address of the device brings along already; default routes with their rules.
fn routes(
    place: &Place,
    (name, interface): (&str, &WireGuardInterface),
    mark: u32,
    planner: &mut Planner<'_>,
) {
    let link = &interface.end.name;
    let addresses = interface.end.addresses.iter();
    let subnets = addresses.filter_map(|(address, peer)| connected_subnet(address, *peer));
    let subnets = subnets.collect::<Vec<_>>();
    for prefix in allowed_ips(interface).copied().collect::<BTreeSet<_>>() {
        let Some(table) = interface.routes.table(&prefix, mark, &subnets) else {
            continue;
        };
        let family = Family::of_prefix(prefix);
        if interface.routes.lead_everywhere([&prefix]) {
            let priority = interface.rules_at.get(&family).copied().unwrap_or(RULES_AT);
            planner
                .at(place)
                .rules
                .extend(default_rules(family, mark, priority));
        }
        let key = RouteKey::new(table, prefix, 0);
        let route = Route {
            owner: Owner::Ours,
            kind: RouteKind::on_link(link, family),
        };
        if let Some(stands) = planner.at(place).routes.get(&key) {
            let message = format!("the route {key} stands already: {}", stands.kind);
            planner.problems.push(Problem::error(
                Reason::Conflict,
                format!("WireGuardInterface/{name}"),
                message,
                "give one of them spec.table, or other allowedIPs".to_owned(),
            ));
            continue;
        }
        planner.at(place).routes.insert(key, route);
    }
}

fn allowed_ips(interface: &WireGuardInterface) -> impl Iterator<Item = &IpNet> {
    interface.peers.iter().flat_map(|peer| &peer.allowed_ips)
}

/// What WireGuard has not marked asks the main table for anything but a default route, and then the device's table.
fn default_rules(family: Family, mark: u32, priority: u32) -> [Rule; 2] {
    let specific = Rule {
        suppress_prefix_length: Some(0),
        ..Rule::to_table(family, priority, MAIN_TABLE)
    };
    let unmarked = Rule {
        not: true,
        mark: Mark::new(mark, 0),
        ..Rule::to_table(family, priority.saturating_add(1), mark)
    };
    [specific, unmarked]
}

/// Those of a device that sends with this mark, among all rules: the one that leads to its table, and the one before it by
/// which the main table's more specific routes hold.
#[must_use]
pub fn default_rules_of(mark: u32, rules: &BTreeSet<Rule>) -> BTreeSet<Rule> {
    let of_family = |family: Family| {
        let rules = rules.iter().filter(move |rule| rule.family == family);
        let leads = |rule: &&Rule| rule.not && rule.mark == Mark::new(mark, 0) && rule.table == mark;
        let leading = rules.clone().filter(leads).min_by_key(|rule| rule.priority)?;
        let asks_main = |rule: &&Rule| rule.table == MAIN_TABLE && rule.suppress_prefix_length == Some(0);
        let before = rules
            .filter(asks_main)
            .filter(|rule| rule.priority < leading.priority);
        let specific = before.max_by_key(|rule| rule.priority);
        Some(specific.into_iter().chain([leading]).cloned())
    };
    Family::BOTH.into_iter().filter_map(of_family).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_of_one_device_are_told_from_anothers() {
        let of = |mark, priority| {
            Family::BOTH
                .map(|family| default_rules(family, mark, priority))
                .concat()
        };
        let (one, other) = (of(51820, 32_764), of(51821, 32_762));
        let all = one.iter().chain(&other).cloned().collect();
        assert_eq!(default_rules_of(51820, &all), one.into_iter().collect());
        assert_eq!(default_rules_of(51821, &all), other.into_iter().collect());
        assert_eq!(default_rules_of(7, &all), BTreeSet::new());
    }
}
