//! Which changes mend what was changed behind our back, and what was found broken. Pure.
//!
//! A device takes along what is on it, an address the routes that name it, a device's last IPv4 address the IPv4 routes by that
//! device, a next-hop object those that lead to it and its place in groups: one thing that somebody did is one repair, however
//! many changes mend it, and in however many passes.

mod earlier;
mod roots;
mod words;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use self::earlier::Earlier;
use self::earlier::Place;
use self::roots::Subject;
use crate::model::change::DeleteLinkReason;
use crate::model::{Change, KernelState, LinkKind, Owner, RouteTarget};
use crate::net::Namespace;

/// What kind of object was mended; stable words for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RepairKind {
    /// A device.
    Link,
    /// An address on one.
    Address,
    /// A route.
    Route,
    /// A device's setting.
    Sysctl,
    /// WireGuard's keys and peers.
    WireGuard,
    /// A program on a device.
    Program,
    /// A map's entry.
    Map,
    /// The nft table.
    Firewall,
    /// A policy rule.
    Rule,
    /// A neighbour, or a destination of a device that has several.
    Neighbour,
    /// A next-hop object.
    NextHop,
}

impl RepairKind {
    /// All of them.
    pub const ALL: [RepairKind; 11] = [
        RepairKind::Link,
        RepairKind::Address,
        RepairKind::Route,
        RepairKind::Sysctl,
        RepairKind::WireGuard,
        RepairKind::Program,
        RepairKind::Map,
        RepairKind::Firewall,
        RepairKind::Rule,
        RepairKind::Neighbour,
        RepairKind::NextHop,
    ];

    /// The stable word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            RepairKind::Link => "link",
            RepairKind::Address => "address",
            RepairKind::Route => "route",
            RepairKind::Sysctl => "sysctl",
            RepairKind::WireGuard => "wireguard",
            RepairKind::Program => "program",
            RepairKind::Map => "map",
            RepairKind::Firewall => "nftables",
            RepairKind::Rule => "rule",
            RepairKind::Neighbour => "neighbour",
            RepairKind::NextHop => "nexthop",
        }
    }
}

/// Something that was not as it shall be, although nobody wanted it otherwise since it last was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// What kind of object.
    pub kind: RepairKind,
    /// Which one: `link adit-geneve`.
    pub object: String,
    /// What was found: `was gone`.
    pub found: String,
    /// The places of its changes among all, in order; never empty.
    pub changes: Vec<usize>,
    /// Whether all of them follow from something whose repair was counted before.
    pub follows: bool,
    /// What it mends itself: one thing, or both ends of a pair.
    subjects: Vec<At>,
}

/// What a repair is of, and in which namespace.
type At = (Option<Namespace>, Subject);

impl Repair {
    /// Makes another one a part of this one.
    fn join(&mut self, part: Repair) {
        self.changes.extend(part.changes);
        self.changes.sort_unstable();
        self.subjects.extend(part.subjects);
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.object, self.found)
    }
}

/// The repairs among changes that lead from `observed` to `target`; `before` is the target that was reached last. What
/// is wanted otherwise than then is no repair. What follows from something `earlier` is part of that, and no repair where that
/// was wanted.
#[must_use]
pub fn repairs(
    changes: &[Change],
    observed: &KernelState,
    (before, target): (&KernelState, &KernelState),
    earlier: &Earlier,
) -> Vec<Repair> {
    let mut found = BTreeMap::new();
    for (namespace, changes) in by_place(changes) {
        let place = Place::new(&changes, namespace, observed, (before, target), earlier);
        for (subject, mut repair) in of_one(&changes, &place) {
            if let Some(namespace) = namespace {
                repair.object = format!("{namespace}: {}", repair.object);
            }
            found.insert((namespace.cloned(), subject), repair);
        }
    }
    join_pairs(&mut found, changes);
    earlier.join(&mut found);
    let mut found = found.into_values().collect::<Vec<_>>();
    for repair in &mut found {
        if repair.found.is_empty() {
            "was not as it should be".clone_into(&mut repair.found);
        }
    }
    found.sort_by_key(|repair| repair.changes[0]);
    found
}

/// Changes by the namespace that they are made in, with their places among all.
fn by_place(changes: &[Change]) -> BTreeMap<Option<&Namespace>, Vec<(usize, &Change)>> {
    let mut places: BTreeMap<Option<&Namespace>, Vec<(usize, &Change)>> = BTreeMap::new();
    for (place, change) in changes.iter().enumerate() {
        let there = places.entry(change.namespace()).or_default();
        there.push((place, change.bare()));
    }
    places
}

/// The repairs in one namespace, with the places of its changes among all. Those of which nothing itself is mended follow from
/// something earlier.
fn of_one(changes: &[(usize, &Change)], place: &Place<'_>) -> BTreeMap<Subject, Repair> {
    let mut found: BTreeMap<Subject, Repair> = BTreeMap::new();
    for &(number, change) in changes.iter().filter(|(_, change)| place.has_drifted(change)) {
        let subject = place.mended.subject(change);
        let repair = found.entry(subject.clone()).or_insert_with(|| Repair {
            kind: subject.kind,
            object: subject.object.clone(),
            found: String::new(),
            changes: Vec::new(),
            follows: true,
            subjects: vec![(place.namespace.cloned(), subject.clone())],
        });
        repair.changes.push(number);
        let itself = place.mended.own(change) == subject;
        repair.follows &= !itself;
        // What a change of something else finds follows from the first.
        let text = itself
            .then(|| place.mended.found(change, place.observed))
            .flatten();
        if let Some(text) = text {
            if !repair.found.is_empty() {
                repair.found.push_str(" and ");
            }
            repair.found.push_str(&text);
        }
    }
    found
}

