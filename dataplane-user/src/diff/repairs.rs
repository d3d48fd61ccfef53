//! Which changes repair what others changed, and what was found. Pure.
//!
//! When a device is deleted, the kernel deletes the objects on it; with an address, the routes that name it;
//! with the last IPv4 address of a device, the IPv4 routes through that device; with a next-hop object, the
//! routes that lead to it and its membership in groups. One outside change is one repair, however many
//! changes and reconciliations restore it.

mod description;
mod earlier;
mod roots;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

pub use self::earlier::Earlier;
use self::earlier::Scope;
use crate::model::change::{
    AddressChange, AddressOperation, BpfChange, LinkChange, LinkOperation, NetlinkChange, NextHopChange,
    NextHopObjectChange, NextHopObjectOperation, NextHopOperation, ObjectKind,
};
use crate::model::{Action, Change, KernelState, LinkKind, Located, Object, Owner};
use crate::net::Namespace;

/// The kind of the repaired object; a stable word for metrics. All contents of BPF maps are one kind.
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

/// An object that differed from the desired state, although its desired state is the same as when it was last
/// reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    /// Which object.
    pub object: Located,
    /// What was found: `was gone`.
    pub found: String,
    /// The indexes of its changes among all changes, in ascending order; never empty.
    pub changes: Vec<usize>,
    /// Whether all of its changes follow from a repair that was counted before.
    pub follows: bool,
    /// The objects that it repairs: one object, or both ends of a veth pair.
    subjects: Vec<Located>,
}

impl Repair {
    /// The kind of the repaired object.
    #[must_use]
    pub fn kind(&self) -> RepairKind {
        RepairKind::from(self.object.object.kind())
    }

    /// Adds another repair to this one.
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

/// The states by which changes are judged.
#[derive(Clone, Copy)]
pub struct States<'a> {
    /// The desired state that was reached last.
    pub reached: &'a KernelState,
    /// The observed state.
    pub observed: &'a KernelState,
    /// The desired state.
    pub desired: &'a KernelState,
}

/// The repairs among changes that lead from the observed state to the desired one. If the desired state of an
/// object differs from the state that was reached last, its change is no repair. A change
/// that follows from an `earlier` repair is a part of that repair; one that follows from an earlier manifest
/// change is no repair.
#[must_use]
pub fn repairs(changes: &[Change], states: States<'_>, earlier: &Earlier) -> Vec<Repair> {
    let mut found = BTreeMap::new();
    for (namespace, changes) in by_namespace(changes) {
        let scope = Scope::new(&changes, namespace, states, earlier);
        found.extend(of_one(&changes, &scope));
    }
    join_pairs(&mut found, changes);
    earlier.join(&mut found);
    let mut found = found.into_values().collect::<Vec<_>>();
    for repair in &mut found {
        if repair.found.is_empty() {
            "differed from the desired state".clone_into(&mut repair.found);
        }
    }
    found.sort_by_key(|repair| repair.changes[0]);
    found
}

/// The changes of each namespace, with their indexes among all changes.
fn by_namespace(changes: &[Change]) -> BTreeMap<Option<&Namespace>, Vec<(usize, &Action)>> {
    let mut namespaces: BTreeMap<Option<&Namespace>, Vec<(usize, &Action)>> = BTreeMap::new();
    for (index, change) in changes.iter().enumerate() {
        let of_namespace = namespaces.entry(change.namespace.as_ref()).or_default();
        of_namespace.push((index, &change.action));
    }
    namespaces
}

/// The repairs in one namespace; `changes` have their indexes among all changes. A repair that has no change
/// of the object itself follows from an earlier repair.
fn of_one(changes: &[(usize, &Action)], scope: &Scope<'_>) -> BTreeMap<Located, Repair> {
    let mut found: BTreeMap<Located, Repair> = BTreeMap::new();
    for &(number, change) in changes.iter().filter(|(_, change)| scope.has_drifted(change)) {
        let subject = scope.repaired.subject(change);
        let itself = roots::own(change) == subject;
        let subject = subject.at(scope.namespace.cloned());
        let repair = found.entry(subject.clone()).or_insert_with(|| Repair {
            object: subject.clone(),
            found: String::new(),
            changes: Vec::new(),
            follows: true,
            subjects: vec![subject],
        });
        repair.changes.push(number);
        repair.follows &= !itself;
        // Only the change of the object itself describes the repair; changes of its dependents follow from it.
        let text = itself
            .then(|| description::found(change, scope.observed, &scope.repaired))
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

/// Creating one end of a veth pair also creates the other one: both are one repair.
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

/// Whether a change deletes an object that the kernel created by itself: an address, or the rest of a group
/// whose device was recreated. In both cases only the device was changed from outside.
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
        ))) => !observed.next_hop_objects.contains(left),
        _ => false,
    }
}

/// Whether the object of a change has the same desired state in both.
fn is_same(change: &Action, before: &KernelState, desired: &KernelState) -> bool {
    match change {
        Action::Netlink(NetlinkChange::Link(LinkChange(name, LinkOperation::SetMaster(_)))) => {
            before.masters.get(name) == desired.masters.get(name)
        }
        Action::Netlink(NetlinkChange::Link(LinkChange(name, LinkOperation::SetAlias(_)))) => {
            before.aliases.get(name) == desired.aliases.get(name)
        }
        Action::Bpf(BpfChange::NextHop(NextHopChange(next_hop, NextHopOperation::SetDown(_)))) => {
            before.down.contains(next_hop) == desired.down.contains(next_hop)
        }
        change => before.says_the_same(desired, &roots::own(change)),
    }
}
