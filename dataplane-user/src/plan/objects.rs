//! Objects that manifests declare one by one: devices, routes and rules, in the agent's own and in other
//! namespaces.

mod routes;
pub(super) mod wireguard;

use std::collections::BTreeSet;

use crate::model::facts::NodeFacts;
use crate::model::facts::Presence;
use crate::model::{Address, AddressScope, KernelState, Link, LinkKind, Owner, VethPeer};
use crate::net::Namespace;
use crate::resource::netlink::{InterfaceEnd, InterfaceKind, Namespaced, NetlinkInterface};
use crate::resource::{Intent, Problem, Reason};

pub use routes::{Merged, merge};

/// A network namespace; `None`: the agent's own.
type Netns = Option<Namespace>;

pub(super) fn plan(
    intent: &Intent,
    facts: &NodeFacts,
    desired: &mut KernelState,
    problems: &mut Vec<Problem>,
) {
    let mut planner = Planner {
        facts,
        desired,
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
        if let Some(netns) = planner.netns(placed.namespace.as_ref(), "NetlinkRule", name) {
            let there = planner.at(&netns);
            there.rules.extend(placed.object.rules.iter().cloned());
        }
    }
    let mut placed = Vec::new();
    for (name, route) in objects.routes.iter().filter(|(_, placed)| here(&placed.nodes)) {
        if let Some(netns) = planner.netns(route.namespace.as_ref(), "NetlinkRoute", name) {
            placed.push((netns, name.as_str(), &route.object));
        }
    }
    routes::plan(placed, &mut planner);
}

struct Planner<'a> {
    facts: &'a NodeFacts,
    desired: &'a mut KernelState,
    problems: &'a mut Vec<Problem>,
}