/// An end of a veth pair that is made anew brings the other one along: both are one repair.
fn join_pairs(found: &mut BTreeMap<At, Repair>, changes: &[Change]) {
    for change in changes {
        let Change::CreateLink(name, link) = change.bare() else {
            continue;
        };
        let LinkKind::Veth(peer) = &link.kind else {
            continue;
        };
        let other = (peer.namespace.clone(), Subject::link(&peer.name));
        let maker = (change.namespace().cloned(), Subject::link(name));
        if !found.contains_key(&maker) {
            continue;
        }
        if let Some(along) = found.remove(&other)
            && let Some(repair) = found.get_mut(&maker)
        {
            repair.join(along);
        }
    }
}

/// Whether a change takes away what the kernel made by itself: an address, or what it left of a group when a device was
/// made anew. Nobody meddled, but with the device.
fn is_the_kernels(change: &Change, observed: &KernelState) -> bool {
    match change {
        Change::DeleteAddress(link, address) => {
            let found = observed.addresses.get(&(link.clone(), *address));
            found.is_some_and(|found| found.owner == Owner::Kernel)
        }
        Change::DeleteRouteTarget(left) => !observed.route_targets.contains(left),
        _ => false,
    }
}

/// Whether both targets say the same of what a change is about.
fn is_same(change: &Change, before: &KernelState, target: &KernelState) -> bool {
    match change {
        Change::DeleteLink(_, DeleteLinkReason::Renamed { name, .. })
        | Change::CreateLink(name, _)
        | Change::ModifyLink(name, _)
        | Change::SetLinkUp(name)
        | Change::SetLinkDown(name)
        | Change::DeleteLink(name, _) => before.links.get(name) == target.links.get(name),
        Change::SetMaster(name, _) => before.masters.get(name) == target.masters.get(name),
        Change::SetAlias(name, _) => before.aliases.get(name) == target.aliases.get(name),
        Change::AddFlood(name, _) | Change::DeleteFlood(name, _) => {
            before.flood.get(name) == target.flood.get(name)
        }
        Change::CreateRule(rule) | Change::DeleteRule(rule) => {
            before.rules.contains(rule) == target.rules.contains(rule)
        }
        Change::In(_, change) => is_same(change, before, target),
        Change::CreateAddress(link, address, _)
        | Change::ReplaceAddress(link, address, _)
        | Change::MoveAddress(link, _, address, _)
        | Change::DeleteAddress(link, address) => {
            let key = (link.clone(), *address);
            before.addresses.get(&key) == target.addresses.get(&key)
        }
        Change::CreateRoute(key, _) | Change::ReplaceRoute(key, _) | Change::DeleteRoute(key, _) => {
            before.routes.get(key) == target.routes.get(key)
        }
        Change::CreateRouteTarget(made) | Change::DeleteRouteTarget(made) => {
            before.route_targets.contains(made) == target.route_targets.contains(made)
        }
        Change::ReplaceRouteGroup(_, group) => {
            let group = RouteTarget::Group(Arc::clone(group));
            before.route_targets.contains(&group) == target.route_targets.contains(&group)
        }
        Change::PutNeighbour(link, address, _) | Change::DeleteNeighbour(link, address) => {
            let key = (link.clone(), *address);
            before.neighbours.get(&key) == target.neighbours.get(&key)
        }
        Change::SetSysctl(link, sysctl, _) => {
            let key = (link.clone(), *sysctl);
            before.sysctls.get(&key) == target.sysctls.get(&key)
        }
        Change::SetWireGuard(link, _) => before.wireguard.get(link) == target.wireguard.get(link),
        Change::Attach(link, hook)
        | Change::ReplaceProgram(link, hook)
        | Change::TakeOverProgram(link, hook)
        | Change::Detach(link, hook) => {
            let key = (link.clone(), *hook);
            before.attachments.get(&key) == target.attachments.get(&key)
        }
        Change::PutClass(class, _) | Change::DeleteClass(class) => {
            before.classes.get(class) == target.classes.get(class)
        }
        Change::PutNextHop(next_hop) | Change::DeleteNextHop(next_hop) => {
            before.next_hops.contains(next_hop) == target.next_hops.contains(next_hop)
        }
        Change::SetNextHopDown(next_hop, _) => {
            before.down.contains(next_hop) == target.down.contains(next_hop)
        }
        Change::PutGroup(group) | Change::DeleteGroup(group) => {
            before.groups.contains(group) == target.groups.contains(group)
        }
        Change::PutPrefix(prefix, _) | Change::DeletePrefix(prefix) => {
            before.prefixes.get(prefix) == target.prefixes.get(prefix)
        }
        Change::PutSource(source) | Change::DeleteSource(source) => {
            before.sources.contains(source) == target.sources.contains(source)
        }
        Change::CreateFirewall(_) | Change::ReplaceFirewall(_) | Change::DeleteFirewall => {
            before.firewall == target.firewall
        }
        // An older agent's leavings are nobody's meddling.
        Change::DeleteVersion(_) => false,
    }
}
