//! The objects that are repaired themselves among the changes of one namespace (roots), so that dependent
//! objects belong to their repair. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::change::{
    AddressChange, AddressOperation, BpfChange, ClassChange, DeleteLinkReason, Existence, FloodChange,
    GroupChange, LinkChange, LinkOperation, NeighbourChange, NetlinkChange, NextHopChange,
    NextHopObjectChange, NextHopObjectOperation, NextHopOperation, ObjectKind, PrefixChange, ProgramChange,
    RouteChange, RouteOperation, SourceChange, Write,
};
use crate::model::{
    Action, Class, Group, KernelState, NextHop, NextHopObject, Object, PrefixTarget, Route, RouteGroup,
    RouteKey,
};
use crate::net::LinkName;

/// The object of a change. For a renamed managed device, the device under its former name.
pub(super) fn own(change: &Action) -> Object {
    match change {
        Action::Netlink(NetlinkChange::Link(LinkChange(
            _,
            LinkOperation::Delete(DeleteLinkReason::Renamed { name, .. }),
        ))) => Object::Link(name.clone()),
        change => change.object(),
    }
}

/// The objects that are repaired themselves; dependent objects belong to their repair.
#[derive(Clone, Debug, Default)]
pub(super) struct Roots {
    links: BTreeSet<LinkName>,
    /// Renamed managed devices: the current name and the former name.
    pub(super) renamed: BTreeMap<LinkName, LinkName>,
    addresses: BTreeMap<IpAddr, Object>,
    /// Devices that have no IPv4 addresses except repaired ones: the kernel deleted their IPv4 routes with
    /// the last address.
    bare: BTreeMap<LinkName, Object>,
    classes: BTreeSet<Class>,
    next_hops: BTreeSet<Arc<NextHop>>,
    groups: BTreeMap<Arc<Group>, Object>,
    /// Recreated next-hop objects: the kernel deleted the routes to them together with them.
    made: BTreeMap<NextHopObject, Object>,
    /// Objects that are deleted because recreated ones replace them.
    instead: BTreeMap<NextHopObject, Object>,
    /// The first object that is written into a BPF map.
    map: Option<Object>,
}

impl Roots {
    /// The roots of changes to this state, added to the roots of earlier repairs that are not complete yet.
    pub(super) fn of(changes: &[&Action], observed: &KernelState, mut roots: Roots) -> Roots {
        for &change in changes {
            roots.add_devices(change);
        }
        let gone = changes.iter().filter_map(|change| match change {
            Action::Netlink(NetlinkChange::Address(AddressChange(
                link,
                _,
                AddressOperation::Move { from, .. },
            ))) => Some((link, *from)),
            Action::Netlink(NetlinkChange::Address(AddressChange(
                link,
                address,
                AddressOperation::Delete { .. },
            ))) => Some((link, *address)),
            _ => None,
        });
        let gone = gone.collect::<BTreeSet<_>>();
        let is_bare = |link: &LinkName| {
            let mut stay = observed.ipv4_addresses(link);
            stay.all(|address| gone.contains(&(link, address)))
        };
        // The changes are ordered by their dependencies.
        for &change in changes {
            let subject = roots.subject(change);
            if let Some((link, address)) = address(change)
                && address.addr().is_ipv4()
                && is_bare(link)
            {
                roots.bare.entry(link.clone()).or_insert_with(|| subject.clone());
            }
            match change {
                Action::Netlink(change) => roots.add_netlink(change, subject, observed),
                Action::Bpf(change) => roots.add_bpf(change, subject),
                _ => {}
            }
        }
        roots
    }

    fn add_devices(&mut self, change: &Action) {
        match change {
            Action::Netlink(NetlinkChange::Link(LinkChange(other, operation))) => match operation {
                LinkOperation::Delete(DeleteLinkReason::Renamed { name, .. }) => {
                    self.renamed.insert(other.clone(), name.clone());
                    self.links.insert(name.clone());
                }
                LinkOperation::SetMaster(_) | LinkOperation::SetAlias(_) => {}
                _ => drop(self.links.insert(other.clone())),
            },
            Action::Bpf(BpfChange::Class(ClassChange(class, Write::Put(_)))) => {
                self.classes.insert(*class);
            }
            Action::Bpf(BpfChange::NextHop(NextHopChange(next_hop, NextHopOperation::Put))) => {
                self.next_hops.insert(Arc::clone(next_hop));
            }
            _ => {}
        }
    }

