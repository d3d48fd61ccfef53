//! All kernel state that concerns us.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::wireguard::Device;
use super::{
    Address, Attachment, Class, Firewall, Group, Hook, Link, Neighbour, NextHop, Object, Route, RouteKey,
    RouteTarget, Rule, Source, Sysctl, Target, connected_subnet,
};
use crate::net::{LinkName, Namespace, PublicKey};

/// What shall be, or what is. A target holds only objects that are ours; an observed state also holds foreign ones
/// that stand where ours might: every link, the addresses on our links, routes with one of our metrics, and a table in the
/// place of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Devices.
    pub links: BTreeMap<LinkName, Link>,
    /// Addresses on our devices, by device and address with prefix length.
    pub addresses: BTreeMap<(LinkName, IpNet), Address>,
    /// Routes.
    pub routes: BTreeMap<RouteKey, Route>,
    /// What routes lead to without our programs: next-hop objects of ours.
    pub route_targets: BTreeSet<RouteTarget>,
    /// Permanent neighbours on our devices.
    pub neighbours: BTreeMap<(LinkName, IpAddr), Neighbour>,
    /// Our policy rules.
    pub rules: BTreeSet<Rule>,
    /// The bridges that our devices are ports of; in an observed state also foreign ones.
    pub masters: BTreeMap<LinkName, LinkName>,
    /// The labels of our devices (`ifalias`).
    pub aliases: BTreeMap<LinkName, String>,
    /// Where VXLAN devices of ours send what they know no destination for, group included.
    pub flood: BTreeMap<LinkName, BTreeSet<IpAddr>>,
    /// Other network namespaces, as far as we have something there. Only in the agent's own.
    pub namespaces: BTreeMap<Namespace, KernelState>,
    /// Other network namespaces of which nothing is known now, and why. A target has none.
    pub unreadable: BTreeMap<Namespace, String>,
    /// Those of the namespaces that may be unreadable ones by other names. A target has none.
    pub uncertain: BTreeSet<Namespace>,
    /// Kinds of objects of which the kernel told something that can't be decoded: those are not in here. A target has none.
    pub undecoded: BTreeMap<&'static str, Undecoded>,
    /// Settings of our devices.
    pub sysctls: BTreeMap<(LinkName, Sysctl), String>,
    /// Our WireGuard devices.
    pub wireguard: BTreeMap<LinkName, Device>,
    /// The nft table.
    pub firewall: Option<Firewall>,
    /// Why it is not known what is in the nft table, which is ours. A target has none.
    pub firewall_unreadable: Option<String>,
    /// Our programs on our devices.
    pub attachments: BTreeMap<(LinkName, Hook), Attachment>,
    /// Classes and the links that they send to; `None`: a link that is gone.
    pub classes: BTreeMap<Class, Option<LinkName>>,
    /// Next hops.
    pub next_hops: BTreeSet<Arc<NextHop>>,
    /// Those of them that are marked as down: nothing is sent to them.
    pub down: BTreeSet<Arc<NextHop>>,
    /// Groups.
    pub groups: BTreeSet<Arc<Group>>,
    /// Prefixes and where they lead.
    pub prefixes: BTreeMap<IpNet, Target>,
    /// Known sources.
    pub sources: BTreeSet<Source>,
    /// Whom manifests name. Only in the agent's own namespace's target.
    pub named: Named,
    /// Older versions of the map ABI that have left their maps and links. A target has none.
    pub older_versions: BTreeSet<u32>,
}

/// Objects of a kind that can't be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecoded {
    /// How many.
    pub count: usize,
    /// Why the first one can't.
    pub first: String,
}

