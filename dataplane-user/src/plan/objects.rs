//! What manifests declare one by one: devices, routes and rules, here and in other namespaces.

mod routes;
mod wireguard;

use std::collections::BTreeSet;

use super::NodeFacts;
use super::facts::Presence;
use crate::model::{Address, AddressScope, KernelState, Link, LinkKind, Owner, RouteKey, VethPeer};
use crate::net::Namespace;
use crate::resource::netlink::{InterfaceEnd, InterfaceKind, NetlinkInterface, Placed};
use crate::resource::{Intent, Problem, Reason};

pub use routes::{Merged, merge};

/// A place: `None` is the agent's own namespace.
type Place = Option<Namespace>;

pub(super) fn plan(
    intent: &Intent,
    facts: &NodeFacts,
    target: &mut KernelState,
    problems: &mut Vec<Problem>,
) {
    let mut planner = Planner {
        facts,
        target,
        problems,
    };
    let objects = &intent.resources().netlink;
    let here = |nodes: &BTreeSet<_>| nodes.contains(&intent.node().name);
    for (name, interface) in objects
        .interfaces
        .iter()
        .filter(|(_, placed)| here(&placed.nodes))
    {
        planner.interface(name, interface);
    }
    wireguard::plan(objects.wireguard(&intent.node().name), &mut planner);
    let rules = objects.rules.iter().filter(|(_, placed)| here(&placed.nodes));
    for (name, placed) in rules {
        if let Some(place) = planner.place(placed.namespace.as_ref(), "NetlinkRule", name) {
            let there = planner.at(&place);
            there.rules.extend(placed.object.rules.iter().cloned());
        }
    }
    let mut placed = Vec::new();
    for (name, route) in objects.routes.iter().filter(|(_, placed)| here(&placed.nodes)) {
        if let Some(place) = planner.place(route.namespace.as_ref(), "NetlinkRoute", name) {
            placed.push((place, name.as_str(), &route.object));
        }
    }
    routes::plan(placed, &mut planner);
}

/// The keys of all routes that a node declares: what stands there already is somebody else's.
#[must_use]
pub fn route_keys(intent: &Intent) -> BTreeSet<RouteKey> {
    let routes = intent.resources().netlink.routes.values();
    let own = routes.filter(|placed| placed.nodes.contains(&intent.node().name));
    own.map(|placed| placed.object.key()).collect()
}

struct Planner<'a> {
    facts: &'a NodeFacts,
    target: &'a mut KernelState,
    problems: &'a mut Vec<Problem>,
}