    fn add_netlink(&mut self, change: &NetlinkChange, subject: Object, observed: &KernelState) {
        match change {
            NetlinkChange::Address(AddressChange(_, _, AddressOperation::Delete { .. })) => {}
            NetlinkChange::Address(AddressChange(_, address, _)) => {
                self.addresses.insert(address.addr(), subject);
            }
            NetlinkChange::NextHopObject(NextHopObjectChange(object, NextHopObjectOperation::Create)) => {
                self.made.insert(object.clone(), subject);
            }
            NetlinkChange::NextHopObject(NextHopObjectChange(
                NextHopObject::Group(to),
                NextHopObjectOperation::Replace(from),
            )) => {
                self.leave_members(from, to, &subject);
            }
            NetlinkChange::Route(RouteChange(key, RouteOperation::Replace(route)))
                if subject != Object::Route(*key) =>
            {
                self.leave(observed, key, route, &subject);
            }
            _ => {}
        }
    }

    fn add_bpf(&mut self, change: &BpfChange, subject: Object) {
        match change {
            BpfChange::Group(GroupChange(group, Existence::Create)) => {
                self.groups.insert(Arc::clone(group), subject);
            }
            BpfChange::Class(ClassChange(_, Write::Put(_)))
            | BpfChange::NextHop(NextHopChange(_, NextHopOperation::Put))
            | BpfChange::Prefix(PrefixChange(_, Write::Put(_)))
            | BpfChange::Source(SourceChange(_, Existence::Create))
                if self.map.is_none() && subject.kind().repair() == ObjectKind::Prefix.repair() =>
            {
                self.map = Some(subject);
            }
            _ => {}
        }
    }

    /// The object whose repair a change belongs to: its own object, or one on which that depends.
    pub(super) fn subject(&self, change: &Action) -> Object {
        let by_link = self.device(change).filter(|name| self.links.contains(*name));
        if let Some(name) = by_link {
            return Object::Link(name.clone());
        }
        let above = match change {
            Action::Netlink(change) => self.above_netlink(change),
            Action::Bpf(change) => self.above_bpf(change),
            _ => None,
        };
        above.unwrap_or_else(|| own(change))
    }

    fn above_netlink(&self, change: &NetlinkChange) -> Option<Object> {
        match change {
            NetlinkChange::Route(RouteChange(
                key,
                RouteOperation::Create(route) | RouteOperation::Replace(route),
            )) => {
                let by_object = route.next_hop_object().and_then(|object| self.made.get(object));
                let by_source = || self.addresses.get(&route.source()?);
                let by_last = || self.without_address(key, route);
                by_object.or_else(by_source).or_else(by_last).cloned()
            }
            NetlinkChange::NextHopObject(NextHopObjectChange(object, NextHopObjectOperation::Delete)) => {
                self.instead.get(object).cloned()
            }
            NetlinkChange::NextHopObject(NextHopObjectChange(NextHopObject::Group(group), _)) => {
                self.of_members(group)
            }
            _ => None,
        }
    }

    fn above_bpf(&self, change: &BpfChange) -> Option<Object> {
        match change {
            BpfChange::NextHop(NextHopChange(next_hop, NextHopOperation::Put)) => self.of_class(next_hop),
            BpfChange::NextHop(NextHopChange(next_hop, NextHopOperation::SetDown(_))) => {
                self.of_next_hop(next_hop)
            }
            BpfChange::Group(GroupChange(group, Existence::Create)) => {
                let mut members = group.members.iter();
                members.find_map(|(next_hop, _)| self.of_next_hop(next_hop))
            }
            BpfChange::Prefix(PrefixChange(_, Write::Put(target))) => self.of_target(target),
            BpfChange::Prefix(PrefixChange(_, Write::Delete))
            | BpfChange::Group(GroupChange(_, Existence::Delete))
            | BpfChange::NextHop(NextHopChange(_, NextHopOperation::Delete))
            | BpfChange::Class(ClassChange(_, Write::Delete))
            | BpfChange::Source(SourceChange(_, Existence::Delete)) => self.map.clone(),
            _ => None,
        }
    }

    /// The object whose repair restores the last IPv4 address of the device of an IPv4 route; a next-hop
    /// object survives its deletion.
    fn without_address(&self, key: &RouteKey, route: &Route) -> Option<&Object> {
        if key.prefix.addr().is_ipv6() || route.next_hop_object().is_some() {
            return None;
        }
        route.links().find_map(|link| self.bare.get(link))
    }