impl Planner<'_> {
    fn interface(&mut self, name: &str, placed: &Namespaced<NetlinkInterface>) {
        let kind = "NetlinkInterface";
        let NetlinkInterface { end, kind: what } = &placed.object;
        let netns = self.netns(placed.namespace.as_ref(), kind, name);
        let InterfaceKind::Veth { peer, namespace } = what else {
            if let Some(netns) = netns {
                let link_kind = link_kind(what);
                let port = link_kind.udp_port();
                if !self.clashes(&format!("{kind}/{name}"), &netns, &link_kind, port) {
                    self.link(&netns, end, link_kind);
                    self.further(&netns, end, what);
                }
            }
            return;
        };
        let far = self.netns(namespace.as_ref(), kind, name);
        // A pair can only be created with both ends.
        let (Some(netns), Some(far)) = (netns, far) else {
            return;
        };
        let other = |netns: &Netns, end: &InterfaceEnd| {
            LinkKind::Veth(VethPeer {
                namespace: netns.clone(),
                name: end.name.clone(),
            })
        };
        if (&netns, &end.name) == (&far, &peer.name) {
            self.problems.push(Problem::error(
                Reason::Conflict,
                format!("NetlinkInterface/{name}"),
                format!("both of its ends are named {} in the same namespace", end.name),
                "give spec.peer another name, or another namespace".to_owned(),
            ));
            return;
        }
        self.link(&netns, end, other(&far, peer));
        self.link(&far, peer, other(&netns, end));
    }

    /// Adds a device with its addresses and its label; `false`, with a problem, if another declaration has
    /// its name.
    fn link(&mut self, netns: &Netns, end: &InterfaceEnd, kind: LinkKind) -> bool {
        let there = self.at(netns);
        let link = Link {
            owner: Owner::Adit,
            kind,
            mac: end.mac,
            mtu: end.mtu,
            arp: end.arp,
            generates_addresses: end.keep_link_local,
            up: end.up,
        };
        if there.links.insert(end.name.clone(), link).is_some() {
            // Manifests with the same name twice are rejected; that two names mean one namespace is known
            // only here.
            let subject = match netns {
                None => format!("link {}", end.name),
                Some(namespace) => format!("{namespace}: link {}", end.name),
            };
            self.problems.push(Problem::error(
                Reason::Conflict,
                subject,
                "several manifests declare this device".to_owned(),
                "give one of them another spec.name".to_owned(),
            ));
            return false;
        }
        for (&address, &peer) in &end.addresses {
            let address_value = Address {
                owner: Owner::Adit,
                scope: AddressScope::of(address.addr()),
                peer,
            };
            let key = (end.name.clone(), address);
            self.at(netns).addresses.insert(key, address_value);
        }
        if let Some(alias) = &end.alias {
            self.at(netns).aliases.insert(end.name.clone(), alias.clone());
        }
        true
    }

    /// Whether another desired device has a unique property that this one needs; then it adds a problem. The
    /// UDP ports of WireGuard devices belong to the agent's own namespace, whichever namespace the devices
    /// are in.
    fn clashes(&mut self, subject: &str, netns: &Netns, kind: &LinkKind, port: Option<u16>) -> bool {
        let bound_in = |netns: &Netns, kind: &LinkKind| match kind {
            LinkKind::WireGuard => None,
            _ => netns.clone(),
        };
        let elsewhere = self
            .desired
            .namespaces
            .iter()
            .map(|(name, state)| (Some(name.clone()), state));
        let namespaces = [(None, &*self.desired)].into_iter().chain(elsewhere);
        let mut holders = namespaces.flat_map(|(there, state)| {
            state.links.iter().filter_map(move |(name, link)| {
                let device = state.wireguard.get(name);
                let own = device
                    .map(|device| device.listen_port)
                    .or_else(|| link.kind.udp_port());
                let is_bound =
                    own.is_some() && own == port && bound_in(&there, &link.kind) == bound_in(netns, kind);
                let port = own.filter(|_| is_bound && !link.kind.shares_ports_with(kind));
                let same = link.kind.excludes(kind).filter(|_| there == *netns);
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
            format!("device {name}, which manifests also declare, has {what}"),
            "give one of them another port, VNI or remote; until then this one is skipped".to_owned(),
        );
        self.problems.push(problem);
        true
    }

    fn further(&mut self, netns: &Netns, end: &InterfaceEnd, kind: &InterfaceKind) {
        let there = self.at(netns);
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

    /// The namespace of a declared object; `None`, with a problem, if it does not exist. An unknown namespace
    /// is returned with a problem: the observed state has it as unreadable, so existing objects there stay.
    fn netns(&mut self, namespace: Option<&Namespace>, kind: &str, name: &str) -> Option<Netns> {
        let Some(wanted) = namespace else {
            return Some(None);
        };
        let subject = format!("{kind}/{name}");
        let waiting = |message: String, remedy: &str| {
            Problem::warning(Reason::Waiting, subject.clone(), message, remedy.to_owned())
        };
        let again = "Adit looks for it again every few seconds";
        let (netns, problem) = match self.facts.namespaces.get(wanted) {
            Some(Presence::There(namespace)) => return Some(Some(namespace.clone())),
            Some(Presence::Own) => {
                let problem = Problem::error(
                    Reason::Conflict,
                    subject.clone(),
                    format!("{wanted} is the agent's own network namespace"),
                    "remove spec.namespace to use the agent's own namespace, or name another one; until then existing \
                     objects stay"
                        .to_owned(),
                );
                (Some(Some(wanted.clone())), problem)
            }
            Some(Presence::Denied) => {
                let problem = waiting(
                    format!("this process has no permission to enter {wanted}; existing objects there stay"),
                    "give the agent CAP_SYS_ADMIN and CAP_SYS_PTRACE (packaging/systemd/adit.service.d/namespaces.conf)",
                );
                (Some(Some(wanted.clone())), problem)
            }
            Some(Presence::Unknown(why)) => {
                let problem = waiting(
                    format!("can't find out whether {wanted} exists, so existing objects there stay: {why}"),
                    again,
                );
                (Some(Some(wanted.clone())), problem)
            }
            Some(Presence::Absent(why)) => (None, waiting(format!("waiting for {wanted}: {why}"), again)),
            None => (None, waiting(format!("waiting for {wanted}"), again)),
        };
        self.problems.push(problem);
        netns
    }

    fn at(&mut self, netns: &Netns) -> &mut KernelState {
        match netns {
            None => self.desired,
            Some(namespace) => self.desired.namespaces.entry(namespace.clone()).or_default(),
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
