//! Contents of the BPF maps: classes, next hops, groups and prefixes, by value. Only the kernel adapter knows
//! slots.

mod change;

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;

use crate::net::Encapsulation;
use crate::net::hash::stable_hash;
use crate::net::{Family, LinkName, MacAddr, NodeName};

pub use change::{ClassChange, GroupChange, NextHopChange, NextHopOperation, PrefixChange};

/// The properties that many next hops share: the device and the fixed part of the outer header. Its value in
/// the state is the link that it sends to, or `None` if that link was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Class {
    /// The kind of tunnel.
    pub tunnel: TunnelKind,
    /// The number of the device of that encapsulation; 0 if there is only one.
    pub unit: u8,
    /// VNI; 0 for encapsulations without.
    pub vni: u32,
    /// The inner Ethernet source, the MAC address of this node's device; `None` for devices without
    /// link-layer header.
    pub source_mac: Option<MacAddr>,
    /// Outer TTL or hop limit, 1 … 255; 0 where there is no outer header.
    pub ttl: u8,
    /// Outer DSCP, 0 … 63; `None`: copied from the inner header.
    pub dscp: Option<u8>,
    /// Outer DF, over IPv4.
    pub dont_fragment: bool,
    /// The outer UDP checksum is zero.
    pub zero_checksum: bool,
    /// The underlay device through which packets leave without encapsulation, only for [`TunnelKind::None`].
    /// Adit does not manage that device and never changes it.
    pub underlay: Option<UnderlayDevice>,
}

impl Class {
    /// The class of packets without encapsulation. Without an outer header nothing else differs, so all
    /// networks share it.
    #[must_use]
    pub fn bare(underlay: UnderlayDevice) -> Class {
        Class {
            tunnel: TunnelKind::None,
            unit: 0,
            vni: 0,
            source_mac: None,
            ttl: 0,
            dscp: None,
            dont_fragment: false,
            zero_checksum: false,
            underlay: Some(underlay),
        }
    }

    /// The class of a WireGuard device. The device creates the outer header itself, so the class has no
    /// properties of a network.
    #[must_use]
    pub fn wireguard(unit: u8) -> Class {
        Class {
            tunnel: TunnelKind::WireGuard,
            unit,
            vni: 0,
            source_mac: None,
            ttl: 64,
            dscp: Some(0),
            dont_fragment: false,
            zero_checksum: false,
            underlay: None,
        }
    }
}

/// An underlay device, by a hash of its name; distinguishes classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnderlayDevice(NonZeroU64);

impl UnderlayDevice {
    /// The device of this name.
    #[must_use]
    pub fn of(link: &LinkName) -> UnderlayDevice {
        let hash = NonZeroU64::new(stable_hash(link.as_str().as_bytes()));
        UnderlayDevice(hash.unwrap_or(NonZeroU64::MIN))
    }

    /// From its form in the maps, big-endian; zeros are no device.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 8]) -> Option<UnderlayDevice> {
        NonZeroU64::new(u64::from_be_bytes(bytes)).map(UnderlayDevice)
    }

    /// Its form in the maps.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 8] {
        self.0.get().to_be_bytes()
    }
}

/// The kind of tunnel of a class: an encapsulation, where IPIP has one kind per underlay family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelKind {
    /// GENEVE, RFC 8926.
    Geneve,
    /// VXLAN, RFC 7348.
    Vxlan,
    /// IPv4 in IPv4, RFC 2003.
    Ipip,
    /// IPv4 or IPv6 in IPv6, RFC 2473.
    Ip6tnl,
    /// WireGuard.
    WireGuard,
    /// No tunnel: packets are sent to the underlay unchanged.
    None,
}

impl TunnelKind {
    /// The kind of tunnel for an encapsulation over an underlay family.
    #[must_use]
    pub fn of(encapsulation: Encapsulation, outer: Family) -> TunnelKind {
        match (encapsulation, outer) {
            (Encapsulation::Geneve, _) => TunnelKind::Geneve,
            (Encapsulation::Vxlan, _) => TunnelKind::Vxlan,
            (Encapsulation::Ipip, Family::Ipv4) => TunnelKind::Ipip,
            (Encapsulation::Ipip, Family::Ipv6) => TunnelKind::Ip6tnl,
            (Encapsulation::WireGuard, _) => TunnelKind::WireGuard,
            (Encapsulation::None, _) => TunnelKind::None,
        }
    }

    /// Its encapsulation.
    #[must_use]
    pub fn encapsulation(self) -> Encapsulation {
        match self {
            TunnelKind::Geneve => Encapsulation::Geneve,
            TunnelKind::Vxlan => Encapsulation::Vxlan,
            TunnelKind::Ipip | TunnelKind::Ip6tnl => Encapsulation::Ipip,
            TunnelKind::WireGuard => Encapsulation::WireGuard,
            TunnelKind::None => Encapsulation::None,
        }
    }

    /// Whether its device takes each packet's outer header from a tunnel key.
    #[must_use]
    pub fn takes_tunnel_key(self) -> bool {
        !matches!(self, TunnelKind::WireGuard | TunnelKind::None)
    }

    /// Whether its frames have an inner Ethernet header and a VNI.
    #[must_use]
    pub fn carries_ethernet(self) -> bool {
        matches!(self, TunnelKind::Geneve | TunnelKind::Vxlan)
    }
}

