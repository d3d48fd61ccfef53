//! The only place that knows the order of changes, and what must not happen after a failure.
//!
//! Put before delete; what refers comes after what it refers to; a tunnel device has its ingress program, and the
//! sources whose packets that counts are known, before it is up, and is up before a next hop sends to it; a backstop stands before its anchor and falls after it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::change::DeleteLinkReason;
use crate::model::wireguard::DeviceChange;
use crate::model::{Carrier, Change, Class, LinkKind, NextHop, RouteHop, RouteTarget};
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
        match change.bare() {
            Change::CreateRoute(_, route) | Change::ReplaceRoute(_, route) if route.refuses() => {
                Stage::Backstops
            }
            Change::CreateRoute(..) | Change::ReplaceRoute(..) => Stage::Anchors,
            Change::DeleteRoute(_, route) if route.refuses() => Stage::DeleteBackstops,
            Change::DeleteRoute(..) => Stage::DeleteAnchors,
            Change::PutNeighbour(..) => Stage::Neighbours,
            Change::CreateRouteTarget(RouteTarget::Group(_)) | Change::ReplaceRouteGroup(..) => {
                Stage::RouteGroups
            }
            Change::CreateRouteTarget(_) => Stage::RouteHops,
            // Of those nobody knows what they are made of.
            Change::DeleteRouteTarget(RouteTarget::Group(_) | RouteTarget::Other(_)) => {
                Stage::DeleteRouteGroups
            }
            Change::DeleteRouteTarget(_) => Stage::DeleteRouteHops,
            Change::DeleteNeighbour(..) => Stage::DeleteNeighbours,
            Change::DeleteLink(_, DeleteLinkReason::Recreate { .. }) => Stage::RecreateLinks,
            // No two of such a kind stand beside each other, by their ports or at all; a second anchor can.
            Change::DeleteLink(_, DeleteLinkReason::Renamed { kind, .. }) if *kind != LinkKind::Dummy => {
                Stage::RecreateLinks
            }
            Change::DeleteLink(_, DeleteLinkReason::Unneeded | DeleteLinkReason::Renamed { .. }) => {
                Stage::DeleteLinks
            }
            Change::CreateLink(..) | Change::ModifyLink(..) => Stage::Links,
            Change::CreateAddress(_, prefix, address)
            | Change::ReplaceAddress(_, prefix, address)
            | Change::MoveAddress(_, _, prefix, address)
                if prefix.addr().is_ipv6() && address.peer.is_some() =>
            {
                Stage::PeerAddresses
            }
            Change::SetSysctl(..)
            | Change::CreateAddress(..)
            | Change::ReplaceAddress(..)
            | Change::MoveAddress(..)
            | Change::SetMaster(..)
            | Change::SetAlias(..)
            | Change::AddFlood(..) => Stage::LinkSettings,
            Change::SetWireGuard(_, DeviceChange::RemovePeer(_) | DeviceChange::RemoveAllowedIps(..)) => {
                Stage::RemovePeers
            }
            Change::SetWireGuard(..) => Stage::WireGuard,
            Change::CreateRule(rule) if rule.iif.is_some() => Stage::DeviceRules,
            Change::CreateRule(_) => Stage::Rules,
            Change::DeleteRule(rule) if rule.iif.is_some() => Stage::DeleteDeviceRules,
            Change::DeleteRule(_) => Stage::DeleteRules,
            Change::CreateFirewall(_) | Change::ReplaceFirewall(_) => Stage::Firewall,
            Change::DeleteFirewall => Stage::DeleteFirewall,
            Change::Attach(..) => Stage::Attach,
            Change::SetLinkUp(..) | Change::SetLinkDown(..) => Stage::LinksUp,
            Change::PutClass(..) => Stage::Classes,
            Change::PutNextHop(..) => Stage::NextHops,
            Change::SetNextHopDown(..) => Stage::NextHopStates,
            Change::PutGroup(..) => Stage::Groups,
            Change::PutPrefix(..) => Stage::Prefixes,
            Change::ReplaceProgram(..) => Stage::ReplacePrograms,
            Change::PutSource(..) => Stage::Sources,
            Change::DeleteSource(..) => Stage::FreeSources,
            Change::TakeOverProgram(..) => Stage::TakeOver,
            Change::DeleteVersion(..) => Stage::DeleteVersions,
            Change::DeletePrefix(..) => Stage::DeletePrefixes,
            Change::DeleteGroup(..) => Stage::FreeGroups,
            Change::DeleteNextHop(..) => Stage::FreeNextHops,
            Change::DeleteClass(..) => Stage::FreeClasses,
            Change::Detach(..) => Stage::Detach,
            Change::DeleteAddress(..) | Change::DeleteFlood(..) => Stage::DeleteAddresses,
            Change::In(..) => unreachable!("it is bare"),
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
        let leaving = changes.iter().filter_map(|change| match change {
            Change::DeletePrefix(prefix) => Some(*prefix),
            Change::DeleteRoute(key, route) if !route.refuses() => Some(key.prefix),
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
        let is_missing = |next_hop: &Arc<NextHop>| self.next_hops.contains(next_hop);
        match change {
            Change::SetLinkUp(link) | Change::PutClass(_, link) | Change::PutNeighbour(link, ..) => {
                self.links.contains(link)
            }
            Change::CreateRouteTarget(target) => target.hops().any(|hop| self.is_missing(hop)),
            Change::ReplaceRouteGroup(_, group) => group.members.iter().any(|(hop, _)| self.is_missing(hop)),
            Change::CreateRoute(key, route) | Change::ReplaceRoute(key, route) => route
                .target()
                .is_some_and(|target| self.forbids_route(&key.prefix, target) || self.takes(&key.prefix)),
            Change::DeleteRoute(key, route) if !route.refuses() => {
                let mut left = self.left.iter();
                self.led(&key.prefix) || left.any(|left| left.contains(&key.prefix))
            }
            Change::DeletePrefix(prefix) => self.led(prefix),
            Change::CreateRule(rule) => rule.iif.is_none() && self.route,
            Change::DeleteRule(rule) => rule.iif.is_none() && !self.destinations.is_empty(),
            Change::PutNextHop(next_hop) => self.classes.contains(&next_hop.class),
            Change::SetNextHopDown(next_hop, _) => is_missing(next_hop),
            Change::PutGroup(group) => group.members.iter().any(|(next_hop, _)| is_missing(next_hop)),
            Change::PutPrefix(prefix, target) => {
                let is_refused = |next_hop: &Arc<NextHop>| {
                    next_hop.class.carrier == Carrier::WireGuard && self.allowed_ips.contains(prefix)
                };
                target
                    .next_hops()
                    .any(|next_hop| is_missing(next_hop) || is_refused(next_hop))
            }
            Change::In(namespace, change) => self
                .elsewhere
                .get(namespace)
                .is_some_and(|missing| missing.forbids(change)),
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
        match change {
            Change::SetWireGuard(_, DeviceChange::AddPeer(_, peer)) => {
                self.allowed_ips.extend(&peer.allowed_ips);
            }
            Change::SetWireGuard(_, DeviceChange::UpdatePeer(_, update)) => {
                self.allowed_ips.extend(&update.add);
            }
            Change::In(namespace, change) => {
                self.elsewhere.entry(namespace.clone()).or_default().add(change);
            }
            Change::CreateLink(link, _)
            | Change::SetLinkUp(link)
            | Change::SetWireGuard(link, _)
            | Change::Attach(link, _) => {
                self.links.insert(link.clone());
            }
            Change::PutClass(class, _) => {
                self.classes.insert(*class);
            }
            Change::PutNextHop(next_hop) => {
                self.next_hops.insert(Arc::clone(next_hop));
            }
            Change::PutNeighbour(link, address, _) => {
                self.neighbours.insert((link.clone(), *address));
            }
            Change::CreateRouteTarget(target) => {
                self.route_targets.insert(target.clone());
            }
            Change::ReplaceRouteGroup(_, group) => {
                self.route_targets.insert(RouteTarget::Group(Arc::clone(group)));
            }
            Change::CreateRoute(key, _) | Change::ReplaceRoute(key, _) => {
                self.destinations.push(key.prefix);
                self.route = true;
            }
            Change::DeleteRoute(key, route) if !route.refuses() => self.left.push(key.prefix),
            Change::PutPrefix(prefix, _) => self.destinations.push(*prefix),
            Change::CreateRule(_) | Change::DeleteRule(_) => self.rule = true,
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
pub fn rank(change: &Change) -> (Stage, u8) {
    let place = match change {
        Change::CreateRoute(key, route) | Change::ReplaceRoute(key, route) if route.target().is_some() => {
            u8::MAX - key.prefix.prefix_len()
        }
        Change::DeleteRoute(key, route) if route.target().is_some() => key.prefix.prefix_len(),
        _ => 0,
    };
    (Stage::of(change), place)
}
