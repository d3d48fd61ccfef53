//! An overlay network.

use std::collections::BTreeSet;
use std::time::Duration;

use ipnet::IpNet;

use super::FirewallOptions;
use crate::net::encapsulation::Wish;
use crate::net::{Family, NetworkName, PortRange};

/// An overlay network (`TunnelNetwork`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Its name.
    pub name: NetworkName,
    /// Its address space; disjoint from every other network's.
    pub prefixes: BTreeSet<IpNet>,
    /// What links use unless a node says otherwise.
    pub encapsulation: Wish,
    /// What carries the packets.
    pub dataplane: Dataplane,
    /// Where its routes are, and of what kind, where no program carries the packets.
    pub routes: NetworkRoutes,
    /// VNI, 1 … 16777215.
    pub vni: u32,
    /// UDP ports; equal in all networks, devices are shared.
    pub ports: Ports,
    /// The underlay family used where both ends have both.
    pub underlay_family: Family,
    /// Overlay MTU in bytes; `None`: detected.
    pub mtu: Option<u32>,
    /// What happens to packets whose inner source the outer one does not carry.
    pub source_protection: SourceProtection,
    /// How next hops are checked; `None`: not at all.
    pub health: Option<Bfd>,
    /// What happens when every next hop of a prefix is down.
    pub all_down: AllDown,
    /// Outer TTL, 1 … 255.
    pub ttl: u8,
    /// Outer DSCP, 0 … 63; `None`: the inner one's.
    pub dscp: Option<u8>,
    /// Whether the outer IPv4 header forbids fragments.
    pub df: bool,
    /// Outer UDP checksum; `None`: zero over IPv4, computed over IPv6.
    pub udp_checksum: Option<UdpChecksum>,
    /// Whether traffic that leaves the overlay is masqueraded, and for which destinations it is not.
    pub masquerade: Option<BTreeSet<IpNet>>,
    /// What else it asks of the firewall.
    pub firewall: FirewallOptions,
}

impl Network {
    /// Whether plain packets are dropped whose source belongs to this network.
    #[must_use]
    pub fn drops_cleartext(&self) -> bool {
        let default = self.source_protection == SourceProtection::Enforce;
        self.firewall.drop_cleartext.unwrap_or(default)
    }
}

/// What carries a network's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dataplane {
    /// BPF programs.
    Ebpf,
    /// Routes with lightweight-tunnel encapsulation.
    Routes,
}

/// How a network's routes are where they carry its packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkRoutes {
    /// The routing table; all but the main one get a rule.
    pub table: u32,
    /// Whether the flows of a group stay where they are when other members come and go.
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

/// UDP ports of the encapsulations: the destination's, but for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// GENEVE.
    pub geneve: u16,
    /// VXLAN.
    pub vxlan: u16,
    /// WireGuard, the first device's.
    pub wireguard: u16,
    /// What VXLAN's source ports are of; `None`: of the kernel's local ones.
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

/// What happens to packets whose inner source the outer one does not carry.
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
    /// Between two packets, as sent and as asked for; at least a millisecond.
    pub interval: Duration,
    /// Intervals without a packet after which the peer is down, 1 … 255.
    pub multiplier: u8,
    /// The file with the key of the authentication; an absolute path.
    pub key_file: Option<String>,
}

/// What happens when every next hop of a prefix is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllDown {
    /// Senders are told that the destination is unreachable.
    Unreachable,
    /// The next hops are used all the same.
    Keep,
}

/// How the outer UDP checksum is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpChecksum {
    /// It is zero.
    Zero,
    /// It is computed.
    Compute,
}
