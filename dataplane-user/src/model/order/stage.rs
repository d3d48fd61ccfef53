//! Stages: when a change is executed that depends on no other.

/// Steps of a change set, in the order of changes that do not depend on each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Backstop routes: from now on no overlay packet leaks.
    Backstops,
    /// The nft table. It may name devices that don't exist yet, so that it protects them from the start.
    Firewall,
    /// Devices that are recreated are deleted. Traffic through them stops until the classes point to the new
    /// ones.
    RecreateLinks,
    /// Devices are created, down, and corrected in place.
    Links,
    /// Settings and addresses of devices.
    LinkSettings,
    /// Keys, ports and peers of WireGuard devices: peers get prefixes, but lose none yet.
    WireGuard,
    /// Rules for packets that arrive on a device (`iif`): they exist before a program sends packets there.
    DeviceRules,
    /// Maps whose pins were removed are pinned again, before the links of programs are pinned beside them.
    Pins,
    /// Programs on devices that have none.
    Attach,
    /// Known sources are added, before their packets can arrive.
    Sources,
    /// Devices are set up.
    LinksUp,
    /// IPv6 addresses with a peer. On a device that is down the kernel creates no route to the peer, not even
    /// later.
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
    /// Programs that read the maps of an older ABI version are replaced once the maps of this version are
    /// full.
    TakeOver,
    /// Routes that lead to the program, or to next-hop objects.
    Anchors,
    /// Rules that lead to routing tables, which are full by now.
    Rules,
    /// Rules that lead to routing tables are deleted.
    DeleteRules,
    /// Routes that lead to the program or to next-hop objects are deleted.
    DeleteAnchors,
    /// Backstop routes are deleted.
    DeleteBackstops,
    /// Unused groups are deleted, then next-hop objects, then neighbours.
    DeleteRouteGroups,
    /// See [`Stage::DeleteRouteGroups`].
    DeleteRouteHops,
    /// See [`Stage::DeleteRouteGroups`].
    DeleteNeighbours,
    /// Prefixes are deleted.
    DeletePrefixes,
    /// Groups that no prefix points to any more are freed.
    FreeGroups,
    /// Next hops that no group and no prefix points to any more are freed.
    FreeNextHops,
    /// Classes that no next hop uses any more are freed.
    FreeClasses,
    /// WireGuard peers, and prefixes that no peer should have, are removed.
    RemovePeers,
    /// Sources that belong to no peer any more are freed.
    FreeSources,
    /// Programs are detached.
    Detach,
    /// Rules for packets that arrive on a device (`iif`) are deleted.
    DeleteDeviceRules,
    /// The maps and links of older ABI versions are deleted.
    DeleteVersions,
    /// Addresses are deleted.
    DeleteAddresses,
    /// Devices are deleted.
    DeleteLinks,
    /// The nft table is deleted, after everything that it protects.
    DeleteFirewall,
}
