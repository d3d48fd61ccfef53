//! What is mended itself among the changes of one namespace, so that what hangs on it is one repair with it. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

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
#[derive(Clone, Debug, Default)]
pub(super) struct Roots {
    links: BTreeSet<LinkName>,
    /// Devices of ours under other names, and the names that they had.
    pub(super) renamed: BTreeMap<LinkName, LinkName>,
    addresses: BTreeMap<IpAddr, Subject>,
    /// Devices without an IPv4 address but for those that are mended: their IPv4 routes went with the last one.
    bare: BTreeMap<LinkName, Subject>,
    classes: BTreeSet<Class>,
    next_hops: BTreeSet<Arc<NextHop>>,
    groups: BTreeMap<Arc<Group>, Subject>,
    /// Next-hop objects that are made anew: what leads to them went with them.
    made: BTreeMap<RouteTarget, Subject>,
    /// Those that stand in place of such, and go.
    instead: BTreeMap<RouteTarget, Subject>,
    /// The first thing that is put into a map.
    map: Option<Subject>,
}

impl Roots {
    /// Those of changes to this state, beside those that were mended before and of which not all has returned.
    pub(super) fn of(changes: &[&Change], observed: &KernelState, mut roots: Roots) -> Roots {
        for &change in changes {
            match change {
                Change::DeleteLink(other, DeleteLinkReason::Renamed { name, .. }) => {
                    roots.renamed.insert(other.clone(), name.clone());
                    roots.links.insert(name.clone());
                }
                Change::CreateLink(name, _)
                | Change::ModifyLink(name, _)
                | Change::SetLinkUp(name)
                | Change::SetLinkDown(name)
                | Change::DeleteLink(name, _) => drop(roots.links.insert(name.clone())),
                Change::PutClass(class, _) => drop(roots.classes.insert(*class)),
                Change::PutNextHop(next_hop) => drop(roots.next_hops.insert(Arc::clone(next_hop))),
                _ => {}
            }
        }
        let gone = changes.iter().filter_map(|change| match change {
            Change::MoveAddress(link, address, ..) | Change::DeleteAddress(link, address) => {
                Some((link, *address))
            }
            _ => None,
        });
        let gone = gone.collect::<BTreeSet<_>>();
        let is_bare = |link: &LinkName| {
            let mut stay = observed.ipv4_addresses(link);
            stay.all(|address| gone.contains(&(link, address)))
        };
        // They come in the order in which they depend on each other.
        for &change in changes {
            let subject = roots.subject(change);
            if let Some((link, address)) = address(change)
                && address.addr().is_ipv4()
                && is_bare(link)
            {
                roots.bare.entry(link.clone()).or_insert_with(|| subject.clone());
            }
            match change {
                Change::CreateAddress(_, address, _)
                | Change::ReplaceAddress(_, address, _)
                | Change::MoveAddress(_, _, address, _) => {
                    roots.addresses.insert(address.addr(), subject);
                }
                Change::PutGroup(group) => drop(roots.groups.insert(Arc::clone(group), subject)),
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
            Change::CreateRoute(key, route) | Change::ReplaceRoute(key, route) => {
                let by_target = route.target().and_then(|target| self.made.get(target));
                let by_source = || self.addresses.get(&route.source()?);
                let by_last = || self.without_address(key, route);
                by_target.or_else(by_source).or_else(by_last).cloned()
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

    /// What mends the last IPv4 address of a device that an IPv4 route sends to; a next-hop object outlives that.
    fn without_address(&self, key: &RouteKey, route: &Route) -> Option<&Subject> {
        if key.prefix.addr().is_ipv6() || route.target().is_some() {
            return None;
        }
        route.links().find_map(|link| self.bare.get(link))
    }

    /// Only that of which something is still to return.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<Subject>) {
        let is_wanted = |subject: &Subject| wanted.contains(subject);
        self.renamed.clear();
        self.links.retain(|name| is_wanted(&Subject::link(name)));
        self.classes.retain(|class| is_wanted(&of_class(class)));
        self.next_hops
            .retain(|next_hop| is_wanted(&of_next_hop(next_hop)));
        self.addresses.retain(|_, subject| is_wanted(subject));
        self.bare.retain(|_, subject| is_wanted(subject));
        self.groups.retain(|_, subject| is_wanted(subject));
        self.made.retain(|_, subject| is_wanted(subject));
        self.instead.retain(|_, subject| is_wanted(subject));
        self.map.take_if(|subject| !is_wanted(subject));
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
        Some(self.renamed.get(name).unwrap_or(name))
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
        self.classes.get(&next_hop.class).map(of_class)
    }

    fn of_next_hop(&self, next_hop: &Arc<NextHop>) -> Option<Subject> {
        let itself = || self.next_hops.get(next_hop).map(of_next_hop);
        self.of_class(next_hop).or_else(itself)
    }

    fn of_target(&self, target: &Target) -> Option<Subject> {
        match target {
            Target::Group(group) => self.groups.get(group).cloned(),
            target => target.next_hops().find_map(|next_hop| self.of_next_hop(next_hop)),
        }
    }
}

/// The address that a change makes or takes away, and its device.
fn address(change: &Change) -> Option<(&LinkName, &IpNet)> {
    match change {
        Change::CreateAddress(link, address, _)
        | Change::MoveAddress(link, _, address, _)
        | Change::DeleteAddress(link, address) => Some((link, address)),
        _ => None,
    }
}

fn of_class(class: &Class) -> Subject {
    map_subject(&format!("class {class}"))
}

fn of_next_hop(next_hop: &Arc<NextHop>) -> Subject {
    map_subject(&format!("next hop {next_hop}"))
}

pub(super) fn map_subject(object: &str) -> Subject {
    Subject {
        kind: RepairKind::Map,
        object: object.to_owned(),
    }
}
