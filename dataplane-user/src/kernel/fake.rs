//! A fake kernel that consists of a [`KernelState`]. It refuses what a real kernel refuses, and fails where a
//! test wants it to.
//!
//! It is for property tests; tests in network namespaces on real kernels are the proof.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::{Kernel, KernelError};
use crate::model::change::{
    AddressChange, AddressOperation, BpfChange, ClassChange, DeleteVersion, Existence, FloodChange,
    GroupChange, LinkChange, LinkOperation, LinkPatch, NeighbourChange, NetlinkChange, NextHopChange,
    NextHopObjectChange, NextHopObjectOperation, NextHopOperation, NftChange, PrefixChange, ProgramChange,
    ProgramOperation, RestorePins, RouteChange, RouteOperation, SysctlChange, Whole, WireGuardChange, Write,
};
use crate::model::facts::NodeFacts;
use crate::model::wireguard::DeviceChange;
use crate::model::{
    Action, Attachment, Change, Class, Hook, KernelState, Link, LinkKind, NextHop, NextHopObject, Owner,
    PrefixTarget, ProgramVersion, Route, RouteKey, VethPeer, each_whole,
};
use crate::net::{LinkName, Namespace};

/// A fake kernel.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    /// Its state.
    pub state: KernelState,
    /// The facts that it returns.
    pub facts: NodeFacts,
    /// The number of requested changes so far, including refused ones.
    pub asked: usize,
    /// The positions of changes (from 0) that fail with EIO and change nothing.
    pub failing: BTreeSet<usize>,
    /// From this position on no change is executed, as if the agent had died before it.
    pub dies_before: Option<usize>,
    /// Each RCU grace period, by the number of changes that were requested before it.
    pub graces: Vec<usize>,
    /// The state after each change.
    pub history: Vec<KernelState>,
    /// The states that the next observations return instead, because something changes at that moment.
    pub torn: VecDeque<KernelState>,
    /// Whether the last observation returned one of them.
    pub outdated: bool,
}

impl Kernel for FakeKernel {
    async fn observe(&mut self) -> Result<KernelState, KernelError> {
        let torn = self.torn.pop_front();
        self.outdated = torn.is_some();
        Ok(torn.unwrap_or_else(|| self.state.clone()))
    }

    async fn is_outdated(&mut self) -> bool {
        self.outdated
    }

    async fn wait_rcu_grace(&mut self) {
        self.graces.push(self.asked);
    }

    async fn facts(&mut self, _peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError> {
        Ok(self.facts.clone())
    }

    async fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), KernelError>> {
        changes.iter().map(|change| self.step(change)).collect()
    }
}

impl FakeKernel {
    /// A kernel with this state.
    #[must_use]
    pub fn new(state: KernelState) -> FakeKernel {
        FakeKernel {
            state,
            ..FakeKernel::default()
        }
    }

    fn step(&mut self, change: &Change) -> Result<(), KernelError> {
        let number = self.asked;
        self.asked += 1;
        let dead = self.dies_before.is_some_and(|limit| number >= limit);
        let result = if dead || self.failing.contains(&number) {
            Err(libc::EIO)
        } else {
            self.execute_at(change)
        };
        self.history.push(self.state.clone());
        result.map_err(|errno| KernelError::of_change(io::Error::from_raw_os_error(errno)))
    }

    /// Executes a change in its namespace; the ends of a pair can be in two.
    fn execute_at(&mut self, change: &Change) -> Result<(), Errno> {
        let namespace = &change.namespace;
        if let Some(namespace) = namespace {
            self.state.namespaces.entry(namespace.clone()).or_default();
        }
        let there = self.state.at_mut(namespace.as_ref()).ok_or(libc::ENOENT)?;
        each_whole!(K => if let Some((object, existence)) = K::of(&change.action) {
            return execute_whole(there, object, existence);
        });
        match &change.action {
            Action::Netlink(NetlinkChange::Link(LinkChange(name, operation))) => {
                let former = there.links.get(name).cloned();
                if *operation == LinkOperation::SetUp {
                    ensure(self.can_bind(namespace.as_ref(), name, None), libc::EADDRINUSE)?;
                }
                let there = self.state.at_mut(namespace.as_ref()).ok_or(libc::ENOENT)?;
                there.execute_link(name, operation)?;
                self.execute_at_other_end(change.namespace.as_ref(), name, operation, former.as_ref())
            }
            Action::Netlink(change) => there.execute_netlink(change),
            Action::Sysctl(change) => there.execute_sysctl(change),
            Action::WireGuard(change) => {
                let is_up = there.links.get(&change.link).is_some_and(|link| link.up);
                if let (DeviceChange::SetListenPort(port), true) = (&change.change, is_up) {
                    let free = self.can_bind(namespace.as_ref(), &change.link, Some(*port));
                    ensure(free, libc::EADDRINUSE)?;
                }
                let there = self.state.at_mut(namespace.as_ref()).ok_or(libc::ENOENT)?;
                there.execute_wireguard(change)
            }
            Action::Nft(change) => there.execute_nft(change),
            Action::Bpf(change) => there.execute_bpf(change),
        }
    }

