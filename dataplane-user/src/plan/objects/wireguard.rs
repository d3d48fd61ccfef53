//! Declared WireGuard devices, with the routes and rules that wg-quick(8) makes for allowed IPs.

mod endpoints;

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Place, Planner};
use crate::model::facts::{OwnKey, SharedKey};
use crate::model::rule::Mark;
use crate::model::wireguard::{Device, Peer, Preshared};
use crate::model::{LinkKind, MAIN_TABLE, Owner, Route, RouteKey, RouteKind, Rule, connected_subnet};
use crate::net::Family;
use crate::net::KeySource;
use crate::resource::netlink::Placed;
use crate::resource::node::Host;
use crate::resource::wireguard::InterfacePeer;
use crate::resource::{Problem, Reason, WireGuardInterface};

/// Where what WireGuard sends itself, and the main table's specific routes, go past a default route by it.
const SPECIFIC_PRIORITY: u32 = 1731;
/// Where all else is sent to the table with that route.
const DEFAULT_PRIORITY: u32 = 1732;
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
    let peers = interface.peers.iter().filter_map(|(key, declared)| {
        let peer = peer(name, declared, planner)?;
        Some((*key, peer))
    });
    let peers = peers.collect();
    Device {
        public_key: public_key(name, &interface.key, planner),
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
fn peer(name: &str, declared: &InterfacePeer, planner: &mut Planner<'_>) -> Option<Peer> {
    let facts = &planner.facts.wireguard;
    let subject = || match &declared.name {
        Some(peer) => format!("WireGuardInterface/{name}, peer {peer}"),
        None => format!("WireGuardInterface/{name}"),
    };
    let preshared_key = match &declared.preshared_key_file {
        None => Preshared::None,
        Some(file) => match facts.preshared_keys.get(file) {
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
    let find = |name: &str| facts.names.get(name).and_then(|known| known.first()).copied();
    let endpoint = declared
        .endpoint
        .as_ref()
        .and_then(|endpoint| endpoint.resolve(find));
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
    Some(Peer {
        configured: endpoint.clone(),
        endpoint,
        allowed_ips: declared.allowed_ips.clone(),
        keepalive: declared.keepalive,
        preshared_key,
    })
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
            planner.at(place).rules.extend(default_rules(family, mark));
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
    interface.peers.values().flat_map(|peer| &peer.allowed_ips)
}

/// What WireGuard has not marked asks the main table for anything but a default route, and then the device's table.
fn default_rules(family: Family, mark: u32) -> [Rule; 2] {
    let specific = Rule {
        suppress_prefix_length: Some(0),
        ..Rule::to_table(family, SPECIFIC_PRIORITY, MAIN_TABLE)
    };
    let unmarked = Rule {
        not: true,
        mark: Mark::new(mark, 0),
        ..Rule::to_table(family, DEFAULT_PRIORITY, mark)
    };
    [specific, unmarked]
}
