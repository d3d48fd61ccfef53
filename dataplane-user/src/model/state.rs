//! [`KernelState`]: all kernel state that concerns Adit.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::IpNet;

use super::wireguard::Device;
use super::{
    Address, Attachment, Class, Firewall, Group, Hook, Link, Neighbour, NextHop, NextHopObject, Object,
    PrefixTarget, Route, RouteKey, Rule, Source, Sysctl, connected_subnet,
};
use crate::net::{LinkName, Namespace, PublicKey};

/// Desired or observed state. The desired state has only objects managed by Adit. The observed state also has
/// objects that are not managed by Adit and may collide with desired ones: every link, the addresses on
/// managed links, routes with a metric that Adit uses, and an nft table with the name of Adit's table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelState {
    /// Devices.
    pub links: BTreeMap<LinkName, Link>,
    /// Addresses on managed devices, by device and address with prefix length.
    pub addresses: BTreeMap<(LinkName, IpNet), Address>,
    /// Routes.
    pub routes: BTreeMap<RouteKey, Route>,
    /// Next-hop objects managed by Adit, to which routes of dataplane `routes` lead.
    pub next_hop_objects: BTreeSet<NextHopObject>,
    /// Permanent neighbours on managed devices.
    pub neighbours: BTreeMap<(LinkName, IpAddr), Neighbour>,
    /// Policy rules managed by Adit.
    pub rules: BTreeSet<Rule>,
    /// The bridge of each managed device that is a port; in the observed state also bridges that Adit does
    /// not manage.
    pub masters: BTreeMap<LinkName, LinkName>,
    /// The labels of managed devices (`ifalias`).
    pub aliases: BTreeMap<LinkName, String>,
    /// The alternative names of all devices, each with the device; a new device can't have such a name. The
    /// desired state has none.
    pub altnames: BTreeMap<LinkName, LinkName>,
    /// The default destinations of managed VXLAN devices, including the multicast group: where they send
    /// frames whose destination they don't know.
    pub flood: BTreeMap<LinkName, BTreeSet<IpAddr>>,
    /// The state of other network namespaces in which Adit manages objects. Only in the agent's own
    /// namespace.
    pub namespaces: BTreeMap<Namespace, KernelState>,
    /// Other network namespaces that can't be read now, and why. The desired state has none.
    pub unreadable: BTreeMap<Namespace, String>,
    /// Namespaces that may be the same as unreadable ones, under another name. The desired state has none.
    pub uncertain: BTreeSet<Namespace>,
    /// Kinds of objects of which the kernel reported some that can't be decoded; those are not in this state.
    /// The desired state has none.
    pub undecoded: BTreeMap<&'static str, Undecoded>,
    /// Settings of managed devices.
    pub sysctls: BTreeMap<(LinkName, Sysctl), String>,
    /// WireGuard devices managed by Adit.
    pub wireguard: BTreeMap<LinkName, Device>,
    /// The nft table.
    pub firewall: Option<Firewall>,
    /// Why Adit's nft table can't be read. The desired state has none.
    pub firewall_unreadable: Option<String>,
    /// BPF programs of Adit on managed devices.
    pub attachments: BTreeMap<(LinkName, Hook), Attachment>,
    /// Classes and the links that they send to; `None`: the link was deleted.
    pub classes: BTreeMap<Class, Option<LinkName>>,
    /// Next hops.
    pub next_hops: BTreeSet<Arc<NextHop>>,
    /// The next hops that are marked as down: no packets are sent to them.
    pub down: BTreeSet<Arc<NextHop>>,
    /// Groups.
    pub groups: BTreeSet<Arc<Group>>,
    /// Prefixes and their targets.
    pub prefixes: BTreeMap<IpNet, PrefixTarget>,
    /// Known sources.
    pub sources: BTreeSet<Source>,
    /// The peers that manifests name. Only in the desired state of the agent's own namespace.
    pub named: Named,
    /// Whether pins of the maps or programs of this process were removed. Never in the desired state.
    pub unpinned: bool,
    /// Older versions of the map ABI whose maps and links still exist. The desired state has none.
    pub older_versions: BTreeSet<u32>,
}

/// The kind under which [`KernelState::undecoded`] counts policy rules.
pub const RULES: &str = "rules";

/// Objects of a kind that can't be decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecoded {
    /// The number of objects.
    pub count: usize,
    /// Why the first one can't be decoded.
    pub first: String,
}

/// The peers that manifests name. Changes that revoke the access of anybody else wait for nothing: a revoked
/// key or address never stays because another change fails.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    /// WireGuard public keys.
    pub keys: BTreeSet<PublicKey>,
    /// Underlay addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl KernelState {
    /// Whether it has anything that needs BPF programs or maps.
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

    /// Removes a device and what the kernel deletes together with it: addresses, routes, settings, peers and
    /// programs. Classes that sent to it have no link afterwards. Devices that send through it are removed,
    /// too.
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

    /// Removes an address and what the kernel deletes together with it: the routes that name it as their
    /// source and, with the last IPv4 address of a device, all IPv4 routes through that device except those
    /// to next-hop objects (`fib_inetaddr_event` and `fib_sync_down_addr`, net/ipv4).
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
                key.prefix.addr().is_ipv6() || route.next_hop_object().is_some() || !by_it
            });
        }
    }

    /// The IPv4 addresses of a device. Without one the kernel keeps no IPv4 routes through it.
    pub fn ipv4_addresses(&self, link: &LinkName) -> impl Iterator<Item = IpNet> {
        // IPv4 addresses come first.
        let lowest = IpNet::from(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let from_it = self.addresses.range((link.clone(), lowest)..);
        from_it
            .map_while(move |((on, address), _)| (on == link && address.addr().is_ipv4()).then_some(*address))
    }

    /// The subnets that a device reaches without a gateway because of its addresses.
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

    /// The state of a namespace, mutable.
    pub fn at_mut(&mut self, namespace: Option<&Namespace>) -> Option<&mut KernelState> {
        match namespace {
            None => Some(self),
            Some(namespace) => self.namespaces.get_mut(namespace),
        }
    }

    /// Whether an object is the same in both states.
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
            Object::NextHopObject(object) => {
                self.next_hop_objects.contains(object) == other.next_hop_objects.contains(object)
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
            Object::Pins => self.unpinned == other.unpinned,
            // No desired state has older versions.
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

    /// Removes classes without a link, and the next hops, groups and prefixes that depend on them; a group
    /// keeps its other members.
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
            PrefixTarget::Group(group) => Some(Arc::clone(group)),
            PrefixTarget::Local | PrefixTarget::NextHop(_) => None,
        });
        self.groups = groups.collect();
    }
}
