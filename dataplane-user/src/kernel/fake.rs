//! A kernel that is a [`KernelState`]: refuses what a real one refuses, and fails where a test wants it to.
//!
//! For property tests; netns tests on real kernels are the proof.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;

use super::{Kernel, KernelError};
use crate::model::change::LinkPatch;
use crate::model::{
    Attachment, Change, Class, KernelState, Link, LinkKind, Owner, ProgramVersion, Route, RouteKey,
    RouteTarget, Target, VethPeer,
};
use crate::net::LinkName;
use crate::plan::NodeFacts;

/// A kernel without a kernel.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    /// What it holds.
    pub state: KernelState,
    /// What it says of the machine.
    pub facts: NodeFacts,
    /// Changes that were asked for so far, refused ones included.
    pub asked: usize,
    /// The numbers of changes (from 0) that fail with EIO and change nothing.
    pub failing: BTreeSet<usize>,
    /// From this change on nothing is executed any more, as if the agent had died before it.
    pub dies_before: Option<usize>,
    /// The state after each change.
    pub history: Vec<KernelState>,
    /// What the next observations see instead, because something happens right then.
    pub torn: VecDeque<KernelState>,
    /// Whether the last one did.
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

    async fn facts(&mut self, _peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError> {
        Ok(self.facts.clone())
    }

    async fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), KernelError>> {
        changes.iter().map(|change| self.step(change)).collect()
    }
}

