//! What is mended itself among the changes of one namespace, so that what hangs on it is one repair with it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::RepairKind;
use crate::model::change::DeleteLinkReason;
use crate::model::{Change, Class, Group, NextHop, Object, Target};
use crate::net::LinkName;

/// What a repair is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Subject {
    pub(super) kind: RepairKind,
    pub(super) object: String,
}

impl Subject {
    pub(super) fn link(name: &LinkName) -> Subject {
        Subject {
            kind: RepairKind::Link,
            object: Object::Link(name.clone()).to_string(),
        }
    }
}

/// What is mended itself, so that what hangs on it is mended with it.
#[derive(Default)]
pub(super) struct Roots<'a> {
    links: BTreeSet<&'a LinkName>,
    /// Devices of ours under other names, and the names that they had.
    pub(super) renamed: BTreeMap<&'a LinkName, &'a LinkName>,
    addresses: BTreeMap<IpAddr, Subject>,
    classes: BTreeSet<&'a Class>,
    next_hops: BTreeSet<&'a Arc<NextHop>>,
    groups: BTreeMap<&'a Arc<Group>, Subject>,
    /// The first thing that is put into a map.
    map: Option<Subject>,
}

impl<'a> Roots<'a> {
    pub(super) fn of(changes: impl Iterator<Item = &'a Change> + Clone) -> Roots<'a> {
        let mut roots = Roots::default();
        for change in changes.clone() {
            match change {
                Change::DeleteLink(other, DeleteLinkReason::Renamed { name, .. }) => {
                    roots.renamed.insert(other, name);
                    roots.links.insert(name);
                }
                Change::CreateLink(name, _)
                | Change::ModifyLink(name, _)
                | Change::SetLinkUp(name)
                | Change::SetLinkDown(name)
                | Change::DeleteLink(name, _) => drop(roots.links.insert(name)),
                Change::PutClass(class, _) => drop(roots.classes.insert(class)),
                Change::PutNextHop(next_hop) => drop(roots.next_hops.insert(next_hop)),
                _ => {}
            }
        }
        // They come in the order in which they depend on each other.
        for change in changes {
            let subject = roots.subject(change);
            match change {
                Change::CreateAddress(_, address, _)
                | Change::ReplaceAddress(_, address, _)
                | Change::MoveAddress(_, _, address, _) => {
                    roots.addresses.insert(address.addr(), subject);
                }
                Change::PutGroup(group) => drop(roots.groups.insert(group, subject)),
                Change::PutClass(..)
                | Change::PutNextHop(_)
                | Change::PutPrefix(..)
                | Change::PutSource(_)
                    if roots.map.is_none() && subject.kind == RepairKind::Map =>
                {
                    roots.map = Some(subject);
                }
                _ => {}
            }
        }
        roots
    }

    /// What a change mends: itself, or what it hangs on.
    pub(super) fn subject(&self, change: &Change) -> Subject {
        let by_link = self.device(change).filter(|name| self.links.contains(*name));
        if let Some(name) = by_link {
            return Subject::link(name);
        }
        let above = match change {
            Change::CreateRoute(_, route) | Change::ReplaceRoute(_, route) => {
                let source = route.kind.paths().and_then(|paths| paths.source);
                source.and_then(|source| self.addresses.get(&source).cloned())
            }
            Change::PutNextHop(next_hop) => self.of_class(next_hop),
            Change::PutGroup(group) => group
                .members
                .iter()
                .find_map(|(next_hop, _)| self.of_next_hop(next_hop)),
            Change::PutPrefix(_, target) => self.of_target(target),
            Change::DeletePrefix(_)
            | Change::DeleteGroup(_)
            | Change::DeleteNextHop(_)
            | Change::DeleteClass(_)
            | Change::DeleteSource(_) => self.map.clone(),
            _ => None,
        };
        above.unwrap_or_else(|| self.own(change))
    }

    /// The device that a change is about or needs, under the name that it shall have.
    fn device<'c>(&'c self, change: &'c Change) -> Option<&'c LinkName> {
        let name = match change {
            Change::DeleteLink(_, DeleteLinkReason::Renamed { name, .. })
            | Change::CreateLink(name, _)
            | Change::ModifyLink(name, _)
            | Change::SetLinkUp(name)
            | Change::SetLinkDown(name)
            | Change::SetAlias(name, _)
            | Change::AddFlood(name, _)
            | Change::DeleteFlood(name, _)
            | Change::DeleteLink(name, _)
            | Change::CreateAddress(name, ..)
            | Change::MoveAddress(name, ..)
            | Change::ReplaceAddress(name, ..)
            | Change::DeleteAddress(name, _)
            | Change::SetSysctl(name, ..)
            | Change::SetWireGuard(name, _)
            | Change::Attach(name, _)
            | Change::ReplaceProgram(name, _)
            | Change::TakeOverProgram(name, _)
            | Change::Detach(name, _)
            | Change::PutClass(_, name) => name,
            // A port goes from its bridge with either of them.
            Change::SetMaster(port, Some(bridge)) if !self.links.contains(port) => bridge,
            Change::SetMaster(port, _) => port,
            Change::CreateRoute(_, route) | Change::ReplaceRoute(_, route) => {
                let mut links = route.links();
                links.find(|link| self.links.contains(*link))?
            }
            _ => return None,
        };
        Some(self.renamed.get(name).copied().unwrap_or(name))
    }

    fn of_class(&self, next_hop: &NextHop) -> Option<Subject> {
        let class = self.classes.get(&next_hop.class)?;
        Some(map_subject(&format!("class {class}")))
    }

    fn of_next_hop(&self, next_hop: &Arc<NextHop>) -> Option<Subject> {
        let itself = || {
            Some(map_subject(&format!(
                "next hop {}",
                self.next_hops.get(next_hop)?
            )))
        };
        self.of_class(next_hop).or_else(itself)
    }

    fn of_target(&self, target: &Target) -> Option<Subject> {
        match target {
            Target::Group(group) => self.groups.get(group).cloned(),
            target => target.next_hops().find_map(|next_hop| self.of_next_hop(next_hop)),
        }
    }
}

pub(super) fn map_subject(object: &str) -> Subject {
    Subject {
        kind: RepairKind::Map,
        object: object.to_owned(),
    }
}
