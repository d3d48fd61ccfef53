//! Changes of kernel state, as data.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::wireguard::DeviceChange;
use super::{
    Address, Class, Firewall, Group, Hook, Link, LinkKind, Neighbour, NextHop, Route, RouteGroup, RouteKey,
    RouteTarget, Rule, Source, Sysctl, Target,
};
use crate::net::{LinkName, MacAddr, Namespace};

/// One change. What creates fails when something stands there already; what replaces or deletes is only ever said of
/// objects that were observed as ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes a device: down, marked, with kind, MAC, MTU and NOARP in the creating message; addrgenmode follows while it
    /// is still down, because the kernel takes none at creation.
    CreateLink(LinkName, Link),
    /// Sets what differs on a device in place.
    ModifyLink(LinkName, LinkPatch),
    /// Brings a device up.
    SetLinkUp(LinkName),
    /// Deletes a device. As part of a recreation, the reason says what could not be changed in place.
    DeleteLink(LinkName, DeleteLinkReason),
    /// Adds an address, marked.
    CreateAddress(LinkName, IpNet, Address),
    /// Replaces an address of ours whose scope differs.
    ReplaceAddress(LinkName, IpNet, Address),
    /// Deletes an address.
    DeleteAddress(LinkName, IpNet),
    /// Adds a route, marked; refused where one of this key stands.
    CreateRoute(RouteKey, Route),
    /// Replaces a route of ours.
    ReplaceRoute(RouteKey, Route),
    /// Deletes a route of ours.
    DeleteRoute(RouteKey, Route),
    /// Makes a next-hop object, marked.
    CreateRouteTarget(RouteTarget),
    /// Gives a group of ours other members, in place: whatever leads to it follows.
    ReplaceRouteGroup(Arc<RouteGroup>, Arc<RouteGroup>),
    /// Deletes a next-hop object of ours.
    DeleteRouteTarget(RouteTarget),
    /// Puts a permanent neighbour of ours onto a device of ours; what the kernel made there by itself is replaced.
    PutNeighbour(LinkName, IpAddr, Neighbour),
    /// Deletes a neighbour of ours.
    DeleteNeighbour(LinkName, IpAddr),
    /// Replaces an address of ours by the same one with another prefix length, which the kernel does not have beside it.
    MoveAddress(LinkName, IpNet, IpNet, Address),
    /// Takes a device down.
    SetLinkDown(LinkName),
    /// Makes a device a port of a bridge, or of none.
    SetMaster(LinkName, Option<LinkName>),
    /// Labels a device.
    SetAlias(LinkName, String),
    /// Adds a default destination to a VXLAN device.
    AddFlood(LinkName, IpAddr),
    /// Takes a default destination from a VXLAN device.
    DeleteFlood(LinkName, IpAddr),
    /// A change in another namespace.
    In(Namespace, Box<Change>),
    /// Makes a policy rule, marked.
    CreateRule(Rule),
    /// Deletes a policy rule of ours, exactly this one.
    DeleteRule(Rule),
    /// Writes a device's setting.
    SetSysctl(LinkName, Sysctl, String),
    /// Changes a WireGuard device of ours.
    SetWireGuard(LinkName, DeviceChange),
    /// Makes the nft table, marked; refused where one of this name stands.
    CreateFirewall(Box<Firewall>),
    /// Replaces the nft table at once: all of it, or nothing is changed.
    ReplaceFirewall(Box<Firewall>),
    /// Deletes the nft table.
    DeleteFirewall,
    /// Puts our program on a device.
    Attach(LinkName, Hook),
    /// Replaces our program in place.
    ReplaceProgram(LinkName, Hook),
    /// Replaces an older ABI version's program in place by ours, which reads other maps.
    TakeOverProgram(LinkName, Hook),
    /// Deletes the maps and links that an older ABI version has left.
    DeleteVersion(u32),
    /// Takes our program off a device.
    Detach(LinkName, Hook),
    /// Writes a class into a free slot, or points an existing one at its link made anew.
    PutClass(Class, LinkName),
    /// Frees a class.
    DeleteClass(Class),
    /// Writes a next hop into a free slot.
    PutNextHop(Arc<NextHop>),
    /// Marks a next hop as down, or as usable again: one word, in place.
    SetNextHopDown(Arc<NextHop>, bool),
    /// Frees a next hop, its counters zeroed, after a grace period.
    DeleteNextHop(Arc<NextHop>),
    /// Writes a group into free slots.
    PutGroup(Arc<Group>),
    /// Frees a group.
    DeleteGroup(Arc<Group>),
    /// Points a prefix at a target.
    PutPrefix(IpNet, Target),
    /// Removes a prefix.
    DeletePrefix(IpNet),
    /// Makes a source known, its counters zeroed; one that is known keeps them.
    PutSource(Source),
    /// Forgets a source and its counters.
    DeleteSource(Source),
}