    /// Whether a device can bind its UDP port, or `port`: no other device that is up uses it, except devices
    /// of the same kind that each have one VNI. WireGuard devices use the ports of the agent's namespace,
    /// where they were created, wherever they are.
    fn can_bind(&self, namespace: Option<&Namespace>, name: &LinkName, port: Option<u16>) -> bool {
        let elsewhere = self
            .state
            .namespaces
            .iter()
            .map(|(there, state)| (Some(there), state));
        let places = [(None, &self.state)].into_iter().chain(elsewhere);
        let ports = places.flat_map(|(there, state)| {
            state.links.iter().filter_map(move |(name, link)| {
                let port = link
                    .kind
                    .udp_port()
                    .or_else(|| Some(state.wireguard.get(name)?.listen_port));
                let bound_in = there.filter(|_| link.kind != LinkKind::WireGuard);
                Some(((there, name), link, bound_in, port.filter(|port| *port != 0)?))
            })
        });
        let all = ports.collect::<Vec<_>>();
        let own = all.iter().find(|(place, ..)| *place == (namespace, name));
        let Some(&(place, link, bound_in, own_port)) = own else {
            return true;
        };
        let port = port.unwrap_or(own_port);
        let mut others = all.iter().filter(|(other, ..)| *other != place);
        !others.any(|(_, other, in_use, taken)| {
            other.up && *in_use == bound_in && *taken == port && !link.kind.shares_ports_with(&other.kind)
        })
    }

    /// Executes the effect of a change on the other end of a pair.
    fn execute_at_other_end(
        &mut self,
        namespace: Option<&Namespace>,
        name: &LinkName,
        operation: &LinkOperation,
        former: Option<&Link>,
    ) -> Result<(), Errno> {
        let kind = match operation {
            LinkOperation::Create(link) => Some(&link.kind),
            LinkOperation::Delete(_) => former.map(|link| &link.kind),
            _ => None,
        };
        let Some(LinkKind::Veth(peer)) = kind else {
            return Ok(());
        };
        let LinkOperation::Create(link) = operation else {
            if let Some(far) = self.state.at_mut(peer.namespace.as_ref()) {
                far.forget_link(&peer.name);
            }
            return Ok(());
        };
        let other = Link {
            kind: LinkKind::Veth(VethPeer {
                namespace: namespace.cloned(),
                name: name.clone(),
            }),
            up: false,
            ..link.clone()
        };
        if let Some(namespace) = &peer.namespace {
            self.state.namespaces.entry(namespace.clone()).or_default();
        }
        let far = self.state.at_mut(peer.namespace.as_ref()).ok_or(libc::ENOENT)?;
        ensure(!far.links.contains_key(&peer.name), libc::EEXIST)?;
        far.links.insert(peer.name.clone(), other);
        Ok(())
    }
}

type Errno = i32;

fn execute_whole<K: Whole>(state: &mut KernelState, object: &K, existence: Existence) -> Result<(), Errno> {
    match existence {
        Existence::Create => {
            ensure(object.can_be_created(), libc::EOPNOTSUPP)?;
            K::all_mut(state).insert(object.clone());
        }
        Existence::Delete => drop(K::all_mut(state).remove(object)),
    }
    Ok(())
}

