//! An overlay network.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use super::FirewallOptions;
use crate::net::encapsulation::RequestedEncapsulation;
use crate::net::{Family, NetworkName, PortRange};

/// An overlay network (`TunnelNetwork`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// Its address space; disjoint from those of all other networks.
    pub prefixes: BTreeSet<IpNet>,
    /// The encapsulation of links, unless a node declares another one.
    pub encapsulation: RequestedEncapsulation,
    /// The dataplane that forwards its packets.
    pub dataplane: Dataplane,
    /// Options of its routes, for dataplane `routes`.
    pub routes: NetworkRoutes,
    /// VNI, 1 … 16777215.
    pub vni: u32,
    /// UDP ports; equal in all networks, because devices are shared.
    pub ports: Ports,
    /// The underlay family to use if both nodes have both families.
    pub underlay_family: Family,
    /// Overlay MTU in bytes; `None`: detected.
    pub mtu: Option<u32>,
    /// What happens to packets whose inner source is not advertised by the node that sent them.
    pub source_protection: SourceProtection,
    /// Health checks of next hops; `None`: none.
    pub health: Option<Bfd>,
    /// What happens when every next hop of a prefix is down.
    pub all_down: AllDown,
    /// Outer TTL, 1 … 255.
    pub ttl: u8,
    /// Outer DSCP, 0 … 63; `None`: copied from the inner header.
    pub dscp: Option<u8>,
    /// Whether the outer IPv4 header forbids fragments.
    pub df: bool,
    /// Outer UDP checksum; `None`: zero over IPv4, computed over IPv6.
    pub udp_checksum: Option<UdpChecksum>,
    /// Masquerading of traffic that leaves the overlay, with the destinations that are excluded; `None`: off.
    pub masquerade: Option<BTreeSet<IpNet>>,
    /// Further options of the firewall.
    pub firewall: FirewallOptions,
}

impl Network {
    /// Whether the outer UDP checksum is zero in packets of this network over an underlay family.
    #[must_use]
    pub fn zero_checksum(&self, outer: Family) -> bool {
        match self.udp_checksum {
            Some(UdpChecksum::Zero) => true,
            Some(UdpChecksum::Compute) => false,
            None => outer == Family::Ipv4,
        }
    }

    /// Whether cleartext packets with a source in this network are dropped.
    #[must_use]
    pub fn drops_cleartext(&self) -> bool {
        let default = self.source_protection == SourceProtection::Enforce;
        self.firewall.drop_cleartext.unwrap_or(default)
    }
}

/// The dataplane that forwards the packets of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dataplane {
    /// BPF programs.
    Ebpf,
    /// Routes with lightweight-tunnel encapsulation.
    Routes,
}

/// Options of the routes of a network with dataplane `routes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkRoutes {
    /// The routing table; all tables except the main one get a policy rule.
    pub table: u32,
    /// Whether flows keep their group member when other members are added or removed.
    pub resilient: bool,
}

impl Default for NetworkRoutes {
    fn default() -> NetworkRoutes {
        NetworkRoutes {
            table: NetworkRoutes::MAIN,
            resilient: false,
        }
    }
}

impl NetworkRoutes {
    /// The kernel's main table (`RT_TABLE_MAIN`).
    pub const MAIN: u32 = 254;
}

/// UDP ports of the encapsulations: destination ports, except for `vxlan_source`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// GENEVE.
    pub geneve: u16,
    /// VXLAN.
    pub vxlan: u16,
    /// WireGuard: the port of the first device.
    pub wireguard: u16,
    /// The range of VXLAN source ports; `None`: the local port range of the kernel.
    pub vxlan_source: Option<PortRange>,
}

impl Default for Ports {
    fn default() -> Ports {
        Ports {
            geneve: 6081,
            vxlan: 4789,
            wireguard: 51820,
            vxlan_source: None,
        }
    }
}

/// What happens to packets whose inner source is not advertised by the node that sent them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceProtection {
    /// Nothing.
    Off,
    /// They are counted.
    Log,
    /// They are dropped.
    Enforce,
}

/// Bidirectional forwarding detection, RFC 5880.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bfd {
    /// The interval between two packets, for sending and receiving; at least a millisecond.
    pub interval: Duration,
    /// The number of intervals without a packet after which the peer is down, 1 … 255.
    pub multiplier: u8,
    /// The file with the authentication key; an absolute path.
    pub key_file: Option<String>,
}

/// What happens when every next hop of a prefix is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllDown {
    /// Packets are refused, and senders are informed that the destination is unreachable.
    Unreachable,
    /// The next hops are still used.
    Keep,
}

/// How the outer UDP checksum is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// It is zero.
    Zero,
    /// It is computed.
    Compute,
}
