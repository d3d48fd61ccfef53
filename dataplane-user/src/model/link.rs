//! Network devices.

mod change;
mod veth;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::Owner;
use crate::net::{LinkName, MacAddr, PortRange};

pub use change::{DeleteLinkReason, LinkChange, LinkOperation, LinkPatch};
pub use veth::VethPeer;

/// A network device, with the properties that Adit manages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Who manages it.
    pub owner: Owner,
    /// Its kind; can't be changed in place.
    pub kind: LinkKind,
    /// Its Ethernet address; `None`: not managed (the kernel chooses a random one, or the device has none).
    pub mac: Option<MacAddr>,
    /// Its MTU in bytes; `None`: not managed.
    pub mtu: Option<u32>,
    /// Whether it resolves neighbours; overlay devices don't (`IFF_NOARP` is set).
    pub arp: bool,
    /// Whether the kernel creates IPv6 link-local addresses on it; on overlay devices it does not
    /// (`addrgenmode none`).
    pub generates_addresses: bool,
    /// Whether it is up.
    pub up: bool,
}

/// The kind of a device, with all properties that can't be changed in place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkKind {
    /// Dummy: drops the packets that its program does not redirect.
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
        /// The range of its source ports; `None`: the local port range of the namespace.
        source_ports: Option<PortRange>,
    },
    /// WireGuard; its keys and peers are separate from the link ([`Device`](super::wireguard::Device)).
    WireGuard,
    /// Flow-based ipip (collect metadata), for IPv4 underlays. A network namespace can have only one.
    Ipip {
        /// The inner IP protocol: 4 for IPv4, 0 for any that the driver knows (MPLS).
        protocol: u8,
    },
    /// Flow-based ip6tnl (collect metadata), for IPv6 underlays. A network namespace can have only one.
    Ip6tnl {
        /// The inner IP protocol: 4 for IPv4, 41 for IPv6, 0 for both.
        protocol: u8,
    },
    /// A bridge; its ports are separate from the link
    /// ([`KernelState::masters`](super::KernelState::masters)).
    Bridge,
    /// One end of a veth pair.
    Veth(VethPeer),
    /// VXLAN of one VNI; its default destinations are separate from the link
    /// ([`KernelState::flood`](super::KernelState::flood)).
    VxlanTo {
        /// Its VNI.
        vni: u32,
        /// The outer source; `None`: the kernel's choice.
        local: Option<IpAddr>,
        /// UDP port.
        port: u16,
        /// The multicast group that it joins, or one peer.
        group: Option<IpAddr>,
        /// The device through which packets leave.
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
    /// Anything else, in the syntax of `ip -d link`.
    Other(String),
}

impl LinkKind {
    /// The lower device through which this one sends; it must exist first.
    #[must_use]
    pub fn lower(&self) -> Option<&LinkName> {
        match self {
            LinkKind::VxlanTo { lower, .. } => lower.as_ref(),
            _ => None,
        }
    }

    /// Its name in `ip link`.
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
            LinkKind::Other(text) => text.split(' ').next().unwrap_or_default(),
        }
    }

    /// The UDP port on which it receives; `None` for WireGuard, whose port is separate from the link.
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

    /// Whether two devices of these kinds can share a UDP port: both have one VNI each and the same
    /// encapsulation.
    #[must_use]
    pub fn shares_ports_with(&self, other: &LinkKind) -> bool {
        matches!(
            (self, other),
            (LinkKind::VxlanTo { .. }, LinkKind::VxlanTo { .. })
                | (LinkKind::GeneveTo { .. }, LinkKind::GeneveTo { .. })
        )
    }

    /// Whether it is a VXLAN device of one VNI that sends over IPv6: the kernel has separate VNIs for each
    /// family.
    #[must_use]
    pub fn is_over_ipv6(&self) -> bool {
        match self {
            LinkKind::VxlanTo { local, group, .. } => local.iter().chain(group).any(IpAddr::is_ipv6),
            _ => false,
        }
    }

    /// The unique property that a device of this kind has and one of the other kind needs, so that the kernel
    /// refuses to create the other one in the same network namespace, under any name
    /// (`vxlan_config_validate`, `geneve_configure`, `ip_tunnel_newlink`, Linux 6.1).
    #[must_use]
    pub fn excludes(&self, other_kind: &LinkKind) -> Option<String> {
        let port = || self.udp_port().map(|port| format!("UDP port {port}"));
        match (self, other_kind) {
            (LinkKind::Ipip { .. }, LinkKind::Ipip { .. })
            | (LinkKind::Ip6tnl { .. }, LinkKind::Ip6tnl { .. }) => {
                Some(format!("the only slot for a flow-based {}", self.word()))
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
    /// The unique property that this device has and that a device of a kind needs to be created or to be set
    /// up.
    #[must_use]
    pub fn conflict_with(&self, kind: &LinkKind) -> Option<String> {
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

/// The mode of a tunnel as in `ip link`; `ipv4` is the name of the mode for IPv4.
fn mode(protocol: u8, ipv4: &str) -> String {
    match protocol {
        0 => "any".to_owned(),
        4 => ipv4.to_owned(),
        41 => "ip6ip6".to_owned(),
        other => other.to_string(),
    }
}