impl Planner<'_> {
    fn interface(&mut self, name: &str, placed: &Placed<NetlinkInterface>) {
        let kind = "NetlinkInterface";
        let NetlinkInterface { end, kind: what } = &placed.object;
        let place = self.place(placed.namespace.as_ref(), kind, name);
        let InterfaceKind::Veth { peer, namespace } = what else {
            if let Some(place) = place {
                self.link(&place, end, link_kind(what));
                self.further(&place, end, what);
            }
            return;
        };
        let far = self.place(namespace.as_ref(), kind, name);
        // One end alone is nothing.
        let (Some(place), Some(far)) = (place, far) else {
            return;
        };
        let other = |place: &Place, end: &InterfaceEnd| {
            LinkKind::Veth(VethPeer {
                namespace: place.clone(),
                name: end.name.clone(),
            })
        };
        if (&place, &end.name) == (&far, &peer.name) {
            self.problems.push(Problem::error(
                Reason::Conflict,
                format!("NetlinkInterface/{name}"),
                format!("both of its ends are {} in one namespace", end.name),
                "give spec.peer another name, or another namespace".to_owned(),
            ));
            return;
        }
        self.link(&place, end, other(&far, peer));
        self.link(&far, peer, other(&place, end));
    }

    /// A device with its addresses and its label; `false`, with a problem, where another declaration has its name.
    fn link(&mut self, place: &Place, end: &InterfaceEnd, kind: LinkKind) -> bool {
        let there = self.at(place);
        let link = Link {
            owner: Owner::Ours,
            kind,
            mac: end.mac,
            mtu: end.mtu,
            arp: end.arp,
            generates_addresses: end.keep_link_local,
            up: end.up,
        };
        if there.links.insert(end.name.clone(), link).is_some() {
            // Manifests that say a name twice are refused; two names of one namespace are known only here.
            let subject = match place {
                None => format!("link {}", end.name),
                Some(namespace) => format!("{namespace}: link {}", end.name),
            };
            self.problems.push(Problem::error(
                Reason::Conflict,
                subject,
                "several manifests declare it".to_owned(),
                "give one of them another spec.name".to_owned(),
            ));
            return false;
        }
        for (&address, &peer) in &end.addresses {
            let address_value = Address {
                owner: Owner::Ours,
                scope: AddressScope::of(address.addr()),
                peer,
            };
            let key = (end.name.clone(), address);
            self.at(place).addresses.insert(key, address_value);
        }
        if let Some(alias) = &end.alias {
            self.at(place).aliases.insert(end.name.clone(), alias.clone());
        }
        true
    }

    fn further(&mut self, place: &Place, end: &InterfaceEnd, kind: &InterfaceKind) {
        let there = self.at(place);
        match kind {
            InterfaceKind::Bridge { ports } => {
                let masters = ports.iter().map(|port| (port.clone(), end.name.clone()));
                there.masters.extend(masters);
            }
            InterfaceKind::Vxlan { group, remotes, .. } => {
                let all = remotes.iter().chain(group).copied().collect();
                there.flood.insert(end.name.clone(), all);
            }
            _ => {}
        }
    }

    /// Where a namespace is; a problem where it is not there.
    fn place(&mut self, namespace: Option<&Namespace>, kind: &str, name: &str) -> Option<Place> {
        let Some(wanted) = namespace else {
            return Some(None);
        };
        let waiting = |message: String, remedy: String| {
            Problem::warning(Reason::Waiting, format!("{kind}/{name}"), message, remedy)
        };
        let problem = match self.facts.namespaces.get(wanted) {
            Some(Presence::Own) => return Some(None),
            Some(Presence::There(namespace)) => return Some(Some(namespace.clone())),
            Some(Presence::Denied) => waiting(
                format!("{wanted}: this process may not enter it"),
                "give it CAP_SYS_ADMIN and CAP_SYS_PTRACE (packaging/systemd/adit.service.d/namespaces.conf)"
                    .to_owned(),
            ),
            Some(Presence::Absent(why)) => waiting(
                format!("{wanted} is not there: {why}"),
                "it is looked for again every few seconds".to_owned(),
            ),
            None => waiting(
                format!("{wanted} is not there"),
                "it is looked for again every few seconds".to_owned(),
            ),
        };
        self.problems.push(problem);
        None
    }

    fn at(&mut self, place: &Place) -> &mut KernelState {
        match place {
            None => self.target,
            Some(namespace) => self.target.namespaces.entry(namespace.clone()).or_default(),
        }
    }
}

fn link_kind(kind: &InterfaceKind) -> LinkKind {
    match kind {
        InterfaceKind::Dummy => LinkKind::Dummy,
        InterfaceKind::Bridge { .. } => LinkKind::Bridge,
        InterfaceKind::Veth { peer, namespace } => LinkKind::Veth(VethPeer {
            namespace: namespace.clone(),
            name: peer.name.clone(),
        }),
        InterfaceKind::Vxlan {
            vni,
            local,
            port,
            group,
            lower,
            ..
        } => LinkKind::VxlanTo {
            vni: *vni,
            local: *local,
            port: *port,
            group: *group,
            lower: lower.clone(),
        },
        InterfaceKind::Geneve { vni, remote, port } => LinkKind::GeneveTo {
            vni: *vni,
            remote: *remote,
            port: *port,
        },
        InterfaceKind::Ipip { local, remote, ttl } => LinkKind::IpipTo {
            local: *local,
            remote: *remote,
            ttl: *ttl,
        },
    }
}
