//! The only place that knows the order of changes, and what must not happen after a failure.
//!
//! Put before delete; what refers comes after what it refers to; a tunnel device has its ingress program, and the
//! sources whose packets that counts are known, before it is up, and is up before a next hop sends to it; a backstop stands before its anchor and falls after it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::change::{
    AddressOperation, BpfChange, DeleteLinkReason, Existence, LinkOperation, NetlinkChange,
    NextHopObjectOperation, NextHopOperation, NftChange, ProgramOperation, RouteOperation, WireGuardChange,
    Write,
};
use crate::model::wireguard::DeviceChange;
use crate::model::{Action, Carrier, Change, Class, LinkKind, NextHop, RouteHop, RouteTarget};
use crate::net::{LinkName, Namespace};

/// Steps of a change set, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Unreachable routes: from here on nothing leaks.
    Backstops,
    /// The nft table. It names devices that may not be there yet, and guards them from the first moment on.
    Firewall,
    /// Devices that are made anew go. Traffic through them stops until the classes point at the new ones.
    RecreateLinks,
    /// Devices are made, down, and mended.
    Links,
    /// Settings and addresses of devices.
    LinkSettings,
    /// Keys, ports and peers of WireGuard devices: prefixes are given, not yet taken.
    WireGuard,
    /// Rules about what comes in by a device: they stand before a program sends anything there.
    DeviceRules,
    /// Programs on devices that have none.
    Attach,
    /// Sources become known, before their packets can come.
    Sources,
    /// Devices come up.
    LinksUp,
    /// IPv6 addresses with a peer: while a device is down, the kernel makes no route to the peer, nor later.
    PeerAddresses,
    /// Classes, then next hops, then groups, then prefixes.
    Classes,
    /// See [`Stage::Classes`].
    NextHops,
    /// Next hops are marked as down, or as usable again.
    NextHopStates,
    /// See [`Stage::Classes`].
    Groups,
    /// See [`Stage::Classes`].
    Prefixes,
    /// Neighbours, then next-hop objects, then groups of those.
    Neighbours,
    /// See [`Stage::Neighbours`].
    RouteHops,
    /// See [`Stage::Neighbours`].
    RouteGroups,
    /// Programs are replaced once the maps that the new ones read are full.
    ReplacePrograms,
    /// Programs that read an older ABI version's maps give way to ours once ours are full.
    TakeOver,
    /// Routes that lead to the program, or to next-hop objects.
    Anchors,
    /// Rules that lead to tables, which are full by now.
    Rules,
    /// Rules that lead to tables go.
    DeleteRules,
    /// Routes that lead to the program or to next-hop objects go.
    DeleteAnchors,
    /// Unreachable routes go.
    DeleteBackstops,
    /// Groups that no route leads to any more, then next-hop objects, then neighbours.
    DeleteRouteGroups,
    /// See [`Stage::DeleteRouteGroups`].
    DeleteRouteHops,
    /// See [`Stage::DeleteRouteGroups`].
    DeleteNeighbours,
    /// Prefixes go.
    DeletePrefixes,
    /// What prefixes no longer point at.
    FreeGroups,
    /// What groups and prefixes no longer point at.
    FreeNextHops,
    /// What next hops no longer point at.
    FreeClasses,
    /// WireGuard peers, and prefixes that nobody shall have, go.
    RemovePeers,
    /// Sources that are nobody's any more go.
    FreeSources,
    /// Programs leave devices.
    Detach,
    /// Rules about what comes in by a device go.
    DeleteDeviceRules,
    /// What older ABI versions have left goes.
    DeleteVersions,
    /// Addresses go.
    DeleteAddresses,
    /// Devices go.
    DeleteLinks,
    /// The nft table goes, after all that it is about.
    DeleteFirewall,
}

impl Stage {
    /// The stage of a change.
    #[must_use]
    pub fn of(change: &Change) -> Stage {
        match &change.action {
            Action::Netlink(change) => Stage::of_netlink(change),
            Action::Sysctl(_) => Stage::LinkSettings,
            Action::WireGuard(change) => match change.change {
                DeviceChange::RemovePeer(_) | DeviceChange::RemoveAllowedIps(..) => Stage::RemovePeers,
                _ => Stage::WireGuard,
            },
            Action::Nft(NftChange::Create(_) | NftChange::Replace(_)) => Stage::Firewall,
            Action::Nft(NftChange::Delete) => Stage::DeleteFirewall,
            Action::Bpf(change) => Stage::of_bpf(change),
        }
    }