impl KernelState {
    fn execute_link(&mut self, name: &LinkName, operation: &LinkOperation) -> Result<(), Errno> {
        match operation {
            LinkOperation::Create(link) => {
                let mut link = link.clone();
                link.up = false;
                ensure(!self.links.contains_key(name), libc::EEXIST)?;
                let twin = self
                    .links
                    .values()
                    .any(|found| found.kind.excludes(&link.kind).is_some());
                ensure(!twin, libc::EEXIST)?;
                self.links.insert(name.clone(), link);
            }
            LinkOperation::Modify(patch) => self.modify_link(name, patch)?,
            LinkOperation::SetUp => self.links.get_mut(name).ok_or(libc::ENODEV)?.up = true,
            LinkOperation::SetDown => self.links.get_mut(name).ok_or(libc::ENODEV)?.up = false,
            LinkOperation::SetMaster(Some(bridge)) => {
                self.check_managed(name)?;
                let found = self.links.get(bridge).ok_or(libc::ENODEV)?;
                ensure(found.kind == LinkKind::Bridge, libc::EOPNOTSUPP)?;
                self.masters.insert(name.clone(), bridge.clone());
            }
            LinkOperation::SetMaster(None) => drop(self.masters.remove(name)),
            LinkOperation::SetAlias(alias) => {
                self.check_managed(name)?;
                self.aliases.insert(name.clone(), alias.clone());
            }
            LinkOperation::Delete(_) => {
                self.check_managed(name)?;
                self.forget_link(name);
            }
        }
        Ok(())
    }

    fn execute_netlink(&mut self, change: &NetlinkChange) -> Result<(), Errno> {
        match change {
            NetlinkChange::Link(LinkChange(name, operation)) => self.execute_link(name, operation)?,
            NetlinkChange::Address(AddressChange(link, address, operation)) => {
                self.execute_address(link, *address, operation)?;
            }
            NetlinkChange::Flood(FloodChange(name, to, Existence::Create)) => {
                self.check_managed(name)?;
                self.flood.entry(name.clone()).or_default().insert(*to);
            }
            NetlinkChange::Flood(FloodChange(name, to, Existence::Delete)) => {
                self.flood.entry(name.clone()).or_default().remove(to);
            }
            NetlinkChange::Neighbour(NeighbourChange(link, address, Write::Put(neighbour))) => {
                self.check_managed(link)?;
                ensure(self.links[link].up, libc::ENETDOWN)?;
                let key = (link.clone(), *address);
                let found = self.neighbours.get(&key);
                let foreign = found.is_some_and(|found| found.owner == Owner::Other);
                ensure(!foreign, libc::EPERM)?;
                self.neighbours.insert(key, *neighbour);
            }
            NetlinkChange::Neighbour(NeighbourChange(link, address, Write::Delete)) => {
                self.neighbours.remove(&(link.clone(), *address));
            }
            NetlinkChange::NextHopObject(NextHopObjectChange(object, operation)) => {
                self.execute_next_hop_object(object, operation)?;
            }
            NetlinkChange::Route(RouteChange(key, operation)) => self.execute_route(*key, operation)?,
            // The caller has executed everything else.
            _ => return Err(libc::EOPNOTSUPP),
        }
        Ok(())
    }

    fn execute_address(
        &mut self,
        link: &LinkName,
        address: IpNet,
        operation: &AddressOperation,
    ) -> Result<(), Errno> {
        let key = (link.clone(), address);
        match operation {
            AddressOperation::Create(value) => {
                self.check_managed(link)?;
                ensure(!self.addresses.contains_key(&key), libc::EEXIST)?;
                self.addresses.insert(key, *value);
            }
            AddressOperation::Replace(value) => {
                let found = self.addresses.get_mut(&key).ok_or(libc::EADDRNOTAVAIL)?;
                ensure(found.owner == Owner::Adit, libc::EPERM)?;
                *found = *value;
            }
            AddressOperation::Move { from, to } => {
                self.forget_address(link, *from);
                self.addresses.insert(key, *to);
            }
            AddressOperation::Delete { .. } => self.forget_address(link, address),
        }
        Ok(())
    }

    fn execute_route(&mut self, key: RouteKey, operation: &RouteOperation) -> Result<(), Errno> {
        let found = self.routes.get(&key);
        match operation {
            RouteOperation::Create(route) => {
                ensure(found.is_none(), libc::EEXIST)?;
                self.put_route(key, route)?;
            }
            RouteOperation::Replace(route) => {
                ensure(found.is_none_or(|found| found.owner == Owner::Adit), libc::EPERM)?;
                self.put_route(key, route)?;
            }
            RouteOperation::Delete(_) => {
                ensure(found.is_none_or(|found| found.owner == Owner::Adit), libc::EPERM)?;
                self.routes.remove(&key);
            }
        }
        Ok(())
    }

