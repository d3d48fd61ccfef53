//! Changes of kernel state, as data: an object, and what happens to it.
//!
//! Each adapter of the kernel has a type of changes of its own, so that none can be given another's. [`Change`] is the envelope
//! around them, and says in which network namespace.

mod object;
mod set;
mod text;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::object::{Located, Object, ObjectKind};
pub use self::set::{ChangeSet, Conflict, Dependencies, Waiting};
use super::wireguard::DeviceChange;
use super::{
    Address, Class, Firewall, Group, Hook, Link, LinkKind, Neighbour, NextHop, Route, RouteGroup, RouteKey,
    RouteTarget, Rule, Source, Sysctl, Target,
};
use crate::net::{LinkName, MacAddr, Namespace};

/// One change. What creates fails when something exists there already; what replaces or deletes is only ever said of
/// objects that were observed as ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The network namespace; `None`: the agent's own.
    pub namespace: Option<Namespace>,
    /// The object and what happens to it.
    pub action: Action,
}

/// A change, by the adapter that makes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// By rtnetlink.
    Netlink(NetlinkChange),
    /// By a file in /proc/sys.
    Sysctl(SysctlChange),
    /// By WireGuard's generic netlink.
    WireGuard(WireGuardChange),
    /// By the program nft.
    Nft(NftChange),
    /// By BPF's system call, and by netlink where programs are attached as filters.
    Bpf(BpfChange),
}

/// A change that rtnetlink makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetlinkChange {
    /// A device.
    Link(LinkName, LinkOperation),
    /// An address on a device.
    Address(LinkName, IpNet, AddressOperation),
    /// A default destination of a VXLAN device.
    Flood(LinkName, IpAddr, Existence),
    /// A permanent neighbour on a device of ours; what the kernel made there by itself is replaced.
    Neighbour(LinkName, IpAddr, Write<Neighbour>),
    /// A next-hop object.
    NextHopObject(RouteTarget, NextHopObjectOperation),
    /// A route.
    Route(RouteKey, RouteOperation),
    /// A policy rule.
    Rule(Rule, Existence),
}

/// A setting of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SysctlChange {
    /// The device.
    pub link: LinkName,
    /// Which setting.
    pub sysctl: Sysctl,
    /// What it is set to.
    pub value: String,
}

/// A change of a WireGuard device's key, port, mark or peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuardChange {
    /// The device.
    pub link: LinkName,
    /// What changes.
    pub change: DeviceChange,
}

/// A change of the nft table: all of it, or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NftChange {
    /// Creates it, marked; refused where one of this name exists.
    Create(Box<Firewall>),
    /// Replaces it.
    Replace(Box<Firewall>),
    /// Deletes it.
    Delete,
}

/// A change of programs or maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BpfChange {
    /// Our program on a device.
    Program(LinkName, Hook, ProgramOperation),
    /// Deletes the maps and links that an older version of the map ABI has left.
    DeleteVersion(u32),
    /// A class: written into a free slot, or an existing one pointed at its link that was created anew.
    Class(Class, Write<LinkName>),
    /// A next hop.
    NextHop(Arc<NextHop>, NextHopOperation),
    /// A group, in slots of its own.
    Group(Arc<Group>, Existence),
    /// Where a prefix leads.
    Prefix(IpNet, Write<Target>),
    /// A known source. Its counters begin at zero; those of one that is known stay.
    Source(Source, Existence),
}

/// What happens to an object that is all that it says: with another value it is another object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Existence {
    /// It is created.
    Create,
    /// It is deleted.
    Delete,
}

/// What happens to an object that is written whatever it was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write<T> {
    /// It gets this value, whether it exists or not.
    Put(T),
    /// It is deleted.
    Delete,
}

/// What happens to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkOperation {
    /// Created: down, marked, with kind, MAC, MTU and NOARP in the creating message; addrgenmode follows while it is still
    /// down, because the kernel takes none at creation.
    Create(Link),
    /// What differs is set in place.
    Modify(LinkPatch),
    /// Brought up.
    SetUp,
    /// Taken down.
    SetDown,
    /// Made a port of a bridge, or of none.
    SetMaster(Option<LinkName>),
    /// Labelled.
    SetAlias(String),
    /// Deleted. As part of a recreation, the reason says what could not be changed in place.
    Delete(DeleteLinkReason),
}