    /// The stage of a change that rtnetlink makes.
    #[must_use]
    pub fn of_netlink(change: &NetlinkChange) -> Stage {
        match change {
            NetlinkChange::Link(_, operation) => Stage::of_link(operation),
            NetlinkChange::Address(_, prefix, operation) => match operation {
                AddressOperation::Create(address)
                | AddressOperation::Replace(address)
                | AddressOperation::Move { to: address, .. }
                    if prefix.addr().is_ipv6() && address.peer.is_some() =>
                {
                    Stage::PeerAddresses
                }
                AddressOperation::Delete => Stage::DeleteAddresses,
                _ => Stage::LinkSettings,
            },
            NetlinkChange::Flood(_, _, Existence::Create) => Stage::LinkSettings,
            NetlinkChange::Flood(_, _, Existence::Delete) => Stage::DeleteAddresses,
            NetlinkChange::Neighbour(_, _, Write::Put(_)) => Stage::Neighbours,
            NetlinkChange::Neighbour(_, _, Write::Delete) => Stage::DeleteNeighbours,
            NetlinkChange::NextHopObject(target, operation) => match (operation, target) {
                (NextHopObjectOperation::Delete, RouteTarget::Hop(_)) => Stage::DeleteRouteHops,
                // It is unknown what objects of other kinds consist of.
                (NextHopObjectOperation::Delete, _) => Stage::DeleteRouteGroups,
                (NextHopObjectOperation::Create, RouteTarget::Hop(_) | RouteTarget::Other(_)) => {
                    Stage::RouteHops
                }
                _ => Stage::RouteGroups,
            },
            NetlinkChange::Route(_, operation) => match operation {
                RouteOperation::Create(route) | RouteOperation::Replace(route) if route.refuses() => {
                    Stage::Backstops
                }
                RouteOperation::Create(_) | RouteOperation::Replace(_) => Stage::Anchors,
                RouteOperation::Delete(route) if route.refuses() => Stage::DeleteBackstops,
                RouteOperation::Delete(_) => Stage::DeleteAnchors,
            },
            NetlinkChange::Rule(rule, existence) => match (existence, &rule.iif) {
                (Existence::Create, Some(_)) => Stage::DeviceRules,
                (Existence::Create, None) => Stage::Rules,
                (Existence::Delete, Some(_)) => Stage::DeleteDeviceRules,
                (Existence::Delete, None) => Stage::DeleteRules,
            },
        }
    }

    fn of_link(operation: &LinkOperation) -> Stage {
        match operation {
            LinkOperation::Create(_) | LinkOperation::Modify(_) => Stage::Links,
            LinkOperation::SetMaster(_) | LinkOperation::SetAlias(_) => Stage::LinkSettings,
            LinkOperation::SetUp | LinkOperation::SetDown => Stage::LinksUp,
            LinkOperation::Delete(DeleteLinkReason::Recreate { .. }) => Stage::RecreateLinks,
            // No two of such a kind stand beside each other, by their ports or at all; a second anchor can.
            LinkOperation::Delete(DeleteLinkReason::Renamed { kind, .. }) if *kind != LinkKind::Dummy => {
                Stage::RecreateLinks
            }
            LinkOperation::Delete(_) => Stage::DeleteLinks,
        }
    }