/// Peers that manifests name. What is taken from anybody else waits for nothing: neither a key nor an address that was revoked stays
/// because something else can't be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// WireGuard public keys.
    pub keys: BTreeSet<PublicKey>,
    /// Underlay addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl KernelState {
    /// Whether there is anything in it that takes BPF programs or maps.
    #[must_use]
    pub fn has_programs(&self) -> bool {
        !self.attachments.is_empty()
            || !self.classes.is_empty()
            || !self.next_hops.is_empty()
            || !self.groups.is_empty()
            || !self.prefixes.is_empty()
            || !self.sources.is_empty()
            || !self.older_versions.is_empty()
    }

    /// What is left once a device is gone: the kernel takes its addresses, routes, settings, peers and programs with it, and
    /// classes that sent to it send nowhere. Devices that send by it go too.
    pub fn forget_link(&mut self, name: &LinkName) {
        self.links.remove(name);
        let on_it = |(link, _): &(LinkName, IpNet)| link == name;
        let gone = self
            .addresses
            .keys()
            .filter(|key| on_it(key))
            .map(|(_, address)| address.addr());
        let gone = gone.collect::<BTreeSet<_>>();
        self.addresses.retain(|key, _| !on_it(key));
        self.routes
            .retain(|_, route| route.source().is_none_or(|source| !gone.contains(&source)));
        self.sysctls.retain(|(link, _), _| link != name);
        self.wireguard.remove(name);
        self.attachments.retain(|(link, _), _| link != name);
        self.forget_paths(name);
        self.masters.retain(|port, bridge| port != name && bridge != name);
        self.aliases.remove(name);
        self.flood.remove(name);
        for link in self.classes.values_mut() {
            if link.as_ref() == Some(name) {
                *link = None;
            }
        }
        let above = self
            .links
            .iter()
            .filter(|(_, link)| link.kind.lower() == Some(name));
        for above in above.map(|(above, _)| above.clone()).collect::<Vec<_>>() {
            self.forget_link(&above);
        }
    }

    /// What is left once an address is gone: the kernel takes the routes with it that name it as their source, and with a
    /// device's last IPv4 address all IPv4 routes by that device but for those by next-hop objects (`fib_inetaddr_event`
    /// and `fib_sync_down_addr`, net/ipv4).
    pub fn forget_address(&mut self, link: &LinkName, address: IpNet) {
        self.addresses.remove(&(link.clone(), address));
        let still = self
            .addresses
            .keys()
            .any(|(_, other)| other.addr() == address.addr());
        self.routes
            .retain(|_, route| still || route.source() != Some(address.addr()));
        if address.addr().is_ipv4() && self.ipv4_addresses(link).next().is_none() {
            self.routes.retain(|key, route| {
                let mut links = route.links().peekable();
                let by_it = links.peek().is_some() && links.all(|other| other == link);
                key.prefix.addr().is_ipv6() || route.target().is_some() || !by_it
            });
        }
    }

    /// A device's IPv4 addresses. Without one the kernel keeps no IPv4 routes by it.
    pub fn ipv4_addresses(&self, link: &LinkName) -> impl Iterator<Item = IpNet> {
        // IPv4 addresses come first.
        let lowest = IpNet::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let from_it = self.addresses.range((link.clone(), lowest)..);
        from_it
            .map_while(move |((on, address), _)| (on == link && address.addr().is_ipv4()).then_some(*address))
    }

    /// The subnets that a device reaches without a gateway, by its addresses.
    pub fn subnets(&self, link: &LinkName) -> impl Iterator<Item = IpNet> {
        let lowest = IpNet::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let from_it = self.addresses.range((link.clone(), lowest)..);
        let on_it = from_it.take_while(move |((on, _), _)| on == link);
        on_it.filter_map(|((_, address), value)| connected_subnet(address, value.peer))
    }

    /// The state of a namespace; `None` is the agent's own.
    #[must_use]
    pub fn at(&self, namespace: Option<&Namespace>) -> Option<&KernelState> {
        match namespace {
            None => Some(self),
            Some(namespace) => self.namespaces.get(namespace),
        }
    }

    /// The state of a namespace, to be changed.
    pub fn at_mut(&mut self, namespace: Option<&Namespace>) -> Option<&mut KernelState> {
        match namespace {
            None => Some(self),
            Some(namespace) => self.namespaces.get_mut(namespace),
        }
    }

    /// Whether both states say the same of an object.
    #[must_use]
    pub fn says_the_same(&self, other: &KernelState, object: &Object) -> bool {
        match object {
            Object::Link(name) => self.links.get(name) == other.links.get(name),
            Object::Address(link, address) => {
                let key = (link.clone(), *address);
                self.addresses.get(&key) == other.addresses.get(&key)
            }
            Object::Flood(link, _) => self.flood.get(link) == other.flood.get(link),
            Object::Neighbour(link, address) => {
                let key = (link.clone(), *address);
                self.neighbours.get(&key) == other.neighbours.get(&key)
            }
            Object::NextHopObject(target) => {
                self.route_targets.contains(target) == other.route_targets.contains(target)
            }
            Object::Route(key) => self.routes.get(key) == other.routes.get(key),
            Object::Rule(rule) => self.rules.contains(&**rule) == other.rules.contains(&**rule),
            Object::Sysctl(link, sysctl) => {
                let key = (link.clone(), *sysctl);
                self.sysctls.get(&key) == other.sysctls.get(&key)
            }
            Object::WireGuard(link) => self.wireguard.get(link) == other.wireguard.get(link),
            Object::Firewall => self.firewall == other.firewall,
            Object::Program(link, hook) => {
                let key = (link.clone(), *hook);
                self.attachments.get(&key) == other.attachments.get(&key)
            }
            // Older agents' leavings are wanted by no state.
            Object::Version(_) => false,
            Object::Class(class) => self.classes.get(class) == other.classes.get(class),
            Object::NextHop(next_hop) => {
                self.next_hops.contains(next_hop) == other.next_hops.contains(next_hop)
            }
            Object::Group(group) => self.groups.contains(group) == other.groups.contains(group),
            Object::Prefix(prefix) => self.prefixes.get(prefix) == other.prefixes.get(prefix),
            Object::Source(source) => self.sources.contains(source) == other.sources.contains(source),
        }
    }

    /// Drops classes that send nowhere, and what leads only to them; a group keeps its other members.
    pub fn drop_unreachable(&mut self) {
        self.classes.retain(|_, link| link.is_some());
        let classes = &self.classes;
        self.next_hops
            .retain(|next_hop| classes.contains_key(&next_hop.class));
        self.down.retain(|next_hop| classes.contains_key(&next_hop.class));
        let prefixes = std::mem::take(&mut self.prefixes);
        self.prefixes = prefixes
            .into_iter()
            .filter_map(|(prefix, target)| Some((prefix, target.retain(|n| classes.contains_key(&n.class))?)))
            .collect();
        let groups = self.prefixes.values().filter_map(|target| match target {
            Target::Group(group) => Some(Arc::clone(group)),
            Target::Local | Target::NextHop(_) => None,
        });
        self.groups = groups.collect();
    }
}
