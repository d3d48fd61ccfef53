//! The conditions that changes require and provide.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{Detour, Nets, Slot};
use crate::model::{Class, Group, KernelState, Named, NextHop, NextHopObject, RouteGroup, RouteHop};
use crate::net::{Family, LinkName, Namespace};

/// A condition that changes require or provide. A condition that no change of a set provides holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Condition<'a> {
    /// No device has the unique property, or the device that has it gives it up.
    SlotFree(Slot<'a>),
    /// A device exists.
    Link(&'a LinkName),
    /// A device may be brought up: it has its program, and its key.
    Ready(&'a LinkName),
    /// A device is up, so packets may be routed to it.
    Up(&'a LinkName),
    /// No route, next hop or class uses a device any more.
    LinkUnused(&'a LinkName),
    /// No device sends through this lower device any more.
    LowerUnused(&'a LinkName),
    /// The machine has an address.
    Address(IpAddr),
    /// No route has this source address any more.
    AddressUnused(IpAddr),
    /// No route that names this device itself exists any more.
    Unrouted(&'a LinkName),
    /// The kernel has deleted the routes through a device that it deletes together with the last address of
    /// the device.
    RoutesFlushed(&'a LinkName),
    /// Gateways in this prefix are reached without another gateway.
    Connected(IpNet),
    /// A permanent neighbour exists on a device.
    Neighbour(&'a LinkName, IpAddr),
    /// No next-hop object needs a neighbour any more.
    NeighbourUnused(&'a LinkName, IpAddr),
    /// A next-hop object exists.
    NextHopObject(NextHopObjectRef<'a>),
    /// No route and no group uses a next-hop object any more.
    NextHopObjectUnused(NextHopObjectRef<'a>),
    /// A class is in the maps.
    Class(&'a Class),
    /// No next hop is of a class any more.
    ClassUnused(&'a Class),
    /// A next hop is in the maps.
    NextHop(&'a NextHop),
    /// No group and no prefix points to a next hop any more.
    NextHopUnused(&'a NextHop),
    /// A group is in the maps.
    Group(&'a Group),
    /// No prefix points to a group any more.
    GroupUnused(&'a Group),
    /// A WireGuard device has a peer for a prefix.
    Allowed(&'a LinkName, IpNet),
    /// The peer of a WireGuard device for a prefix is no longer needed.
    AllowedUnused(&'a LinkName, IpNet),
    /// Packets to a prefix take their desired path.
    OnDesiredPath(IpNet),
    /// The same for the prefixes inside this one.
    OnDesiredPathsWithin(IpNet),
    /// The same for the prefixes inside this one that were forwarded by other means before.
    MovedWithin(IpNet),
    /// The former route or map entry of a prefix is deleted.
    FormerPathDeleted(IpNet),
    /// The backstop route behind an anchor exists: by table and prefix.
    Backstop(u32, IpNet),
    /// No anchor exists in front of this backstop route any more.
    BackstopUnused(u32, IpNet),
    /// All desired routes of a family exist in a table.
    Table(Family, u32),
    /// The rules exist that keep packets with a more specific route from later rules of the family
    /// (`suppress_prefixlength`).
    SpecificRules(Family),
    /// No later rule of the family needs those any more.
    SpecificRulesUnused(Family),
    /// All routes and prefixes have their desired targets.
    AllOnDesiredPaths,
    /// All desired rules that lead to tables exist.
    RulesCreated,
    /// All undesired rules are deleted.
    RulesDeleted,
    /// All desired rules for packets that arrive on a device (`iif`) exist.
    DeviceRules,
    /// The device has no BPF program of Adit any more.
    Detached(&'a LinkName),
    /// The maps of this ABI version are complete, and the devices in them exist.
    Maps,
    /// No program reads the maps of an older ABI version any more.
    TakenOver,
    /// All undesired programs are detached.
    ProgramsDetached,
    /// No packets are expected from this peer address any more.
    SourceUnused(IpAddr),
    /// Everything that the nft table protects is deleted.
    FirewallUnneeded,
}

/// A next-hop object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NextHopObjectRef<'a> {
    Hop(&'a RouteHop),
    Group(&'a RouteGroup),
    Other(&'a str),
}

impl<'a> From<&'a NextHopObject> for NextHopObjectRef<'a> {
    fn from(object: &'a NextHopObject) -> NextHopObjectRef<'a> {
        match object {
            NextHopObject::Hop(hop) => NextHopObjectRef::Hop(hop),
            NextHopObject::Group(group) => NextHopObjectRef::Group(group),
            NextHopObject::Other(text) => NextHopObjectRef::Other(text),
        }
    }
}

/// The context of a change in its namespace.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) namespace: Option<&'a Namespace>,
    /// The observed state.
    pub(crate) before: &'a KernelState,
    /// The same without what the kernel deletes together with recreated devices.
    pub(crate) observed: &'a KernelState,
    /// The desired state, without conflicts and waiting objects.
    pub(crate) desired: &'a KernelState,
    /// The peers that manifests still name.
    pub(crate) named: &'a Named,
    /// The detours by which circles of changes are broken.
    pub(crate) detours: &'a BTreeSet<Detour>,
    /// The prefixes that the changes of the namespace concern.
    pub(crate) nets: &'a Nets,
}

/// The conditions that a change requires and provides, each with its network namespace.
pub(crate) struct Needs<'a> {
    namespace: Option<&'a Namespace>,
    pub(crate) requires: Vec<(Option<&'a Namespace>, Condition<'a>)>,
    pub(crate) provides: Vec<(Option<&'a Namespace>, Condition<'a>)>,
}

impl<'a> Needs<'a> {
    /// No conditions yet, in this namespace.
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
