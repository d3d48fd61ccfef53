//! Declared WireGuard devices, with the routes and rules that wg-quick(8) creates for allowed IPs.

mod endpoints;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Netns, Planner};
use crate::model::facts::{OwnKey, SharedKey};
use crate::model::rule::Mark;
use crate::model::wireguard::{self, Device, Preshared};
use crate::model::{LinkKind, MAIN_TABLE, Owner, Route, RouteKey, RouteKind, Rule, connected_subnet};
use crate::net::Family;
use crate::net::KeySource;
use crate::resource::netlink::Namespaced;
use crate::resource::node::Host;
use crate::resource::wireguard::{Peer, PresharedSource};
use crate::resource::{Problem, Reason, WireGuardInterface};

/// The usual priority of the first rule for a default route through a WireGuard device: it applies the
/// specific routes of the main table. The next rule sends all other packets without the mark of the device to
/// the table with the default route.
const RULES_AT: u32 = 1731;
/// The mark and the table of the first device with a default route; those of the next devices follow
/// (wg-quick(8), `Table`).
const FIRST_MARK: u32 = 51820;

/// Plans the devices of a node, in order of the names of their manifests.
pub(super) fn plan<'a>(
    interfaces: impl Iterator<Item = (&'a str, &'a Namespaced<WireGuardInterface>)>,
    planner: &mut Planner<'_>,
) {
    let mut marks = Marks::default();
    for (name, placed) in interfaces {
        let Some(netns) = planner.netns(placed.namespace.as_ref(), "WireGuardInterface", name) else {
            continue;
        };
        let interface = &placed.object;
        let port = Some(interface.listen_port).filter(|port| *port != 0);
        if planner.clashes(
            &format!("WireGuardInterface/{name}"),
            &netns,
            &LinkKind::WireGuard,
            port,
        ) {
            continue;
        }
        if !planner.link(&netns, &interface.end, LinkKind::WireGuard) {
            continue;
        }
        let mark = marks.give(netns.clone(), interface);
        let device = device(name, interface, mark, planner);
        let there = planner.at(&netns);
        there.wireguard.insert(interface.end.name.clone(), device);
        routes(&netns, name, interface, mark, planner);
        if netns.is_none() {
            endpoints::judge(name, interface, mark, planner);
        }
    }
}

/// The marks for the packets that devices send, assigned in order of the names of their manifests.
#[derive(Debug, Default)]
pub(crate) struct Marks(BTreeMap<Netns, BTreeSet<u32>>);

impl Marks {
    /// Excludes marks, or tables, that are in use in the agent's own namespace.
    pub(crate) fn beside(used: BTreeSet<u32>) -> Marks {
        Marks([(None, used)].into())
    }

    /// The mark of the next device in a namespace; 0: none.
    pub(crate) fn give(&mut self, netns: Netns, interface: &WireGuardInterface) -> u32 {
        let used = self.0.entry(netns).or_default();
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

/// The public key of a device; `None`, with a problem: the device keeps its current key.
fn public_key(name: &str, source: &KeySource, planner: &mut Planner<'_>) -> Option<crate::net::PublicKey> {
    let (reason, message, remedy) = match planner.facts.wireguard.keys.get(source) {
        Some(OwnKey::Known(key)) => return Some(*key),
        // An existing key must not be overwritten.
        Some(OwnKey::Unusable(why)) => (
            Reason::KeyUnreadable,
            format!("its private key ({source}) can't be used: {why}"),
            "make sure that the key is a regular file that only its owner can read, in a writable directory, or correct \
             spec.privateKey",
        ),
        // Only the agent generates it.
        Some(OwnKey::Missing) if matches!(source, KeySource::Generated(_)) => return None,
        Some(OwnKey::Missing) | None => (
            Reason::Incomplete,
            format!("its private key ({source}) is missing"),
            "create it (`umask 077; adit wg genkey > FILE`), or correct spec.privateKey",
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

/// A peer; `None`, with a problem, if its preshared key is missing: without it no packet would pass.
/// `plan::wireguard::keys` reports keys that can't be read.
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
                    format!("the preshared key is not available: {why}"),
                    format!(
                        "create a key with `adit wg genpsk`, and store it in {file} on both ends, mode 0600"
                    ),
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
            format!("`{host}` does not resolve to an address"),
            "Adit looks it up again regularly; if it never resolves, correct the endpoint or the resolver"
                .to_owned(),
        ));
    }
    Some(declared.on_device(endpoint, preshared_key))
}

/// Adds a route for each allowed IP, unless an address of the device already creates it; default routes also
/// get rules.
fn routes(netns: &Netns, name: &str, interface: &WireGuardInterface, mark: u32, planner: &mut Planner<'_>) {
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
                .at(netns)
                .rules
                .extend(default_rules(family, mark, priority));
        }
        let key = RouteKey::new(table, prefix, 0);
        let route = Route {
            owner: Owner::Adit,
            kind: RouteKind::on_link(link, family),
        };
        if let Some(other) = planner.at(netns).routes.get(&key) {
            let message = format!("the manifests already declare the route {key}: {}", other.kind);
            planner.problems.push(Problem::error(
                Reason::Conflict,
                format!("WireGuardInterface/{name}"),
                message,
                "set spec.table of one of the interfaces, or change its allowedIPs".to_owned(),
            ));
            continue;
        }
        planner.at(netns).routes.insert(key, route);
    }
}

fn allowed_ips(interface: &WireGuardInterface) -> impl Iterator<Item = &IpNet> {
    interface.peers.iter().flat_map(|peer| &peer.allowed_ips)
}

/// The rules of a default route: packets use the main table, except its default routes; then packets without
/// the mark use the table of the device.
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

/// Finds the rules of a device with this mark among all rules: the one that leads to its table, and the one
/// before it that applies the more specific routes of the main table.
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
    fn rules_of_two_devices_are_distinguished() {
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
