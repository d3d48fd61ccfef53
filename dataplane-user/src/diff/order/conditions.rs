//! What changes require and provide.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::nets::Nets;
use super::{Detour, Slot};
use crate::diff::{
    addresses, attachments, bpf, firewall, flood, links, neighbours, nexthops, routes, rules, sources,
    sysctls, versions, wireguard,
};
use crate::model::change::{BpfChange, Dependencies, NetlinkChange};
use crate::model::{
    Action, Change, Class, Group, KernelState, Named, NextHop, RouteGroup, RouteHop, RouteTarget,
};
use crate::net::{LinkName, Namespace};

/// Something that a change may require, and others provide. One that no change of a set provides holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::diff) enum Condition<'a> {
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
pub(in crate::diff) enum Target<'a> {
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
pub(in crate::diff) struct Around<'a> {
    pub namespace: Option<&'a Namespace>,
    /// What was observed.
    pub before: &'a KernelState,
    /// The same without what the kernel deletes together with recreated devices.
    pub observed: &'a KernelState,
    /// The target, without conflicts and without what waits for something.
    pub target: &'a KernelState,
    /// Whom the manifests still name.
    pub named: &'a Named,
    /// How circles are left.
    pub detours: &'a BTreeSet<Detour>,
    /// Which prefixes of the namespace change.
    pub nets: &'a Nets,
}

/// The conditions that a change requires and provides, each with its network namespace.
pub(in crate::diff) struct Needs<'a> {
    namespace: Option<&'a Namespace>,
    requires: Vec<(Option<&'a Namespace>, Condition<'a>)>,
    provides: Vec<(Option<&'a Namespace>, Condition<'a>)>,
}

impl<'a> Needs<'a> {
    pub(in crate::diff) fn requires(&mut self, condition: Condition<'a>) {
        self.requires.push((self.namespace, condition));
    }

    pub(in crate::diff) fn provides(&mut self, condition: Condition<'a>) {
        self.provides.push((self.namespace, condition));
    }

    pub(in crate::diff) fn requires_at(
        &mut self,
        namespace: Option<&'a Namespace>,
        condition: Condition<'a>,
    ) {
        self.requires.push((namespace, condition));
    }

    pub(in crate::diff) fn provides_at(
        &mut self,
        namespace: Option<&'a Namespace>,
        condition: Condition<'a>,
    ) {
        self.provides.push((namespace, condition));
    }
}

/// What each change requires and provides; conditions that nothing provides are left out. And of each condition, whether it is that something is
/// vacant.
pub(super) fn of_changes(
    changes: &[Change],
    (before, observed, target): (&KernelState, &KernelState, &KernelState),
    detours: &BTreeSet<Detour>,
) -> (Vec<Dependencies>, Vec<bool>) {
    let empty = KernelState::default();
    let mut nets: BTreeMap<Option<&Namespace>, Nets> = BTreeMap::new();
    for change in changes {
        let namespace = change.namespace.as_ref();
        let there = target.at(namespace).unwrap_or(&empty);
        let found = before.at(namespace).unwrap_or(&empty);
        let nets = nets.entry(namespace).or_insert_with(|| Nets::of(found, there));
        nets.add(&change.action, there);
    }
    let mut numbers = BTreeMap::new();
    let mut needs = Vec::with_capacity(changes.len());
    for change in changes {
        let namespace = change.namespace.as_ref();
        let around = Around {
            namespace,
            before: before.at(namespace).unwrap_or(&empty),
            observed: observed.at(namespace).unwrap_or(&empty),
            target: target.at(namespace).unwrap_or(&empty),
            named: &target.named,
            detours,
            nets: &nets[&namespace],
        };
        let mut of_change = Needs {
            namespace,
            requires: Vec::new(),
            provides: Vec::new(),
        };
        describe(change, around, &mut of_change);
        for condition in &of_change.provides {
            let next = u32::try_from(numbers.len()).expect("fewer conditions than 2^32");
            numbers.entry(*condition).or_insert(next);
        }
        needs.push(of_change);
    }
    let numbered = |conditions: Vec<_>| {
        let mut conditions = conditions
            .iter()
            .filter_map(|condition| numbers.get(condition).copied())
            .collect::<Vec<u32>>();
        conditions.sort_unstable();
        conditions.dedup();
        conditions
    };
    let dependencies = needs.into_iter().map(|needs| {
        let provides = numbered(needs.provides);
        let mut requires = numbered(needs.requires);
        // What a change does itself it need not wait for.
        requires.retain(|condition| provides.binary_search(condition).is_err());
        Dependencies { requires, provides }
    });
    let dependencies = dependencies.collect();
    let mut of_slots = vec![false; numbers.len()];
    for ((_, condition), &number) in &numbers {
        of_slots[number as usize] = matches!(condition, Condition::Vacant(_));
    }
    (dependencies, of_slots)
}

fn describe<'a>(change: &'a Change, around: Around<'a>, needs: &mut Needs<'a>) {
    match &change.action {
        Action::Netlink(change) => match change {
            NetlinkChange::Link(name, operation) => links::needs(name, operation, around, needs),
            NetlinkChange::Address(link, address, operation) => {
                addresses::needs(link, *address, operation, around, needs);
            }
            NetlinkChange::Flood(link, _, existence) => flood::needs(link, *existence, needs),
            NetlinkChange::Neighbour(link, address, write) => {
                neighbours::needs(link, *address, write, needs);
            }
            NetlinkChange::NextHopObject(target, operation) => {
                nexthops::needs(target, operation, around, needs);
            }
            NetlinkChange::Route(key, operation) => routes::needs(key, operation, around, needs),
            NetlinkChange::Rule(rule, existence) => rules::needs(rule, *existence, needs),
        },
        Action::Sysctl(change) => sysctls::needs(change, needs),
        Action::WireGuard(change) => wireguard::needs(change, around, needs),
        Action::Nft(change) => firewall::needs(change, needs),
        Action::Bpf(change) => match change {
            BpfChange::Program(link, _, operation) => attachments::needs(link, *operation, needs),
            BpfChange::DeleteVersion(_) => versions::needs(needs),
            BpfChange::Source(source, existence) => sources::needs(source, *existence, around, needs),
            change => bpf::needs(change, around, needs),
        },
    }
}