    fn of_bpf(change: &BpfChange) -> Stage {
        match change {
            BpfChange::Program(_, _, ProgramOperation::Attach) => Stage::Attach,
            BpfChange::Program(_, _, ProgramOperation::Replace) => Stage::ReplacePrograms,
            BpfChange::Program(_, _, ProgramOperation::TakeOver) => Stage::TakeOver,
            BpfChange::Program(_, _, ProgramOperation::Detach) => Stage::Detach,
            BpfChange::DeleteVersion(_) => Stage::DeleteVersions,
            BpfChange::Class(_, Write::Put(_)) => Stage::Classes,
            BpfChange::Class(_, Write::Delete) => Stage::FreeClasses,
            BpfChange::NextHop(_, NextHopOperation::Put) => Stage::NextHops,
            BpfChange::NextHop(_, NextHopOperation::SetDown(_)) => Stage::NextHopStates,
            BpfChange::NextHop(_, NextHopOperation::Delete) => Stage::FreeNextHops,
            BpfChange::Group(_, Existence::Create) => Stage::Groups,
            BpfChange::Group(_, Existence::Delete) => Stage::FreeGroups,
            BpfChange::Prefix(_, Write::Put(_)) => Stage::Prefixes,
            BpfChange::Prefix(_, Write::Delete) => Stage::DeletePrefixes,
            BpfChange::Source(_, Existence::Create) => Stage::Sources,
            BpfChange::Source(_, Existence::Delete) => Stage::FreeSources,
        }
    }

    /// Whether a failed change of stage `failed` forbids this stage: it would take away what the old state, which
    /// still stands there, needs.
    #[must_use]
    pub fn is_forbidden_after(self, failed: Stage) -> bool {
        if failed == Stage::Sources {
            // Nothing but a count is lost, and what is taken away may make the room that was missing.
            return false;
        }
        match self {
            // The older version's maps are complete, ours are not.
            Stage::TakeOver => (Stage::Links..=Stage::Prefixes).contains(&failed),
            // Its program may still be the one that runs.
            Stage::DeleteVersions => (Stage::Links..=Stage::TakeOver).contains(&failed),
            // The old target of a prefix may still be in use.
            Stage::FreeGroups | Stage::FreeNextHops | Stage::FreeClasses => {
                (Stage::Classes..=Stage::Prefixes).contains(&failed)
                    || (Stage::DeletePrefixes..self).contains(&failed)
            }
            // The old classes and next hops, or an older version's program, may still send to it, and who is sent to answers.
            Stage::RemovePeers | Stage::FreeSources | Stage::DeleteLinks => {
                (Stage::Links..=Stage::Rules).contains(&failed)
                    || (Stage::DeleteRules..=Stage::FreeClasses).contains(&failed)
            }
            // The kernel deletes the routes of a next hop with it.
            Stage::DeleteRouteGroups | Stage::DeleteRouteHops | Stage::DeleteNeighbours => {
                (Stage::Neighbours..=Stage::Rules).contains(&failed)
                    || (Stage::DeleteRules..self).contains(&failed)
            }
            // The old anchors may still name it as their source.
            Stage::DeleteAddresses => matches!(failed, Stage::Anchors | Stage::DeleteAnchors),
            // The old rule, or the routes beside the new one's table, may still be what leads packets.
            Stage::DeleteRules | Stage::DeleteAnchors => failed == Stage::Rules,
            Stage::DeleteDeviceRules => matches!(failed, Stage::DeviceRules | Stage::Detach),
            // While an anchor stands, its backstop does.
            Stage::DeleteBackstops => matches!(failed, Stage::DeleteAnchors | Stage::Rules),
            // While an anchor leads packets or a device takes them, its rules stand.
            Stage::DeleteFirewall => matches!(failed, Stage::DeleteAnchors | Stage::DeleteLinks),
            _ => false,
        }
    }
}

/// What could not be made, and what therefore must not be led to: the old state keeps its packets.
#[derive(Debug, Default)]
pub struct Missing {
    links: BTreeSet<LinkName>,
    classes: BTreeSet<Class>,
    next_hops: BTreeSet<Arc<NextHop>>,
    route_targets: BTreeSet<RouteTarget>,
    neighbours: BTreeSet<(LinkName, IpAddr)>,
    /// Where routes or prefixes could not lead: what led there before must stay.
    destinations: Vec<IpNet>,
    /// Where the old state leads, and the new one by other means.
    leaving: BTreeSet<IpNet>,
    /// Whether a route is among them.
    route: bool,
    /// Whether a rule is missing, or one too many: what led anywhere before must stay.
    rule: bool,
    /// Where routes lead that could not be deleted: those of more specific prefixes keep their packets from them.
    left: Vec<IpNet>,
    /// Prefixes that no WireGuard peer could be given.
    allowed_ips: BTreeSet<IpNet>,
    /// The same of other namespaces.
    elsewhere: BTreeMap<Namespace, Missing>,
}