    fn execute_next_hop_object(
        &mut self,
        object: &NextHopObject,
        operation: &NextHopObjectOperation,
    ) -> Result<(), Errno> {
        match operation {
            NextHopObjectOperation::Create => {
                ensure(!self.next_hop_objects.contains(object), libc::EEXIST)?;
                self.can_hold(object)?;
                self.next_hop_objects.insert(object.clone());
            }
            NextHopObjectOperation::Replace(from) => {
                let NextHopObject::Group(to) = object else {
                    return Err(libc::EINVAL);
                };
                ensure(from.resilient == to.resilient, libc::EINVAL)?;
                let former = NextHopObject::Group(from.clone());
                ensure(self.next_hop_objects.contains(&former), libc::ENOENT)?;
                self.can_hold(object)?;
                self.replace_route_group(from, to);
            }
            NextHopObjectOperation::Delete => {
                // A real kernel deletes the routes, too. This one refuses, so that nobody relies on that.
                let routed = self
                    .routes
                    .values()
                    .any(|route| route.next_hop_object() == Some(object));
                let grouped = self.next_hop_objects.iter().any(|group| {
                    matches!((group, object), (NextHopObject::Group(_), NextHopObject::Hop(hop)) if group.hops().any(|h| h == hop))
                });
                ensure(!routed && !grouped, libc::EBUSY)?;
                self.next_hop_objects.remove(object);
            }
        }
        Ok(())
    }

    fn execute_sysctl(&mut self, change: &SysctlChange) -> Result<(), Errno> {
        self.check_managed(&change.link)?;
        let key = (change.link.clone(), change.sysctl);
        self.sysctls.insert(key, change.value.clone());
        Ok(())
    }

    fn execute_wireguard(&mut self, change: &WireGuardChange) -> Result<(), Errno> {
        let link = &change.link;
        self.check_managed(link)?;
        let device = self.wireguard.get(link).cloned().unwrap_or_default();
        let device = device.changed(&change.change).ok_or(libc::ENOENT)?;
        self.wireguard.insert(link.clone(), device);
        Ok(())
    }

    fn execute_nft(&mut self, change: &NftChange) -> Result<(), Errno> {
        match change {
            NftChange::Create(table) => {
                ensure(self.firewall.is_none(), libc::EEXIST)?;
                self.firewall = Some(*table.clone());
            }
            NftChange::Replace(table) => {
                self.check_firewall_managed()?;
                self.firewall = Some(*table.clone());
            }
            NftChange::Delete => {
                self.check_firewall_managed()?;
                self.firewall = None;
            }
        }
        Ok(())
    }

    /// Whether the devices are up, and the members of a group exist.
    fn can_hold(&self, object: &NextHopObject) -> Result<(), Errno> {
        for hop in object.hops() {
            ensure(self.links.get(&hop.link).ok_or(libc::ENODEV)?.up, libc::ENETDOWN)?;
            let known = self.next_hop_objects.contains(&NextHopObject::Hop(hop.clone()));
            ensure(known || matches!(object, NextHopObject::Hop(_)), libc::EINVAL)?;
        }
        Ok(())
    }

    fn execute_bpf(&mut self, change: &BpfChange) -> Result<(), Errno> {
        match change {
            BpfChange::Program(ProgramChange(link, hook, operation)) => {
                self.execute_program(link, *hook, *operation)?;
            }
            BpfChange::Pins(RestorePins) => self.unpinned = false,
            BpfChange::Version(DeleteVersion(version)) => {
                self.older_versions.remove(version);
                // The links that attach programs are pinned there.
                self.attachments
                    .retain(|_, attached| attached.version == ProgramVersion::Current);
            }
            BpfChange::Class(ClassChange(class, Write::Put(link))) => {
                ensure(self.links.contains_key(link), libc::ENODEV)?;
                self.classes.insert(*class, Some(link.clone()));
            }
            BpfChange::Class(ClassChange(class, Write::Delete)) => self.delete_class(class)?,
            BpfChange::NextHop(NextHopChange(next_hop, operation)) => {
                self.execute_next_hop(next_hop, *operation)?;
            }
            BpfChange::Group(GroupChange(group, Existence::Create)) => {
                let mut members = group.members.iter();
                ensure(
                    members.all(|(next_hop, _)| self.next_hops.contains(next_hop)),
                    libc::ENOENT,
                )?;
                self.groups.insert(group.clone());
            }
            BpfChange::Group(GroupChange(group, Existence::Delete)) => {
                let names =
                    |target: &PrefixTarget| matches!(target, PrefixTarget::Group(named) if named == group);
                ensure(!self.prefixes.values().any(names), libc::EBUSY)?;
                self.groups.remove(group);
            }
            BpfChange::Prefix(PrefixChange(prefix, Write::Put(target))) => {
                let known = match target {
                    PrefixTarget::Local => true,
                    PrefixTarget::NextHop(next_hop) => self.next_hops.contains(next_hop),
                    PrefixTarget::Group(group) => self.groups.contains(group),
                };
                ensure(known, libc::ENOENT)?;
                self.prefixes.insert(*prefix, target.clone());
            }
            BpfChange::Prefix(PrefixChange(prefix, Write::Delete)) => drop(self.prefixes.remove(prefix)),
            // The caller has executed everything else.
            _ => return Err(libc::EOPNOTSUPP),
        }
        Ok(())
    }