/// What happens to an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressOperation {
    /// Added, marked.
    Create(Address),
    /// Replaced, where the scope differs.
    Replace(Address),
    /// Added in place of the same address with another prefix length, which the kernel does not have beside it.
    Move {
        /// The address with the other length.
        from: IpNet,
        /// What it becomes.
        to: Address,
    },
    /// Deleted.
    Delete {
        /// Before routes are created: with it the kernel deletes routes that are wanted, or its own in the place of one.
        first: bool,
    },
}

/// What happens to a next-hop object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHopObjectOperation {
    /// Created, marked.
    Create,
    /// It is a group, and another one of ours becomes it, in place: whatever leads to that follows.
    Replace(Arc<RouteGroup>),
    /// Deleted.
    Delete,
}

/// What happens to a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteOperation {
    /// Added, marked; refused where one of this key exists.
    Create(Route),
    /// Replaced by this one.
    Replace(Route),
    /// Deleted; it was this one.
    Delete(Route),
}

/// What happens to a program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramOperation {
    /// It is attached.
    Attach,
    /// It replaces another one of ours in place.
    Replace,
    /// It replaces one of an older version of the map ABI in place, which reads other maps.
    TakeOver,
    /// It is detached.
    Detach,
}

/// What happens to a next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextHopOperation {
    /// Written into a free slot.
    Put,
    /// Marked as down, or as usable again: one word, in place.
    SetDown(bool),
    /// Freed, its counters zeroed, after a grace period.
    Delete,
}

/// Whether something comes, changes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It comes.
    Add,
    /// It changes, or comes and nobody tells.
    Set,
    /// It goes.
    Delete,
}

impl Verb {
    /// The word: `add`, `set` or `delete`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::Set => "set",
            Verb::Delete => "delete",
        }
    }
}

impl Change {
    /// In a namespace; `None`: the agent's own.
    #[must_use]
    pub fn new(namespace: Option<Namespace>, action: impl Into<Action>) -> Change {
        Change {
            namespace,
            action: action.into(),
        }
    }

    /// What is changed, and where.
    #[must_use]
    pub fn located(&self) -> Located {
        Located {
            namespace: self.namespace.clone(),
            object: self.action.object(),
        }
    }
}

impl<A: Into<Action>> From<A> for Change {
    /// In the agent's own namespace.
    fn from(action: A) -> Change {
        Change::new(None, action)
    }
}

impl From<NetlinkChange> for Action {
    fn from(change: NetlinkChange) -> Action {
        Action::Netlink(change)
    }
}

impl From<SysctlChange> for Action {
    fn from(change: SysctlChange) -> Action {
        Action::Sysctl(change)
    }
}

impl From<WireGuardChange> for Action {
    fn from(change: WireGuardChange) -> Action {
        Action::WireGuard(change)
    }
}

impl From<NftChange> for Action {
    fn from(change: NftChange) -> Action {
        Action::Nft(change)
    }
}

impl From<BpfChange> for Action {
    fn from(change: BpfChange) -> Action {
        Action::Bpf(change)
    }
}

impl Action {
    /// What is changed. Of a device that is deleted under another name, that one.
    #[must_use]
    pub fn object(&self) -> Object {
        match self {
            Action::Netlink(change) => change.object(),
            Action::Sysctl(change) => Object::Sysctl(change.link.clone(), change.sysctl),
            Action::WireGuard(change) => Object::WireGuard(change.link.clone()),
            Action::Nft(_) => Object::Firewall,
            Action::Bpf(change) => change.object(),
        }
    }

    /// Whether the object comes, changes or goes.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            Action::Netlink(change) => change.verb(),
            Action::Sysctl(_) | Action::WireGuard(_) => Verb::Set,
            Action::Nft(NftChange::Create(_)) => Verb::Add,
            Action::Nft(NftChange::Replace(_)) => Verb::Set,
            Action::Nft(NftChange::Delete) => Verb::Delete,
            Action::Bpf(change) => change.verb(),
        }
    }
}

