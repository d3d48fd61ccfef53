//! The order of changes, which follows from what they depend on.
//!
//! Each kind of object says in its own file of this folder's parent which conditions a change of it requires and which it provides:
//! what refers to something requires that it is there, what takes something away requires that nobody uses it any more, and what takes
//! something of which there is only one (a UDP port, a VNI, a name) requires that whoever has it lets it go. A condition that is broken
//! by a failure leaves out exactly the changes that require it, and what depends on those. Where nothing depends on anything, [`Stage`]s say
//! what comes first, so that plans are readable.

mod conditions;
mod cycle;
mod graph;
mod nets;
mod slots;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use crate::model::change::{
    AddressOperation, BpfChange, DeleteLinkReason, Existence, LinkOperation, NetlinkChange,
    NextHopObjectOperation, NextHopOperation, NftChange, ProgramOperation, RouteOperation, Write,
};
use crate::model::wireguard::DeviceChange;
use crate::model::{Action, Change, ChangeSet, KernelState, LinkKind, RouteTarget};

pub(super) use self::conditions::{Around, Condition, Needs, Target};
pub(super) use self::cycle::Detour;
pub(super) use self::slots::{PortUse, Slot, freed, freed_port, taken};

/// Steps of a change set, in the order that they have where nothing depends on anything.
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
                AddressOperation::Delete { first: true } => Stage::LinkSettings,
                AddressOperation::Delete { first: false } => Stage::DeleteAddresses,
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

    pub(super) fn of_link(operation: &LinkOperation) -> Stage {
        match operation {
            LinkOperation::Create(_) | LinkOperation::Modify(_) => Stage::Links,
            LinkOperation::SetMaster(_) | LinkOperation::SetAlias(_) => Stage::LinkSettings,
            LinkOperation::SetUp | LinkOperation::SetDown => Stage::LinksUp,
            LinkOperation::Delete(DeleteLinkReason::Recreate { .. } | DeleteLinkReason::MakesRoom { .. }) => {
                Stage::RecreateLinks
            }
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
}

/// When a change is made that depends on no other: its stage, and its place in that. Routes that lead to next-hop objects come the more specific the earlier,
/// and routes go the more specific the later, so that none takes another's packets. What fails in one rank is known before the next.
#[must_use]
pub fn rank(change: &Change) -> (Stage, u8) {
    let place = match &change.action {
        Action::Netlink(NetlinkChange::Route(key, operation)) => match operation {
            RouteOperation::Create(route) | RouteOperation::Replace(route) if route.target().is_some() => {
                u8::MAX - key.prefix.prefix_len()
            }
            RouteOperation::Delete(route) if !route.refuses() => key.prefix.prefix_len(),
            _ => 0,
        },
        _ => 0,
    };
    (Stage::of(change), place)
}

/// Sorts the changes and notes the dependencies of each. `before` is the observed state; `observed` is the same without what the kernel deletes
/// together with recreated devices; `target` is the target without conflicts. Returns a detour where changes wait for each other in a circle and
/// this detour was not taken yet; the caller computes the changes again with it.
pub(super) fn arrange(
    set: &mut ChangeSet,
    (before, observed, target): (&KernelState, &KernelState, &KernelState),
    detours: &BTreeSet<Detour>,
) -> Option<Detour> {
    let (needs, of_slots) = conditions::of_changes(&set.changes, (before, observed, target), detours);
    let ranks = set.changes.iter().map(rank).collect::<Vec<_>>();
    let backwards = graph::first_backwards(&ranks, &needs, |condition| !of_slots[condition as usize]);
    debug_assert!(
        backwards.is_none(),
        "{:?}",
        backwards.map(|(late, early)| format!("{} requires {}", set.changes[early], set.changes[late]))
    );
    let order = match graph::sort(&ranks, &needs) {
        graph::Sorted::Whole(order) => order,
        graph::Sorted::Circle { links, rest } => {
            let waits = cycle::waits_for_slots(&links, &of_slots);
            let detour = cycle::way_out(&waits, &set.changes, &needs);
            if let Some(detour) = detour.filter(|detour| !detours.contains(detour)) {
                return Some(detour);
            }
            rest
        }
    };
    let mut changes = std::mem::take(&mut set.changes)
        .into_iter()
        .map(Some)
        .collect::<Vec<_>>();
    let mut needs = needs.into_iter().map(Some).collect::<Vec<_>>();
    set.changes = order.iter().filter_map(|&place| changes[place].take()).collect();
    set.dependencies = order.iter().filter_map(|&place| needs[place].take()).collect();
    None
}