impl Change {
    /// The change itself, wherever it is made.
    #[must_use]
    pub fn bare(&self) -> &Change {
        match self {
            Change::In(_, change) => change.bare(),
            change => change,
        }
    }

    /// Where it is made; `None`: in the agent's namespace.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        match self {
            Change::In(namespace, _) => Some(namespace),
            _ => None,
        }
    }
}

/// What to set on a device; `None` leaves it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkPatch {
    /// Ethernet address.
    pub mac: Option<MacAddr>,
    /// MTU in bytes.
    pub mtu: Option<u32>,
    /// `IFF_NOARP` off or on.
    pub arp: Option<bool>,
    /// `addrgenmode` eui64 or none.
    pub generates_addresses: Option<bool>,
}

impl LinkPatch {
    /// All that a link says and a patch can.
    #[must_use]
    pub fn whole(link: &Link) -> LinkPatch {
        LinkPatch {
            mac: link.mac,
            mtu: link.mtu,
            arp: Some(link.arp),
            generates_addresses: Some(link.generates_addresses),
        }
    }
}

/// Why a device is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeleteLinkReason {
    /// Nothing needs it any more.
    Unneeded,
    /// It is made anew: its kind can't be changed in place.
    Recreate {
        /// What it is.
        from: LinkKind,
        /// What it shall be.
        to: LinkKind,
    },
    /// It is one of ours that somebody renamed, and another is made in its place.
    Renamed {
        /// The name that it had.
        name: LinkName,
        /// What it is.
        kind: LinkKind,
    },
}

/// An object, for messages, reports and conflicts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Object {
    /// A device.
    Link(LinkName),
    /// An address on a device.
    Address(LinkName, IpNet),
    /// A route.
    Route(RouteKey),
    /// A neighbour on a device.
    Neighbour(LinkName, IpAddr),
    /// Something in another namespace.
    In(Namespace, Box<Object>),
    /// The nft table.
    Firewall,
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Object::Link(name) => write!(f, "link {name}"),
            Object::Address(link, address) => write!(f, "address {address} dev {link}"),
            Object::Route(key) => write!(f, "route {key}"),
            Object::Neighbour(link, address) => write!(f, "neighbour {address} dev {link}"),
            Object::In(namespace, object) => write!(f, "{namespace}: {object}"),
            Object::Firewall => f.write_str("nft table inet adit"),
        }
    }
}

/// Something that is not ours stands where ours should; it is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Where.
    pub object: Object,
    /// What stands there, in the words of `ip`.
    pub found: String,
    /// The name of what is found, where it stands elsewhere: a network namespace holds only one of its kind.
    pub only_one: Option<LinkName>,
}

/// The changes that lead from one state to another, in an order in which no step opens a hole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangeSet {
    /// In order.
    pub changes: Vec<Change>,
    /// What is left alone.
    pub conflicts: Vec<Conflict>,
    /// What can't be made yet.
    pub waiting: Vec<Waiting>,
}

/// Something that waits for something else to be there; nobody says when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What waits.
    pub object: Object,
    /// What it waits for, in words.
    pub what: String,
}

impl ChangeSet {
    /// Adds what is to be done in another namespace.
    pub fn extend_from(&mut self, namespace: &Namespace, other: ChangeSet) {
        let change = |change| Change::In(namespace.clone(), Box::new(change));
        let object = |object| Object::In(namespace.clone(), Box::new(object));
        self.changes.extend(other.changes.into_iter().map(change));
        self.conflicts
            .extend(other.conflicts.into_iter().map(|conflict| Conflict {
                object: object(conflict.object),
                ..conflict
            }));
        self.waiting
            .extend(other.waiting.into_iter().map(|waiting| Waiting {
                object: object(waiting.object),
                ..waiting
            }));
    }

    /// Some of the changes, and nothing else.
    #[must_use]
    pub fn only(self, some: impl Fn(&Change) -> bool) -> ChangeSet {
        ChangeSet {
            changes: self.changes.into_iter().filter(some).collect(),
            ..ChangeSet::default()
        }
    }