impl NetlinkChange {
    /// What is changed.
    #[must_use]
    pub fn object(&self) -> Object {
        match self {
            NetlinkChange::Link(name, _) => Object::Link(name.clone()),
            NetlinkChange::Address(link, address, _) => Object::Address(link.clone(), *address),
            NetlinkChange::Flood(link, to, _) => Object::Flood(link.clone(), *to),
            NetlinkChange::Neighbour(link, address, _) => Object::Neighbour(link.clone(), *address),
            NetlinkChange::NextHopObject(target, _) => Object::NextHopObject(target.clone()),
            NetlinkChange::Route(key, _) => Object::Route(*key),
            NetlinkChange::Rule(rule, _) => Object::Rule(Box::new(rule.clone())),
        }
    }

    /// Whether the object comes, changes or goes.
    #[must_use]
    pub fn verb(&self) -> Verb {
        match self {
            NetlinkChange::Link(_, LinkOperation::Create(_))
            | NetlinkChange::Address(_, _, AddressOperation::Create(_))
            | NetlinkChange::Flood(_, _, Existence::Create)
            | NetlinkChange::NextHopObject(_, NextHopObjectOperation::Create)
            | NetlinkChange::Route(_, RouteOperation::Create(_))
            | NetlinkChange::Rule(_, Existence::Create) => Verb::Add,
            NetlinkChange::Link(_, LinkOperation::Delete(_))
            | NetlinkChange::Address(_, _, AddressOperation::Delete { .. })
            | NetlinkChange::Flood(_, _, Existence::Delete)
            | NetlinkChange::Neighbour(_, _, Write::Delete)
            | NetlinkChange::NextHopObject(_, NextHopObjectOperation::Delete)
            | NetlinkChange::Route(_, RouteOperation::Delete(_))
            | NetlinkChange::Rule(_, Existence::Delete) => Verb::Delete,
            NetlinkChange::Link(..)
            | NetlinkChange::Address(..)
            | NetlinkChange::Neighbour(..)
            | NetlinkChange::NextHopObject(..)
            | NetlinkChange::Route(..) => Verb::Set,
        }
    }
}

impl BpfChange {
    fn object(&self) -> Object {
        match self {
            BpfChange::Program(link, hook, _) => Object::Program(link.clone(), *hook),
            BpfChange::DeleteVersion(version) => Object::Version(*version),
            BpfChange::Class(class, _) => Object::Class(*class),
            BpfChange::NextHop(next_hop, _) => Object::NextHop(Arc::clone(next_hop)),
            BpfChange::Group(group, _) => Object::Group(Arc::clone(group)),
            BpfChange::Prefix(prefix, _) => Object::Prefix(*prefix),
            BpfChange::Source(source, _) => Object::Source(*source),
        }
    }

    fn verb(&self) -> Verb {
        match self {
            BpfChange::Program(_, _, ProgramOperation::Attach)
            | BpfChange::NextHop(_, NextHopOperation::Put)
            | BpfChange::Group(_, Existence::Create)
            | BpfChange::Source(_, Existence::Create) => Verb::Add,
            BpfChange::Program(_, _, ProgramOperation::Detach)
            | BpfChange::DeleteVersion(_)
            | BpfChange::Class(_, Write::Delete)
            | BpfChange::NextHop(_, NextHopOperation::Delete)
            | BpfChange::Group(_, Existence::Delete)
            | BpfChange::Prefix(_, Write::Delete)
            | BpfChange::Source(_, Existence::Delete) => Verb::Delete,
            BpfChange::Program(..)
            | BpfChange::Class(..)
            | BpfChange::NextHop(..)
            | BpfChange::Prefix(..) => Verb::Set,
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
    /// Another one takes what it has: a UDP port or a VNI. What leads to this one is to be led to that one, so it goes first.
    MakesRoom {
        /// That one's name.
        taker: LinkName,
    },
    /// It is one of ours that somebody renamed, and another is made in its place.
    Renamed {
        /// The name that it had.
        name: LinkName,
        /// What it is.
        kind: LinkKind,
    },
}