impl Missing {
    /// Nothing yet of these changes.
    #[must_use]
    pub fn of(changes: &[Change]) -> Missing {
        let here = changes.iter().filter(|change| change.namespace.is_none());
        let leaving = here.filter_map(|change| match &change.action {
            Action::Bpf(BpfChange::Prefix(prefix, Write::Delete)) => Some(*prefix),
            Action::Netlink(NetlinkChange::Route(key, RouteOperation::Delete(route))) if !route.refuses() => {
                Some(key.prefix)
            }
            _ => None,
        });
        Missing {
            leaving: leaving.collect(),
            ..Missing::default()
        }
    }

    /// Whether a change would lead packets to something that could not be made, or bring up a device without its program.
    #[must_use]
    pub fn forbids(&self, change: &Change) -> bool {
        let there = match &change.namespace {
            None => self,
            Some(namespace) => match self.elsewhere.get(namespace) {
                Some(there) => there,
                None => return false,
            },
        };
        match &change.action {
            Action::Netlink(change) => there.forbids_netlink(change),
            Action::Bpf(change) => there.forbids_bpf(change),
            Action::Sysctl(_) | Action::WireGuard(_) | Action::Nft(_) => false,
        }
    }

    fn forbids_netlink(&self, change: &NetlinkChange) -> bool {
        match change {
            NetlinkChange::Link(link, LinkOperation::SetUp)
            | NetlinkChange::Neighbour(link, _, Write::Put(_)) => self.links.contains(link),
            NetlinkChange::NextHopObject(target, operation) => {
                *operation != NextHopObjectOperation::Delete && target.hops().any(|hop| self.is_missing(hop))
            }
            NetlinkChange::Route(key, RouteOperation::Create(route) | RouteOperation::Replace(route)) => {
                route
                    .target()
                    .is_some_and(|target| self.forbids_route(&key.prefix, target) || self.takes(&key.prefix))
            }
            NetlinkChange::Route(key, RouteOperation::Delete(route)) => {
                let is_left = || self.left.iter().any(|left| left.contains(&key.prefix));
                !route.refuses() && (self.led(&key.prefix) || is_left())
            }
            NetlinkChange::Rule(rule, Existence::Create) => rule.iif.is_none() && self.route,
            NetlinkChange::Rule(rule, Existence::Delete) => {
                rule.iif.is_none() && !self.destinations.is_empty()
            }
            NetlinkChange::Link(..)
            | NetlinkChange::Address(..)
            | NetlinkChange::Flood(..)
            | NetlinkChange::Neighbour(..) => false,
        }
    }

    fn forbids_bpf(&self, change: &BpfChange) -> bool {
        let is_missing = |next_hop: &Arc<NextHop>| self.next_hops.contains(next_hop);
        match change {
            BpfChange::Class(_, Write::Put(link)) => self.links.contains(link),
            BpfChange::NextHop(next_hop, NextHopOperation::Put) => self.classes.contains(&next_hop.class),
            BpfChange::NextHop(next_hop, NextHopOperation::SetDown(_)) => is_missing(next_hop),
            BpfChange::Group(group, Existence::Create) => {
                group.members.iter().any(|(next_hop, _)| is_missing(next_hop))
            }
            BpfChange::Prefix(prefix, Write::Put(target)) => {
                let is_refused = |next_hop: &Arc<NextHop>| {
                    next_hop.class.carrier == Carrier::WireGuard && self.allowed_ips.contains(prefix)
                };
                target
                    .next_hops()
                    .any(|next_hop| is_missing(next_hop) || is_refused(next_hop))
            }
            BpfChange::Prefix(prefix, Write::Delete) => self.led(prefix),
            _ => false,
        }
    }

    /// Whether a way out can't be taken: it was not made, or its device or neighbour was not.
    fn is_missing(&self, hop: &Arc<RouteHop>) -> bool {
        let neighbour = hop.gateway.map(|gateway| (hop.link.clone(), gateway));
        self.links.contains(&hop.link)
            || neighbour.is_some_and(|neighbour| self.neighbours.contains(&neighbour))
            || self.route_targets.contains(&RouteTarget::Hop(Arc::clone(hop)))
    }

