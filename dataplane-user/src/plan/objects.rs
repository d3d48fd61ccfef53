//! What manifests declare one by one: devices, routes and rules, here and in other namespaces.

mod routes;
pub(super) mod wireguard;

use std::collections::BTreeSet;

use crate::model::facts::NodeFacts;
use crate::model::facts::Presence;
use crate::model::{Address, AddressScope, KernelState, Link, LinkKind, Owner, VethPeer};
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
                let link_kind = link_kind(what);
                let port = link_kind.udp_port();
                if !self.clashes(&format!("{kind}/{name}"), &place, &link_kind, port) {
                    self.link(&place, end, link_kind);
                    self.further(&place, end, what);
                }
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

    /// Whether another device of the target has what this one needs for itself alone, which is told then. WireGuard's UDP ports are of the agent's own
    /// namespace, wherever the devices are.
    fn clashes(&mut self, subject: &str, place: &Place, kind: &LinkKind, port: Option<u16>) -> bool {
        let bound_in = |place: &Place, kind: &LinkKind| match kind {
            LinkKind::WireGuard => None,
            _ => place.clone(),
        };
        let elsewhere = self
            .target
            .namespaces
            .iter()
            .map(|(name, state)| (Some(name.clone()), state));
        let places = [(None, &*self.target)].into_iter().chain(elsewhere);
        let mut holders = places.flat_map(|(there, state)| {
            state.links.iter().filter_map(move |(name, link)| {
                let device = state.wireguard.get(name);
                let own = device
                    .map(|device| device.listen_port)
                    .or_else(|| link.kind.udp_port());
                let is_bound =
                    own.is_some() && own == port && bound_in(&there, &link.kind) == bound_in(place, kind);
                let port = own.filter(|_| is_bound && !link.kind.shares_ports_with(kind));
                let same = link.kind.excludes(kind).filter(|_| there == *place);
                Some((
                    name,
                    same.or_else(|| port.map(|port| format!("UDP port {port}")))?,
                ))
            })
        });
        let Some((name, what)) = holders.next() else {
            return false;
        };
        let problem = Problem::error(
            Reason::Conflict,
            subject.to_owned(),
            format!("device {name}, which manifests declare too, has {what}"),
            "give one of them another port, VNI or remote; this one is left out".to_owned(),
        );
        self.problems.push(problem);
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

    /// Where a namespace is; a problem where it is not there. One of which nothing is known is where it was: the observed state
    /// says that it can't be read, and what is there stays.
    fn place(&mut self, namespace: Option<&Namespace>, kind: &str, name: &str) -> Option<Place> {
        let Some(wanted) = namespace else {
            return Some(None);
        };
        let subject = format!("{kind}/{name}");
        let waiting = |message: String, remedy: &str| {
            Problem::warning(Reason::Waiting, subject.clone(), message, remedy.to_owned())
        };
        let again = "it is looked for again every few seconds";
        let (place, problem) = match self.facts.namespaces.get(wanted) {
            Some(Presence::There(namespace)) => return Some(Some(namespace.clone())),
            Some(Presence::Own) => {
                let problem = Problem::error(
                    Reason::Conflict,
                    subject.clone(),
                    format!("{wanted} is the agent's own network namespace"),
                    "leave out spec.namespace for the agent's own, or name another one; what stands stays until then".to_owned(),
                );
                (Some(Some(wanted.clone())), problem)
            }
            Some(Presence::Denied) => {
                let problem = waiting(
                    format!("{wanted}: this process may not enter it; what stands there stays"),
                    "give it CAP_SYS_ADMIN and CAP_SYS_PTRACE (packaging/systemd/adit.service.d/namespaces.conf)",
                );
                (Some(Some(wanted.clone())), problem)
            }
            Some(Presence::Unknown(why)) => {
                let problem = waiting(
                    format!("{wanted} can't be looked for, what stands there stays: {why}"),
                    again,
                );
                (Some(Some(wanted.clone())), problem)
            }
            Some(Presence::Absent(why)) => (None, waiting(format!("{wanted} is not there: {why}"), again)),
            None => (None, waiting(format!("{wanted} is not there"), again)),
        };
        self.problems.push(problem);
        place
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