    /// Whether nothing is to be done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::CreateLink(name, link) => write!(f, "add link {name} type {}", link.kind),
            Change::ModifyLink(name, patch) => write!(f, "set link {name}{patch}"),
            Change::SetLinkUp(name) => write!(f, "set link {name} up"),
            Change::DeleteLink(name, DeleteLinkReason::Unneeded) => write!(f, "delete link {name}"),
            Change::DeleteLink(name, DeleteLinkReason::Recreate { from, to }) => {
                write!(f, "delete link {name} to make it anew ({from} becomes {to})")
            }
            Change::DeleteLink(name, DeleteLinkReason::Renamed { name: before, .. }) => {
                write!(f, "delete link {name}, which was {before}")
            }
            Change::CreateAddress(link, address, _) => write!(f, "add address {address} dev {link}"),
            Change::ReplaceAddress(link, address, _) => write!(f, "replace address {address} dev {link}"),
            Change::DeleteAddress(link, address) => write!(f, "delete address {address} dev {link}"),
            Change::CreateRoute(key, route) => write!(f, "add route {key} {}", route.kind),
            Change::ReplaceRoute(key, route) => write!(f, "replace route {key} {}", route.kind),
            Change::DeleteRoute(key, route) => write!(f, "delete route {key} {}", route.kind),
            Change::CreateRouteTarget(target) => write!(f, "add nexthop {target}"),
            Change::ReplaceRouteGroup(from, to) => write!(f, "set nexthop {from} to {to}"),
            Change::DeleteRouteTarget(target) => write!(f, "delete nexthop {target}"),
            Change::PutNeighbour(link, address, neighbour) => {
                write!(f, "put neighbour {address} lladdr {} dev {link}", neighbour.mac)
            }
            Change::DeleteNeighbour(link, address) => write!(f, "delete neighbour {address} dev {link}"),
            Change::MoveAddress(link, from, to, _) => {
                write!(f, "replace address {from} by {to} dev {link}")
            }
            Change::SetLinkDown(name) => write!(f, "set link {name} down"),
            Change::SetMaster(port, Some(bridge)) => write!(f, "set link {port} master {bridge}"),
            Change::SetMaster(port, None) => write!(f, "set link {port} nomaster"),
            Change::SetAlias(name, alias) => write!(f, "set link {name} alias {alias}"),
            Change::AddFlood(name, to) => write!(f, "add default destination {to} dev {name}"),
            Change::DeleteFlood(name, to) => write!(f, "delete default destination {to} dev {name}"),
            Change::In(namespace, change) => write!(f, "{namespace}: {change}"),
            Change::CreateRule(rule) => write!(f, "add rule {rule}"),
            Change::DeleteRule(rule) => write!(f, "delete rule {rule}"),
            Change::SetSysctl(link, sysctl, value) => write!(f, "set {sysctl} of {link} to {value}"),
            Change::SetWireGuard(link, change) => write!(f, "set wireguard {link} {change}"),
            Change::CreateFirewall(table) => {
                write!(f, "add nft table inet adit with {} rules", table.rules().count())
            }
            Change::ReplaceFirewall(table) => {
                write!(
                    f,
                    "replace nft table inet adit by one with {} rules",
                    table.rules().count()
                )
            }
            Change::DeleteFirewall => f.write_str("delete nft table inet adit"),
            Change::Attach(link, hook) => write!(f, "attach the {hook} program to {link}"),
            Change::ReplaceProgram(link, hook) => write!(f, "replace the {hook} program of {link}"),
            Change::TakeOverProgram(link, hook) => {
                write!(f, "take over the {hook} program of {link} from an older map ABI")
            }
            Change::DeleteVersion(version) => write!(f, "delete what map ABI {version} has left"),
            Change::Detach(link, hook) => write!(f, "detach the {hook} program from {link}"),
            Change::PutClass(class, link) => write!(f, "put class {class} to {link}"),
            Change::DeleteClass(class) => write!(f, "delete class {class}"),
            Change::PutNextHop(next_hop) => write!(f, "put next hop {next_hop}"),
            Change::SetNextHopDown(next_hop, true) => write!(f, "set next hop {next_hop} down"),
            Change::SetNextHopDown(next_hop, false) => write!(f, "set next hop {next_hop} usable"),
            Change::DeleteNextHop(next_hop) => write!(f, "delete next hop {next_hop}"),
            Change::PutGroup(group) => write!(f, "put group of {group}"),
            Change::DeleteGroup(group) => write!(f, "delete group of {group}"),
            Change::PutPrefix(prefix, target) => write!(f, "put prefix {prefix} to {target}"),
            Change::DeletePrefix(prefix) => write!(f, "delete prefix {prefix}"),
            Change::PutSource(source) => write!(f, "put source {source}"),
            Change::DeleteSource(source) => write!(f, "delete source {source}"),
        }
    }
}

impl fmt::Display for LinkPatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on_off = |on: bool| if on { "on" } else { "off" };
        if let Some(mac) = self.mac {
            write!(f, " address {mac}")?;
        }
        if let Some(mtu) = self.mtu {
            write!(f, " mtu {mtu}")?;
        }
        if let Some(arp) = self.arp {
            write!(f, " arp {}", on_off(arp))?;
        }
        if let Some(generates) = self.generates_addresses {
            write!(f, " addrgenmode {}", if generates { "eui64" } else { "none" })?;
        }
        Ok(())
    }
}