impl fmt::Display for TunnelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TunnelKind::Geneve => "geneve",
            TunnelKind::Vxlan => "vxlan",
            TunnelKind::Ipip => "ipip",
            TunnelKind::Ip6tnl => "ip6tnl",
            TunnelKind::WireGuard => "wireguard",
            TunnelKind::None => "none",
        })
    }
}

/// One path to one peer. All fields are its identity: a next hop with another value is another next hop.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// The peer.
    pub node: NodeLabel,
    /// The peer's underlay address.
    pub remote: IpAddr,
    /// The underlay address of this node, of the same family.
    pub local: IpAddr,
    /// The inner Ethernet destination, the MAC address of the peer's device; `None` for devices without
    /// link-layer header.
    pub destination_mac: Option<MacAddr>,
    /// The underlay neighbour to which packets are sent without encapsulation, only for [`TunnelKind::None`]:
    /// the gateway of the route to the peer, of either family, or the peer itself if it is on-link.
    pub gateway: Option<IpAddr>,
    /// Its class.
    pub class: Class,
}

/// Next hops that share a prefix, with weights 1 … 255, in order; at least two.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group {
    /// The members.
    pub members: Vec<(Arc<NextHop>, u8)>,
}

/// The target of a prefix (prefix target).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PrefixTarget {
    /// This node itself advertises the prefix: a packet that reaches the program has no local route.
    Local,
    /// One next hop.
    NextHop(Arc<NextHop>),
    /// A group of next hops.
    Group(Arc<Group>),
}

impl PrefixTarget {
    /// Its next hops.
    pub fn next_hops(&self) -> impl Iterator<Item = &Arc<NextHop>> {
        let (one, many) = match self {
            PrefixTarget::Local => (None, None),
            PrefixTarget::NextHop(next_hop) => (Some(next_hop), None),
            PrefixTarget::Group(group) => (None, Some(group.members.iter().map(|(next_hop, _)| next_hop))),
        };
        one.into_iter().chain(many.into_iter().flatten())
    }

    /// The target with only the next hops that pass; `None` if none is left.
    #[must_use]
    pub fn retain(self, passes: impl Fn(&NextHop) -> bool) -> Option<PrefixTarget> {
        match self {
            PrefixTarget::Local => Some(PrefixTarget::Local),
            PrefixTarget::NextHop(next_hop) => passes(&next_hop).then_some(PrefixTarget::NextHop(next_hop)),
            PrefixTarget::Group(group) => {
                let members = group.members.iter().filter(|(next_hop, _)| passes(next_hop));
                let mut members = members.cloned().collect::<Vec<_>>();
                if members.len() > 1 {
                    return Some(PrefixTarget::Group(Arc::new(Group { members })));
                }
                members.pop().map(|(next_hop, _)| PrefixTarget::NextHop(next_hop))
            }
        }
    }
}

impl fmt::Display for NextHop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {} {}", self.node, self.class.tunnel, self.remote)?;
        if self.class.vni != 0 {
            write!(f, " vni {}", self.class.vni)?;
        }
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        Ok(())
    }
}

impl fmt::Display for PrefixTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PrefixTarget::Local => f.write_str("this node"),
            PrefixTarget::NextHop(next_hop) => write!(f, "{next_hop}"),
            PrefixTarget::Group(group) => write!(f, "{group}"),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (next_hop, weight)) in self.members.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{next_hop} weight {weight}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tunnel)?;
        if self.tunnel == TunnelKind::None {
            return Ok(());
        }
        if !self.tunnel.takes_tunnel_key() {
            return write!(f, " {}", self.unit);
        }
        if self.tunnel.carries_ethernet() {
            write!(f, " vni {}", self.vni)?;
        }
        write!(f, " ttl {}", self.ttl)?;
        match self.dscp {
            Some(dscp) => write!(f, " dscp {dscp}")?,
            None => f.write_str(" dscp inherit")?,
        }
        if self.dont_fragment {
            f.write_str(" df")?;
        }
        if self.zero_checksum {
            f.write_str(" nocsum")?;
        }
        Ok(())
    }
}

/// The name of a node in the maps: at most 64 bytes; longer names are shortened, with a hash of the whole
/// name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeLabel(Arc<str>);

impl NodeLabel {
    const MAX: usize = dataplane_ebpf::layout::NodeLabel::LEN;

    /// The label of a node.
    #[must_use]
    pub fn of(node: &NodeName) -> NodeLabel {
        let name = node.as_str();
        if name.len() <= NodeLabel::MAX {
            return NodeLabel(name.into());
        }
        let hash = stable_hash(name.as_bytes());
        NodeLabel(format!("{}-{hash:016x}", &name[..NodeLabel::MAX - 17]).into())
    }

    /// A label read from a map.
    #[must_use]
    pub fn from_text(text: &str) -> NodeLabel {
        NodeLabel(text.into())
    }

    /// The label as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_stay_distinct() {
        let long = |last: char| format!("{}{last}", "a".repeat(80));
        let label = |name: &str| NodeLabel::of(&NodeName::new(name).expect("valid"));
        assert_eq!(label("node-1").as_str(), "node-1");
        assert_eq!(label(&long('x')).as_str().len(), 64);
        assert_ne!(label(&long('x')), label(&long('y')));
    }
}