    fn forbids_route(&self, prefix: &IpNet, target: &RouteTarget) -> bool {
        let refused = |hop: &Arc<RouteHop>| hop.is_wireguard() && self.allowed_ips.contains(prefix);
        self.route_targets.contains(target) || target.hops().any(|hop| self.is_missing(hop) || refused(hop))
    }

    /// Whether a route would take the packets of a more specific prefix that could not be made, and that the old state leads.
    fn takes(&self, prefix: &IpNet) -> bool {
        let mut within = self.destinations.iter().filter(|route| prefix.contains(*route));
        within.any(|route| route != prefix && self.leaving.contains(route))
    }

    /// Whether a route or prefix that could not be made covers another, or some of it.
    fn led(&self, prefix: &IpNet) -> bool {
        if self.rule {
            return true;
        }
        self.destinations
            .iter()
            .any(|route| route.contains(prefix) || prefix.contains(route))
    }

    /// Takes note of a change that was refused or left out.
    pub fn add(&mut self, change: &Change) {
        let there = match &change.namespace {
            None => self,
            Some(namespace) => self.elsewhere.entry(namespace.clone()).or_default(),
        };
        match &change.action {
            Action::Netlink(change) => there.add_netlink(change),
            Action::WireGuard(WireGuardChange { link, change }) => match change {
                DeviceChange::AddPeer(_, peer) => there.allowed_ips.extend(&peer.allowed_ips),
                DeviceChange::UpdatePeer(_, update) => there.allowed_ips.extend(&update.add),
                _ => drop(there.links.insert(link.clone())),
            },
            Action::Bpf(change) => there.add_bpf(change),
            Action::Sysctl(_) | Action::Nft(_) => {}
        }
    }

    fn add_netlink(&mut self, change: &NetlinkChange) {
        match change {
            NetlinkChange::Link(link, LinkOperation::Create(_) | LinkOperation::SetUp) => {
                self.links.insert(link.clone());
            }
            NetlinkChange::Neighbour(link, address, Write::Put(_)) => {
                self.neighbours.insert((link.clone(), *address));
            }
            NetlinkChange::NextHopObject(
                target,
                NextHopObjectOperation::Create | NextHopObjectOperation::Replace(_),
            ) => {
                self.route_targets.insert(target.clone());
            }
            NetlinkChange::Route(key, RouteOperation::Create(_) | RouteOperation::Replace(_)) => {
                self.destinations.push(key.prefix);
                self.route = true;
            }
            NetlinkChange::Route(key, RouteOperation::Delete(route)) if !route.refuses() => {
                self.left.push(key.prefix);
            }
            NetlinkChange::Rule(..) => self.rule = true,
            _ => {}
        }
    }

    fn add_bpf(&mut self, change: &BpfChange) {
        match change {
            BpfChange::Program(link, _, ProgramOperation::Attach) => drop(self.links.insert(link.clone())),
            BpfChange::Class(class, Write::Put(_)) => drop(self.classes.insert(*class)),
            BpfChange::NextHop(next_hop, NextHopOperation::Put) => {
                self.next_hops.insert(Arc::clone(next_hop));
            }
            BpfChange::Prefix(prefix, Write::Put(_)) => self.destinations.push(*prefix),
            _ => {}
        }
    }
}

/// Sorts changes by their ranks; the order within a rank stays.
pub fn sort(changes: &mut [Change]) {
    changes.sort_by_key(rank);
}

/// When a change is made: its stage, and its place in that. Routes that lead to next-hop objects come the more specific the earlier,
/// and go the more specific the later, so that none takes another's packets. What fails in one rank is known before the next.
#[must_use]
pub fn rank(change: &Change) -> (Stage, u8) {
    let place = match &change.action {
        Action::Netlink(NetlinkChange::Route(key, operation)) if change.namespace.is_none() => {
            match operation {
                RouteOperation::Create(route) | RouteOperation::Replace(route)
                    if route.target().is_some() =>
                {
                    u8::MAX - key.prefix.prefix_len()
                }
                RouteOperation::Delete(route) if route.target().is_some() => key.prefix.prefix_len(),
                _ => 0,
            }
        }
        _ => 0,
    };
    (Stage::of(change), place)
}
