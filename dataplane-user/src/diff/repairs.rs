//! Which changes mend what was changed behind our back, and what was found broken. Pure.
//!
//! A device takes along what is on it, an address the routes that name it, a device's last IPv4 address the IPv4 routes by that
//! device, a next-hop object those that lead to it and its place in groups: one thing that somebody did is one repair, however
//! many changes mend it, and in however many passes.

mod earlier;
mod roots;
mod words;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use self::earlier::Earlier;
use self::earlier::Place;
use crate::model::change::{
    AddressChange, AddressOperation, BpfChange, LinkChange, LinkOperation, NetlinkChange, NextHopChange,
    NextHopObjectChange, NextHopObjectOperation, NextHopOperation, ObjectKind,
};
use crate::model::{Action, Change, KernelState, LinkKind, Located, Object, Owner};
use crate::net::Namespace;

/// What kind of object was mended; a stable word for metrics. All that maps hold is one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RepairKind(&'static str);

impl RepairKind {
    /// All of them.
    #[must_use]
    pub fn all() -> BTreeSet<RepairKind> {
        ObjectKind::ALL.iter().copied().map(RepairKind::from).collect()
    }

    /// The stable word.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0
    }
}

impl From<ObjectKind> for RepairKind {
    fn from(kind: ObjectKind) -> RepairKind {
        RepairKind(kind.repair())
    }
}

/// Something that was not as it shall be, although nobody wanted it otherwise since it last was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Which object.
    pub object: Located,
    /// What was found: `was gone`.
    pub found: String,
    /// The places of its changes among all, in order; never empty.
    pub changes: Vec<usize>,
    /// Whether all of them follow from something whose repair was counted before.
    pub follows: bool,
    /// What it mends itself: one thing, or both ends of a pair.
    subjects: Vec<Located>,
}

impl Repair {
    /// What kind of object was mended.
    #[must_use]
    pub fn kind(&self) -> RepairKind {
        RepairKind::from(self.object.object.kind())
    }

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
    for (namespace, changes) in by_namespace(changes) {
        let place = Place::new(&changes, namespace, observed, (before, target), earlier);
        found.extend(of_one(&changes, &place));
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
fn by_namespace(changes: &[Change]) -> BTreeMap<Option<&Namespace>, Vec<(usize, &Action)>> {
    let mut places: BTreeMap<Option<&Namespace>, Vec<(usize, &Action)>> = BTreeMap::new();
    for (place, change) in changes.iter().enumerate() {
        let there = places.entry(change.namespace.as_ref()).or_default();
        there.push((place, &change.action));
    }
    places
}

/// The repairs in one namespace, with the places of its changes among all. Those of which nothing itself is mended follow from
/// something earlier.
fn of_one(changes: &[(usize, &Action)], place: &Place<'_>) -> BTreeMap<Located, Repair> {
    let mut found: BTreeMap<Located, Repair> = BTreeMap::new();
    for &(number, change) in changes.iter().filter(|(_, change)| place.has_drifted(change)) {
        let subject = place.mended.subject(change);
        let itself = roots::own(change) == subject;
        let subject = subject.at(place.namespace.cloned());
        let repair = found.entry(subject.clone()).or_insert_with(|| Repair {
            object: subject.clone(),
            found: String::new(),
            changes: Vec::new(),
            follows: true,
            subjects: vec![subject],
        });
        repair.changes.push(number);
        repair.follows &= !itself;
        // What a change of something else finds follows from the first.
        let text = itself
            .then(|| words::found(change, place.observed, &place.mended))
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
fn join_pairs(found: &mut BTreeMap<Located, Repair>, changes: &[Change]) {
    for change in changes {
        let Action::Netlink(NetlinkChange::Link(LinkChange(_, LinkOperation::Create(link)))) = &change.action
        else {
            continue;
        };
        let LinkKind::Veth(peer) = &link.kind else {
            continue;
        };
        let other = Object::Link(peer.name.clone()).at(peer.namespace.clone());
        let maker = change.located();
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
fn is_the_kernels(change: &Action, observed: &KernelState) -> bool {
    match change {
        Action::Netlink(NetlinkChange::Address(AddressChange(
            link,
            address,
            AddressOperation::Delete { .. },
        ))) => {
            let found = observed.addresses.get(&(link.clone(), *address));
            found.is_some_and(|found| found.owner == Owner::Kernel)
        }
        Action::Netlink(NetlinkChange::NextHopObject(NextHopObjectChange(
            left,
            NextHopObjectOperation::Delete,
        ))) => !observed.route_targets.contains(left),
        _ => false,
    }
}

/// Whether both targets say the same of what a change is about.
fn is_same(change: &Action, before: &KernelState, target: &KernelState) -> bool {
    match change {
        Action::Netlink(NetlinkChange::Link(LinkChange(name, LinkOperation::SetMaster(_)))) => {
            before.masters.get(name) == target.masters.get(name)
        }
        Action::Netlink(NetlinkChange::Link(LinkChange(name, LinkOperation::SetAlias(_)))) => {
            before.aliases.get(name) == target.aliases.get(name)
        }
        Action::Bpf(BpfChange::NextHop(NextHopChange(next_hop, NextHopOperation::SetDown(_)))) => {
            before.down.contains(next_hop) == target.down.contains(next_hop)
        }
        change => before.says_the_same(target, &roots::own(change)),
    }
}
