//! What changes require and provide.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Detour, Nets, Slot};
use crate::model::{Class, Group, KernelState, Named, NextHop, RouteGroup, RouteHop, RouteTarget};
use crate::net::{LinkName, Namespace};

/// Something that a change may require, and others provide. One that no change of a set provides holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition<'a> {
    /// Nobody has it, or lets it go.
    Vacant(Slot<'a>),
    /// A device is there.
    Link(&'a LinkName),
    /// A device may be brought up: it has its program, and its key.
    Ready(&'a LinkName),
    /// Packets may be led to a device: it is up.
    Up(&'a LinkName),
    /// Nothing leads to a device any more.
    LinkUnused(&'a LinkName),
    /// No device sends by another one any more.
    LowerUnused(&'a LinkName),
    /// The machine has an address.
    Address(IpAddr),
    /// No route has an address for its source any more.
    AddressUnused(IpAddr),
    /// No route that names a device itself leads there any more.
    Unrouted(&'a LinkName),
    /// The kernel has deleted the routes by a device that it deletes with the device's last address.
    Flushed(&'a LinkName),
    /// A gateway within this prefix is reached without another one.
    Connected(IpNet),
    /// A neighbour is known on a device.
    Neighbour(&'a LinkName, IpAddr),
    /// No next-hop object needs a neighbour any more.
    NeighbourUnused(&'a LinkName, IpAddr),
    /// A next-hop object is there.
    NextHopObject(Target<'a>),
    /// No route and no group leads to a next-hop object any more.
    NextHopObjectUnused(Target<'a>),
    /// A class is in the maps.
    Class(&'a Class),
    /// No next hop is of a class any more.
    ClassUnused(&'a Class),
    /// A next hop is in the maps.
    NextHop(&'a NextHop),
    /// No group and no prefix leads to a next hop any more.
    NextHopUnused(&'a NextHop),
    /// A group is in the maps.
    Group(&'a Group),
    /// No prefix leads to a group any more.
    GroupUnused(&'a Group),
    /// A WireGuard device has a peer for a prefix.
    Allowed(&'a LinkName, IpNet),
    /// A WireGuard device's peer for a prefix is needed no more.
    AllowedUnused(&'a LinkName, IpNet),
    /// Packets to a prefix are led where they shall be.
    Led(IpNet),
    /// The same of the prefixes within this one.
    LedWithin(IpNet),
    /// The same of those within this one that have been led by other means.
    MovedWithin(IpNet),
    /// What led a prefix is gone.
    Left(IpNet),
    /// The route that refuses what an anchor does not take stands: by table and prefix.
    Backstop(u32, IpNet),
    /// No anchor stands before such a route any more.
    BackstopUnused(u32, IpNet),
    /// All routes of a table stand.
    Table(u32),
    /// All routes and prefixes lead where they shall.
    AllLed,
    /// All rules that lead to tables are there.
    RulesMade,
    /// Those that shall not be are gone.
    RulesGone,
    /// All rules about what comes in by a device are there.
    DeviceRules,
    /// The device has no program of Adit's any more.
    Detached(&'a LinkName),
    /// Our maps are complete, with the devices that they lead to.
    Maps,
    /// No program reads an older version's maps any more.
    TakenOver,
    /// Programs that shall be on no device are on none.
    ProgramsGone,
    /// No packet from a peer's address is awaited any more.
    SourceUnused(IpAddr),
    /// What the nft table guards is gone.
    Unguarded,
}

/// A next-hop object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target<'a> {
    Hop(&'a RouteHop),
    Group(&'a RouteGroup),
    Other(&'a str),
}

impl<'a> From<&'a RouteTarget> for Target<'a> {
    fn from(target: &'a RouteTarget) -> Target<'a> {
        match target {
            RouteTarget::Hop(hop) => Target::Hop(hop),
            RouteTarget::Group(group) => Target::Group(group),
            RouteTarget::Other(text) => Target::Other(text),
        }
    }
}

/// What stands around a change in its namespace.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) namespace: Option<&'a Namespace>,
    /// What was observed.
    pub(crate) before: &'a KernelState,
    /// The same without what the kernel deletes together with recreated devices.
    pub(crate) observed: &'a KernelState,
    /// The target, without conflicts and without what waits for something.
    pub(crate) target: &'a KernelState,
    /// Whom the manifests still name.
    pub(crate) named: &'a Named,
    /// How circles are left.
    pub(crate) detours: &'a BTreeSet<Detour>,
    /// Which prefixes of the namespace change.
    pub(crate) nets: &'a Nets,
}

/// The conditions that a change requires and provides, each with its network namespace.
pub(crate) struct Needs<'a> {
    namespace: Option<&'a Namespace>,
    pub(crate) requires: Vec<(Option<&'a Namespace>, Condition<'a>)>,
    pub(crate) provides: Vec<(Option<&'a Namespace>, Condition<'a>)>,
}

impl<'a> Needs<'a> {
    /// Nothing yet, in this namespace.
    pub(crate) fn at(namespace: Option<&'a Namespace>) -> Needs<'a> {
        Needs {
            namespace,
            requires: Vec::new(),
            provides: Vec::new(),
        }
    }

    pub(crate) fn requires(&mut self, condition: Condition<'a>) {
        self.requires.push((self.namespace, condition));
    }

    pub(crate) fn provides(&mut self, condition: Condition<'a>) {
        self.provides.push((self.namespace, condition));
    }

    pub(crate) fn requires_at(&mut self, namespace: Option<&'a Namespace>, condition: Condition<'a>) {
        self.requires.push((namespace, condition));
    }

    pub(crate) fn provides_at(&mut self, namespace: Option<&'a Namespace>, condition: Condition<'a>) {
        self.provides.push((namespace, condition));
    }
}
