//! Network devices.

mod veth;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::Owner;
use crate::net::{LinkName, MacAddr, PortRange};

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

    /// Whether a network namespace holds no two devices of these kinds, under any names: the kernel has one flow-based
    /// ipip and one flow-based ip6tnl for all packets.
    #[must_use]
    pub fn excludes(&self, other: &LinkKind) -> bool {
        matches!(
            (self, other),
            (LinkKind::Ipip { .. }, LinkKind::Ipip { .. })
                | (LinkKind::Ip6tnl { .. }, LinkKind::Ip6tnl { .. })
        )
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
