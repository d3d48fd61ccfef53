//! What is mended itself among the changes of one namespace, so that what hangs on it is one repair with it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::RepairKind;
use crate::model::change::DeleteLinkReason;
use crate::model::{
    Change, Class, Group, KernelState, NextHop, Object, Route, RouteGroup, RouteKey, RouteTarget, Target,
};
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
    /// Next-hop objects that are made anew: what leads to them went with them.
    made: BTreeMap<RouteTarget, Subject>,
    /// Those that stand in place of such, and go.
    instead: BTreeMap<RouteTarget, Subject>,
    /// The first thing that is put into a map.
    map: Option<Subject>,
}

impl<'a> Roots<'a> {
    pub(super) fn of(changes: impl Iterator<Item = &'a Change> + Clone, observed: &KernelState) -> Roots<'a> {
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
                Change::CreateRouteTarget(target) => drop(roots.made.insert(target.clone(), subject)),
                Change::ReplaceRouteGroup(from, to) => roots.leave_members(from, to, &subject),
                Change::ReplaceRoute(key, route) if subject.kind != RepairKind::Route => {
                    roots.leave(observed, key, route, &subject);
                }
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
                let by_target = route.target().and_then(|target| self.made.get(target));
                let by_source = || self.addresses.get(&route.source()?);
                by_target.or_else(by_source).cloned()
            }
            Change::CreateRouteTarget(RouteTarget::Group(group)) | Change::ReplaceRouteGroup(_, group) => {
                self.of_members(group)
            }
            Change::DeleteRouteTarget(target) => self.instead.get(target).cloned(),
            Change::PutNextHop(next_hop) => self.of_class(next_hop),
            Change::SetNextHopDown(next_hop, _) => self.of_next_hop(next_hop),
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
            | Change::PutNeighbour(name, ..)
            | Change::DeleteNeighbour(name, _)
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
            Change::CreateRouteTarget(target) => {
                let mut links = target.hops().map(|hop| &hop.link);
                links.find(|link| self.links.contains(*link))?
            }
            Change::ReplaceRouteGroup(_, group) => {
                let mut links = group.members.iter().map(|(hop, _)| &hop.link);
                links.find(|link| self.links.contains(*link))?
            }
            _ => return None,
        };
        Some(self.renamed.get(name).copied().unwrap_or(name))
    }

    /// Takes note of what a route leads to that is led to something made anew.
    fn leave(&mut self, observed: &KernelState, key: &RouteKey, route: &Route, subject: &Subject) {
        let found = observed.routes.get(key).and_then(Route::target);
        if let Some(found) = found.filter(|found| Some(*found) != route.target()) {
            self.instead.insert(found.clone(), subject.clone());
        }
    }

    /// The same of a group's members.
    fn leave_members(&mut self, from: &RouteGroup, to: &RouteGroup, subject: &Subject) {
        let others = from
            .members
            .iter()
            .filter(|(hop, _)| to.members.iter().all(|(other, _)| other != hop));
        let others = others.map(|(hop, _)| (RouteTarget::Hop(Arc::clone(hop)), subject.clone()));
        self.instead.extend(others);
    }

    /// A group loses the members that go.
    fn of_members(&self, group: &RouteGroup) -> Option<Subject> {
        let mut members = group.members.iter();
        members.find_map(|(hop, _)| self.made.get(&RouteTarget::Hop(Arc::clone(hop))).cloned())
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
