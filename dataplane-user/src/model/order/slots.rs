//! Unique properties of devices in a network namespace, such as names, ports and VNIs. A change that needs
//! one waits until the device that has it gives it up.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::model::LinkKind;
use crate::net::LinkName;

/// A property that two devices can't have at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot<'a> {
    /// A name.
    Name(&'a LinkName),
    /// The key of the kernel's route to the subnet of an address.
    Subnet(IpNet),
    /// A UDP port, for this use.
    Port(u16, PortUse),
    /// A VNI of VXLAN at a UDP port, over IPv6 or not (`vxlan_config_validate`, drivers/net/vxlan).
    Vni(u32, u16, bool),
    /// A VNI of GENEVE towards a peer at a UDP port (`geneve_find_dev`, drivers/net/geneve.c).
    GenevePeer(u32, IpAddr, u16),
    /// Both ends of an ipip tunnel (`ip_tunnel_find`, net/ipv4/ip_tunnel.c).
    Ends(Ipv4Addr, Ipv4Addr),
    /// The flow-based ipip.
    Ipip,
    /// The flow-based ip6tnl.
    Ip6tnl,
}

/// What a device does with its UDP port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PortUse {
    /// One VNI of VXLAN, beside others.
    Vxlan,
    /// One VNI of GENEVE, beside others.
    Geneve,
    /// A use that excludes every other one.
    Alone,
}

impl PortUse {
    fn of(kind: &LinkKind) -> PortUse {
        match kind {
            LinkKind::VxlanTo { .. } => PortUse::Vxlan,
            LinkKind::GeneveTo { .. } => PortUse::Geneve,
            _ => PortUse::Alone,
        }
    }
}

/// The properties that must be vacant before a device of this kind is created. The port of a WireGuard device
/// is not part of its kind.
pub(crate) fn taken(kind: &LinkKind) -> impl Iterator<Item = Slot<'static>> {
    let port = port(kind).map(|(port, by)| Slot::Port(port, by));
    port.into_iter().chain(identity(kind))
}

/// The properties that become vacant when a device of this kind is deleted.
pub(crate) fn freed(kind: &LinkKind) -> impl Iterator<Item = Slot<'static>> {
    let ports = port(kind).into_iter().flat_map(|(port, by)| freed_port(port, by));
    ports.chain(identity(kind))
}

/// The properties that become vacant when a device gives up its UDP port: that port, for all uses that can't
/// share it.
pub(crate) fn freed_port(port: u16, by: PortUse) -> impl Iterator<Item = Slot<'static>> {
    let uses = [PortUse::Vxlan, PortUse::Geneve, PortUse::Alone];
    let others = uses
        .into_iter()
        .filter(move |other| by == PortUse::Alone || *other != by);
    others.map(move |other| Slot::Port(port, other))
}

fn port(kind: &LinkKind) -> Option<(u16, PortUse)> {
    Some((kind.udp_port()?, PortUse::of(kind)))
}

fn identity(kind: &LinkKind) -> Option<Slot<'static>> {
    match kind {
        LinkKind::VxlanTo { vni, port, .. } => Some(Slot::Vni(*vni, *port, kind.is_over_ipv6())),
        LinkKind::GeneveTo { vni, remote, port } => Some(Slot::GenevePeer(*vni, *remote, *port)),
        LinkKind::IpipTo { local, remote, .. } => Some(Slot::Ends(*local, *remote)),
        LinkKind::Ipip { .. } => Some(Slot::Ipip),
        LinkKind::Ip6tnl { .. } => Some(Slot::Ip6tnl),
        _ => None,
    }
}
