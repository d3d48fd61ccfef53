//! Stages: when a change is made that depends on no other.

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
