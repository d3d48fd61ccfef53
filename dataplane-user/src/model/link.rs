//! Network devices.

mod change;
mod veth;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::Owner;
use crate::net::{LinkName, MacAddr, PortRange};

pub use change::{DeleteLinkReason, LinkChange, LinkOperation, LinkPatch};
pub use veth::VethPeer;

/// A network device, as far as we care for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Whose it is.
    pub owner: Owner,
    /// What it is; can't be changed in place.
    pub kind: LinkKind,
    /// Its Ethernet address; `None`: not ours to say (the kernel's random one, or a device without).
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes; `None`: not ours to say.
    pub mtu: Option<u32>,
    /// Whether it resolves neighbours; ours don't (`IFF_NOARP` set).
    pub arp: bool,
    /// Whether the kernel makes IPv6 link-local addresses on it; on ours it does not (`addrgenmode none`).
    pub generates_addresses: bool,
    /// Whether it is up.
    pub up: bool,
}

/// What a device is: all that can't be changed in place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// Swallows what its program lets through.
    Dummy,
    /// Flow-based GENEVE (collect metadata).
    Geneve {
        /// UDP port.
        port: u16,
    },
    /// Flow-based VXLAN (collect metadata), without learning, accepting zero checksums over IPv6.
    Vxlan {
        /// UDP port.
        port: u16,
        /// What its source ports are of; `None`: of the namespace's local ones.
        source_ports: Option<PortRange>,
    },
    /// WireGuard; its keys and peers are set apart from the link.
    WireGuard,
    /// Flow-based ipip (collect metadata), for IPv4 underlays. A network namespace holds one.
    Ipip {
        /// The IP protocol that it carries: 4 for IPv4, 0 for any that the driver knows (MPLS).
        protocol: u8,
    },
    /// Flow-based ip6tnl (collect metadata), for IPv6 underlays. A network namespace holds one.
    Ip6tnl {
        /// The IP protocol that it carries: 4 for IPv4, 41 for IPv6, 0 for both.
        protocol: u8,
    },
    /// A bridge; its ports are told apart from the link.
    Bridge,
    /// One end of a pair.
    Veth(VethPeer),
    /// VXLAN of one VNI; its default destinations are told apart from the link.
    VxlanTo {
        /// Its VNI.
        vni: u32,
        /// The outer source; `None`: the kernel's choice.
        local: Option<IpAddr>,
        /// UDP port.
        port: u16,
        /// The multicast group that it joins, or one peer.
        group: Option<IpAddr>,
        /// The device by which packets leave.
        lower: Option<LinkName>,
    },
    /// GENEVE to one peer.
    GeneveTo {
        /// Its VNI.
        vni: u32,
        /// The peer.
        remote: IpAddr,
        /// UDP port.
        port: u16,
    },
    /// IPv4 in IPv4 to one peer.
    IpipTo {
        /// The outer source; unspecified: the kernel's choice.
        local: Ipv4Addr,
        /// The peer.
        remote: Ipv4Addr,
        /// The outer TTL; 0: the inner packet's.
        ttl: u8,
    },
    /// Anything else, in the words of `ip -d link`.
    Other(String),
}

impl LinkKind {
    /// The device that this one sends by, which must be there before.
    #[must_use]
    pub fn lower(&self) -> Option<&LinkName> {
        match self {
            LinkKind::VxlanTo { lower, .. } => lower.as_ref(),
            _ => None,
        }
    }

    /// The word of `ip link` for it.
    #[must_use]
    pub fn word(&self) -> &str {
        match self {
            LinkKind::Dummy => "dummy",
            LinkKind::Geneve { .. } | LinkKind::GeneveTo { .. } => "geneve",
            LinkKind::Vxlan { .. } | LinkKind::VxlanTo { .. } => "vxlan",
            LinkKind::WireGuard => "wireguard",
            LinkKind::Ipip { .. } | LinkKind::IpipTo { .. } => "ipip",
            LinkKind::Ip6tnl { .. } => "ip6tnl",
            LinkKind::Bridge => "bridge",
            LinkKind::Veth(_) => "veth",
            LinkKind::Other(words) => words.split(' ').next().unwrap_or_default(),
        }
    }

    /// The UDP port that it receives at, but for WireGuard's, which is told apart from the link.
    #[must_use]
    pub fn udp_port(&self) -> Option<u16> {
        match self {
            LinkKind::Geneve { port }
            | LinkKind::GeneveTo { port, .. }
            | LinkKind::Vxlan { port, .. }
            | LinkKind::VxlanTo { port, .. } => Some(*port),
            LinkKind::Other(text) => {
                let mut words = text.split(' ').skip_while(|word| *word != "dstport");
                words.nth(1)?.parse().ok()
            }
            LinkKind::Dummy
            | LinkKind::Ipip { .. }
            | LinkKind::Ip6tnl { .. }
            | LinkKind::WireGuard
            | LinkKind::Bridge
            | LinkKind::Veth(_)
            | LinkKind::IpipTo { .. } => None,
        }
    }