impl FakeKernel {
    /// A kernel that holds this.
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
        result.map_err(|errno| KernelError::new(change.to_string(), io::Error::from_raw_os_error(errno)))
    }

    /// A change in its namespace; a pair has ends in two.
    fn execute_at(&mut self, change: &Change) -> Result<(), Errno> {
        let namespace = change.namespace().cloned();
        let bare = change.bare();
        if let Some(namespace) = &namespace {
            self.state.namespaces.entry(namespace.clone()).or_default();
        }
        let end = match bare {
            Change::DeleteLink(name, _) => {
                let there = self.state.at(namespace.as_ref());
                there.and_then(|state| state.links.get(name)).cloned()
            }
            _ => None,
        };
        let there = self.state.at_mut(namespace.as_ref()).ok_or(libc::ENOENT)?;
        there.execute(bare)?;
        if let (Change::CreateLink(name, link), LinkKind::Veth(peer)) = (bare, kind_of(bare)) {
            let other = Link {
                kind: LinkKind::Veth(VethPeer {
                    namespace,
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
        }
        if let Some(LinkKind::Veth(peer)) = end.map(|end| end.kind)
            && let Some(far) = self.state.at_mut(peer.namespace.as_ref())
        {
            far.forget_link(&peer.name);
        }
        Ok(())
    }
}

type Errno = i32;

/// What a change makes; anything else where it makes no link.
fn kind_of(change: &Change) -> &LinkKind {
    match change {
        Change::CreateLink(_, link) => &link.kind,
        _ => &LinkKind::Dummy,
    }
}

impl KernelState {
    fn execute(&mut self, change: &Change) -> Result<(), Errno> {
        match change {
            Change::CreateLink(name, link) => {
                let mut link = link.clone();
                link.up = false;
                ensure(!self.links.contains_key(name), libc::EEXIST)?;
                let twin = self.links.values().any(|found| found.kind.excludes(&link.kind));
                ensure(!twin, libc::EEXIST)?;
                self.links.insert(name.clone(), link);
            }
            Change::ModifyLink(name, patch) => self.modify_link(name, patch)?,
            Change::SetLinkUp(name) => self.links.get_mut(name).ok_or(libc::ENODEV)?.up = true,
            Change::DeleteLink(name, _) => {
                self.ours(name)?;
                self.forget_link(name);
            }
            Change::CreateAddress(link, address, value) => {
                self.ours(link)?;
                let key = (link.clone(), *address);
                ensure(!self.addresses.contains_key(&key), libc::EEXIST)?;
                self.addresses.insert(key, *value);
            }
            Change::ReplaceAddress(link, address, value) => {
                let found = self
                    .addresses
                    .get_mut(&(link.clone(), *address))
                    .ok_or(libc::EADDRNOTAVAIL)?;
                ensure(found.owner == Owner::Ours, libc::EPERM)?;
                *found = *value;
            }
            Change::MoveAddress(link, from, to, value) => {
                self.forget_address(link, *from);
                self.addresses.insert((link.clone(), *to), *value);
            }
            Change::SetLinkDown(name) => self.links.get_mut(name).ok_or(libc::ENODEV)?.up = false,
            Change::SetMaster(port, Some(bridge)) => {
                self.ours(port)?;
                let found = self.links.get(bridge).ok_or(libc::ENODEV)?;
                ensure(found.kind == LinkKind::Bridge, libc::EOPNOTSUPP)?;
                self.masters.insert(port.clone(), bridge.clone());
            }
            Change::SetMaster(port, None) => drop(self.masters.remove(port)),
            Change::SetAlias(name, alias) => {
                self.ours(name)?;
                self.aliases.insert(name.clone(), alias.clone());
            }
            Change::AddFlood(name, to) => {
                self.ours(name)?;
                self.flood.entry(name.clone()).or_default().insert(*to);
            }
            Change::DeleteFlood(name, to) => {
                self.flood.entry(name.clone()).or_default().remove(to);
            }
            Change::DeleteAddress(link, address) => self.forget_address(link, *address),
            Change::CreateRoute(key, route) => {
                ensure(!self.routes.contains_key(key), libc::EEXIST)?;
                self.put_route(*key, route)?;
            }
            Change::ReplaceRoute(key, route) => {
                ensure(
                    self.routes
                        .get(key)
                        .is_none_or(|found| found.owner == Owner::Ours),
                    libc::EPERM,
                )?;
                self.put_route(*key, route)?;
            }
            Change::DeleteRoute(key, _) => {
                ensure(
                    self.routes
                        .get(key)
                        .is_none_or(|found| found.owner == Owner::Ours),
                    libc::EPERM,
                )?;
                self.routes.remove(key);
            }
            Change::CreateRule(rule) => {
                ensure(rule.more.is_none(), libc::EOPNOTSUPP)?;
                self.rules.insert(rule.clone());
            }
            Change::DeleteRule(rule) => drop(self.rules.remove(rule)),
            Change::SetSysctl(link, sysctl, value) => {
                self.ours(link)?;
                self.sysctls.insert((link.clone(), *sysctl), value.clone());
            }
            Change::SetWireGuard(link, change) => {
                self.ours(link)?;
                let device = self.wireguard.get(link).cloned().unwrap_or_default();
                let device = device.changed(change).ok_or(libc::ENOENT)?;
                self.wireguard.insert(link.clone(), device);
            }
            Change::Attach(link, hook)
            | Change::ReplaceProgram(link, hook)
            | Change::TakeOverProgram(link, hook) => {
                self.ours(link)?;
                let key = (link.clone(), *hook);
                let replaces = !matches!(change, Change::Attach(..));
                ensure(self.attachments.contains_key(&key) == replaces, libc::EEXIST)?;
                self.attachments.insert(
                    key,
                    Attachment {
                        version: ProgramVersion::Current,
                    },
                );
            }
            Change::CreateFirewall(table) => {
                ensure(self.firewall.is_none(), libc::EEXIST)?;
                self.firewall = Some(*table.clone());
            }
            Change::ReplaceFirewall(table) => {
                self.our_firewall()?;
                self.firewall = Some(*table.clone());
            }
            Change::DeleteFirewall => {
                self.our_firewall()?;
                self.firewall = None;
            }
            Change::Detach(link, hook) => {
                self.attachments.remove(&(link.clone(), *hook));
            }
            Change::DeleteVersion(version) => {
                self.older_versions.remove(version);
                // The links are pinned there by which its programs are attached.
                self.attachments
                    .retain(|_, attached| attached.version == ProgramVersion::Current);
            }
            _ => return self.execute_ways(change),
        }
        Ok(())
    }

    fn execute_ways(&mut self, change: &Change) -> Result<(), Errno> {
        match change {
            Change::CreateRouteTarget(target) => {
                ensure(!self.route_targets.contains(target), libc::EEXIST)?;
                self.can_hold(target)?;
                self.route_targets.insert(target.clone());
            }
            Change::ReplaceRouteGroup(from, to) => {
                ensure(from.resilient == to.resilient, libc::EINVAL)?;
                ensure(
                    self.route_targets.contains(&RouteTarget::Group(from.clone())),
                    libc::ENOENT,
                )?;
                self.can_hold(&RouteTarget::Group(to.clone()))?;
                self.replace_route_group(from, to);
            }
            Change::DeleteRouteTarget(target) => {
                // A real kernel takes the routes along: stricter, so that nobody relies on that.
                let routed = self.routes.values().any(|route| route.target() == Some(target));
                let grouped = self.route_targets.iter().any(|group| {
                    matches!((group, target), (RouteTarget::Group(_), RouteTarget::Hop(hop)) if group.hops().any(|h| h == hop))
                });
                ensure(!routed && !grouped, libc::EBUSY)?;
                self.route_targets.remove(target);
            }
            Change::PutNeighbour(link, address, neighbour) => {
                self.ours(link)?;
                ensure(self.links[link].up, libc::ENETDOWN)?;
                let key = (link.clone(), *address);
                let foreign = self
                    .neighbours
                    .get(&key)
                    .is_some_and(|found| found.owner == Owner::Foreign);
                ensure(!foreign, libc::EPERM)?;
                self.neighbours.insert(key, *neighbour);
            }
            Change::DeleteNeighbour(link, address) => {
                self.neighbours.remove(&(link.clone(), *address));
            }
            _ => self.execute_bpf(change)?,
        }
        Ok(())
    }

    /// Devices must be up, and a group's members there.
    fn can_hold(&self, target: &RouteTarget) -> Result<(), Errno> {
        for hop in target.hops() {
            ensure(self.links.get(&hop.link).ok_or(libc::ENODEV)?.up, libc::ENETDOWN)?;
            let known = self.route_targets.contains(&RouteTarget::Hop(hop.clone()));
            ensure(known || matches!(target, RouteTarget::Hop(_)), libc::EINVAL)?;
        }
        Ok(())
    }

    fn execute_bpf(&mut self, change: &Change) -> Result<(), Errno> {
        match change {
            Change::PutClass(class, link) => {
                ensure(self.links.contains_key(link), libc::ENODEV)?;
                self.classes.insert(*class, Some(link.clone()));
            }
            Change::PutNextHop(next_hop) => {
                ensure(self.classes.contains_key(&next_hop.class), libc::ENOENT)?;
                self.next_hops.insert(next_hop.clone());
            }
            Change::SetNextHopDown(next_hop, down) => {
                ensure(self.next_hops.contains(next_hop), libc::ENOENT)?;
                if *down {
                    self.down.insert(next_hop.clone());
                } else {
                    self.down.remove(next_hop);
                }
            }
            Change::PutGroup(group) => {
                ensure(
                    group.members.iter().all(|(n, _)| self.next_hops.contains(n)),
                    libc::ENOENT,
                )?;
                self.groups.insert(group.clone());
            }
            Change::PutPrefix(prefix, target) => {
                let known = match target {
                    Target::Local => true,
                    Target::NextHop(next_hop) => self.next_hops.contains(next_hop),
                    Target::Group(group) => self.groups.contains(group),
                };
                ensure(known, libc::ENOENT)?;
                self.prefixes.insert(*prefix, target.clone());
            }
            Change::DeletePrefix(prefix) => {
                self.prefixes.remove(prefix);
            }
            Change::DeleteGroup(group) => {
                let names = |target: &Target| matches!(target, Target::Group(named) if named == group);
                ensure(!self.prefixes.values().any(names), libc::EBUSY)?;
                self.groups.remove(group);
            }
            Change::DeleteNextHop(next_hop) => {
                let by_group = self
                    .groups
                    .iter()
                    .flat_map(|g| &g.members)
                    .any(|(n, _)| n == next_hop);
                let by_prefix = self
                    .prefixes
                    .values()
                    .flat_map(Target::next_hops)
                    .any(|n| n == next_hop);
                ensure(!by_group && !by_prefix, libc::EBUSY)?;
                self.next_hops.remove(next_hop);
                self.down.remove(next_hop);
            }
            Change::DeleteClass(class) => self.delete_class(class)?,
            Change::PutSource(source) => {
                ensure(source.carrier.takes_tunnel_key(), libc::EINVAL)?;
                self.sources.insert(*source);
            }
            Change::DeleteSource(source) => {
                self.sources.remove(source);
            }
            _ => return Err(libc::EINVAL),
        }
        Ok(())
    }

    fn ours(&self, name: &LinkName) -> Result<(), Errno> {
        let link = self.links.get(name).ok_or(libc::ENODEV)?;
        ensure(link.owner == Owner::Ours, libc::EPERM)
    }

    fn our_firewall(&self) -> Result<(), Errno> {
        let found = self.firewall.as_ref().ok_or(libc::ENOENT)?;
        ensure(found.owner == Owner::Ours, libc::EPERM)
    }

    fn modify_link(&mut self, name: &LinkName, patch: &LinkPatch) -> Result<(), Errno> {
        self.ours(name)?;
        let link = self.links.get_mut(name).ok_or(libc::ENODEV)?;
        link.mac = patch.mac.or(link.mac);
        link.mtu = patch.mtu.or(link.mtu);
        link.arp = patch.arp.unwrap_or(link.arp);
        link.generates_addresses = patch.generates_addresses.unwrap_or(link.generates_addresses);
        Ok(())
    }

    /// Devices that it names are there and up, and so are its next-hop object and its source address.
    fn put_route(&mut self, key: RouteKey, route: &Route) -> Result<(), Errno> {
        for link in route.links() {
            ensure(self.links.get(link).ok_or(libc::ENODEV)?.up, libc::ENETDOWN)?;
        }
        if let Some(target) = route.target() {
            ensure(self.route_targets.contains(target), libc::EINVAL)?;
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