    fn execute_program(
        &mut self,
        link: &LinkName,
        hook: Hook,
        operation: ProgramOperation,
    ) -> Result<(), Errno> {
        let key = (link.clone(), hook);
        if operation == ProgramOperation::Detach {
            self.attachments.remove(&key);
            return Ok(());
        }
        self.check_managed(link)?;
        let replaces = operation != ProgramOperation::Attach;
        ensure(self.attachments.contains_key(&key) == replaces, libc::EEXIST)?;
        let version = ProgramVersion::Current;
        self.attachments.insert(key, Attachment { version });
        Ok(())
    }

    fn execute_next_hop(
        &mut self,
        next_hop: &Arc<NextHop>,
        operation: NextHopOperation,
    ) -> Result<(), Errno> {
        match operation {
            NextHopOperation::Put => {
                ensure(self.classes.contains_key(&next_hop.class), libc::ENOENT)?;
                self.next_hops.insert(next_hop.clone());
            }
            NextHopOperation::SetDown(down) => {
                ensure(self.next_hops.contains(next_hop), libc::ENOENT)?;
                if down {
                    self.down.insert(next_hop.clone());
                } else {
                    self.down.remove(next_hop);
                }
            }
            NextHopOperation::Delete => {
                let mut members = self.groups.iter().flat_map(|group| &group.members);
                let by_group = members.any(|(member, _)| member == next_hop);
                let mut targets = self.prefixes.values().flat_map(PrefixTarget::next_hops);
                let by_prefix = targets.any(|object| object == next_hop);
                ensure(!by_group && !by_prefix, libc::EBUSY)?;
                self.next_hops.remove(next_hop);
                self.down.remove(next_hop);
            }
        }
        Ok(())
    }

    fn check_managed(&self, name: &LinkName) -> Result<(), Errno> {
        let link = self.links.get(name).ok_or(libc::ENODEV)?;
        ensure(link.owner == Owner::Adit, libc::EPERM)
    }

    fn check_firewall_managed(&self) -> Result<(), Errno> {
        let found = self.firewall.as_ref().ok_or(libc::ENOENT)?;
        ensure(found.owner == Owner::Adit, libc::EPERM)
    }

    fn modify_link(&mut self, name: &LinkName, patch: &LinkPatch) -> Result<(), Errno> {
        self.check_managed(name)?;
        let link = self.links.get_mut(name).ok_or(libc::ENODEV)?;
        link.mac = patch.mac.or(link.mac);
        link.mtu = patch.mtu.or(link.mtu);
        link.arp = patch.arp.unwrap_or(link.arp);
        link.generates_addresses = patch.generates_addresses.unwrap_or(link.generates_addresses);
        Ok(())
    }

    /// Creates or replaces a route. Its devices must exist and be up; its next-hop object and its source
    /// address must exist.
    fn put_route(&mut self, key: RouteKey, route: &Route) -> Result<(), Errno> {
        for link in route.links() {
            ensure(self.links.get(link).ok_or(libc::ENODEV)?.up, libc::ENETDOWN)?;
        }
        if let Some(object) = route.next_hop_object() {
            ensure(self.next_hop_objects.contains(object), libc::EINVAL)?;
        }
        let local = |source: IpAddr| {
            let mut addresses = self.addresses.keys();
            addresses.any(|(_, address)| address.addr() == source)
        };
        ensure(route.source().is_none_or(local), libc::EINVAL)?;
        self.routes.insert(key, route.clone());
        Ok(())
    }

    fn delete_class(&mut self, class: &Class) -> Result<(), Errno> {
        ensure(
            !self.next_hops.iter().any(|next_hop| next_hop.class == *class),
            libc::EBUSY,
        )?;
        self.classes.remove(class);
        Ok(())
    }
}

fn ensure(holds: bool, errno: Errno) -> Result<(), Errno> {
    if holds { Ok(()) } else { Err(errno) }
}