    /// Whether two devices of these kinds can receive at one UDP port: both have one VNI each, of the same encapsulation.
    #[must_use]
    pub fn shares_ports_with(&self, other: &LinkKind) -> bool {
        matches!(
            (self, other),
            (LinkKind::VxlanTo { .. }, LinkKind::VxlanTo { .. })
                | (LinkKind::GeneveTo { .. }, LinkKind::GeneveTo { .. })
        )
    }

    /// Whether it is a VXLAN device of one VNI that sends over IPv6: over each family the kernel has VNIs of its own.
    #[must_use]
    pub fn is_over_ipv6(&self) -> bool {
        match self {
            LinkKind::VxlanTo { local, group, .. } => local.iter().chain(group).any(IpAddr::is_ipv6),
            _ => false,
        }
    }

    /// What a device of this kind has that one of the other kind needs for itself alone, so that the kernel refuses to create that one beside it
    /// in a network namespace, under any name (`vxlan_config_validate`, `geneve_configure`, `ip_tunnel_newlink`, Linux 6.1).
    #[must_use]
    pub fn excludes(&self, other_kind: &LinkKind) -> Option<String> {
        let port = || self.udp_port().map(|port| format!("UDP port {port}"));
        match (self, other_kind) {
            (LinkKind::Ipip { .. }, LinkKind::Ipip { .. })
            | (LinkKind::Ip6tnl { .. }, LinkKind::Ip6tnl { .. }) => {
                Some(format!("the place of the only flow-based {}", self.word()))
            }
            (
                LinkKind::IpipTo { local, remote, .. },
                LinkKind::IpipTo {
                    local: from,
                    remote: to,
                    ..
                },
            ) => ((local, remote) == (from, to)).then(|| format!("the tunnel from {local} to {remote}")),
            (
                LinkKind::VxlanTo { vni, port, .. },
                LinkKind::VxlanTo {
                    vni: other, port: at, ..
                },
            ) => {
                let same = (vni, port, self.is_over_ipv6()) == (other, at, other_kind.is_over_ipv6());
                same.then(|| format!("VNI {vni} at UDP port {port}"))
            }
            (LinkKind::GeneveTo { vni, remote, port }, LinkKind::GeneveTo { .. }) => {
                (self == other_kind).then(|| format!("VNI {vni} towards {remote} at UDP port {port}"))
            }
            (LinkKind::Vxlan { port: one, .. }, LinkKind::Vxlan { port: another, .. })
            | (LinkKind::Geneve { port: one }, LinkKind::Geneve { port: another })
            | (LinkKind::Geneve { port: one }, LinkKind::GeneveTo { port: another, .. })
            | (LinkKind::GeneveTo { port: one, .. }, LinkKind::Geneve { port: another }) => {
                (one == another).then(port).flatten()
            }
            _ => None,
        }
    }
}

impl Link {
    /// What this device has that one of a kind needs for itself alone, to be created or to be brought up.
    #[must_use]
    pub fn is_in_the_way_of(&self, kind: &LinkKind) -> Option<String> {
        let port = self.kind.udp_port().filter(|port| {
            let wants_it = kind.udp_port() == Some(*port);
            self.up && wants_it && !self.kind.shares_ports_with(kind)
        });
        let refused = self.kind.excludes(kind);
        refused.or_else(|| port.map(|port| format!("UDP port {port}")))
    }
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkKind::Dummy => f.write_str("dummy"),
            LinkKind::Geneve { port } => write!(f, "geneve external dstport {port}"),
            LinkKind::Vxlan { port, source_ports } => {
                write!(f, "vxlan external dstport {port}")?;
                match source_ports {
                    Some(range) => write!(f, " srcport {} {}", range.low(), range.high()),
                    None => Ok(()),
                }
            }
            LinkKind::WireGuard => f.write_str("wireguard"),
            LinkKind::Ipip { protocol } => write!(f, "ipip external mode {}", mode(*protocol, "ipip")),
            LinkKind::Ip6tnl { protocol } => write!(f, "ip6tnl external mode {}", mode(*protocol, "ipip6")),
            LinkKind::Bridge => f.write_str("bridge"),
            LinkKind::Veth(peer) => write!(f, "veth {peer}"),
            LinkKind::VxlanTo {
                vni,
                local,
                port,
                group,
                lower,
            } => {
                write!(f, "vxlan dstport {port} id {vni}")?;
                if let Some(group) = group {
                    write!(f, " remote {group}")?;
                }
                if let Some(local) = local {
                    write!(f, " local {local}")?;
                }
                if let Some(lower) = lower {
                    write!(f, " dev {lower}")?;
                }
                Ok(())
            }
            LinkKind::GeneveTo { vni, remote, port } => {
                write!(f, "geneve dstport {port} id {vni} remote {remote}")
            }
            LinkKind::IpipTo { local, remote, ttl } => {
                write!(f, "ipip remote {remote} local {local} ttl {ttl}")
            }
            LinkKind::Other(text) => f.write_str(text),
        }
    }
}

/// A tunnel's mode, as `ip link` says it; `ipv4` is what it calls the one for IPv4.
fn mode(protocol: u8, ipv4: &str) -> String {
    match protocol {
        0 => "any".to_owned(),
        4 => ipv4.to_owned(),
        41 => "ip6ip6".to_owned(),
        other => other.to_string(),
    }
}