    /// Keeps only the roots of which something is still to be restored.
    pub(super) fn retain(&mut self, wanted: &BTreeSet<Object>) {
        let is_wanted = |subject: &Object| wanted.contains(subject);
        self.renamed.clear();
        self.links.retain(|name| is_wanted(&Object::Link(name.clone())));
        self.classes.retain(|class| is_wanted(&Object::Class(*class)));
        self.next_hops
            .retain(|next_hop| is_wanted(&Object::NextHop(Arc::clone(next_hop))));
        self.addresses.retain(|_, subject| is_wanted(subject));
        self.bare.retain(|_, subject| is_wanted(subject));
        self.groups.retain(|_, subject| is_wanted(subject));
        self.made.retain(|_, subject| is_wanted(subject));
        self.instead.retain(|_, subject| is_wanted(subject));
        self.map.take_if(|subject| !is_wanted(subject));
    }

    /// The device that a change concerns or needs, under its target name.
    fn device<'c>(&'c self, change: &'c Action) -> Option<&'c LinkName> {
        let name = match change {
            Action::Netlink(change) => self.netlink_device(change)?,
            Action::Sysctl(change) => &change.link,
            Action::WireGuard(change) => &change.link,
            Action::Bpf(
                BpfChange::Program(ProgramChange(link, ..))
                | BpfChange::Class(ClassChange(_, Write::Put(link))),
            ) => link,
            Action::Bpf(_) | Action::Nft(_) => return None,
        };
        Some(self.renamed.get(name).unwrap_or(name))
    }

    fn netlink_device<'c>(&self, change: &'c NetlinkChange) -> Option<&'c LinkName> {
        match change {
            NetlinkChange::Link(LinkChange(
                _,
                LinkOperation::Delete(DeleteLinkReason::Renamed { name, .. }),
            )) => Some(name),
            // A port leaves its bridge when either of them is deleted.
            NetlinkChange::Link(LinkChange(port, LinkOperation::SetMaster(Some(bridge))))
                if !self.links.contains(port) =>
            {
                Some(bridge)
            }
            NetlinkChange::Link(LinkChange(name, _))
            | NetlinkChange::Address(AddressChange(name, ..))
            | NetlinkChange::Flood(FloodChange(name, ..))
            | NetlinkChange::Neighbour(NeighbourChange(name, ..)) => Some(name),
            NetlinkChange::Route(RouteChange(
                _,
                RouteOperation::Create(route) | RouteOperation::Replace(route),
            )) => {
                let mut links = route.links();
                links.find(|link| self.links.contains(*link))
            }
            NetlinkChange::NextHopObject(NextHopObjectChange(
                object,
                NextHopObjectOperation::Create | NextHopObjectOperation::Replace(_),
            )) => {
                let mut links = object.hops().map(|hop| &hop.link);
                links.find(|link| self.links.contains(*link))
            }
            _ => None,
        }
    }

    /// Notes the former next-hop object of a route that now leads to a recreated one.
    fn leave(&mut self, observed: &KernelState, key: &RouteKey, route: &Route, subject: &Object) {
        let found = observed.routes.get(key).and_then(Route::next_hop_object);
        if let Some(found) = found.filter(|found| Some(*found) != route.next_hop_object()) {
            self.instead.insert(found.clone(), subject.clone());
        }
    }

    /// The same for the members of a group.
    fn leave_members(&mut self, from: &RouteGroup, to: &RouteGroup, subject: &Object) {
        let others = from
            .members
            .iter()
            .filter(|(hop, _)| to.members.iter().all(|(other, _)| other != hop));
        let others = others.map(|(hop, _)| (NextHopObject::Hop(Arc::clone(hop)), subject.clone()));
        self.instead.extend(others);
    }

    /// The root of a group: the kernel removed its deleted members from it.
    fn of_members(&self, group: &RouteGroup) -> Option<Object> {
        let mut members = group.members.iter();
        members.find_map(|(hop, _)| self.made.get(&NextHopObject::Hop(Arc::clone(hop))).cloned())
    }

    fn of_class(&self, next_hop: &NextHop) -> Option<Object> {
        self.classes
            .get(&next_hop.class)
            .map(|class| Object::Class(*class))
    }

    fn of_next_hop(&self, next_hop: &Arc<NextHop>) -> Option<Object> {
        let itself = || self.next_hops.get(next_hop).cloned().map(Object::NextHop);
        self.of_class(next_hop).or_else(itself)
    }

    fn of_target(&self, target: &PrefixTarget) -> Option<Object> {
        match target {
            PrefixTarget::Group(group) => self.groups.get(group).cloned(),
            target => target.next_hops().find_map(|next_hop| self.of_next_hop(next_hop)),
        }
    }
}

/// The address that a change creates or deletes, and its device.
fn address(change: &Action) -> Option<(&LinkName, &IpNet)> {
    match change {
        Action::Netlink(NetlinkChange::Address(AddressChange(_, _, AddressOperation::Replace(_)))) => None,
        Action::Netlink(NetlinkChange::Address(AddressChange(link, address, _))) => Some((link, address)),
        _ => None,
    }
}
