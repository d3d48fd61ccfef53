//! Network devices.

use std::fmt;

use super::Owner;
use crate::net::MacAddr;

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
    },
    /// WireGuard; its keys and peers are set apart from the link.
    WireGuard,
    /// Anything else, in the words of `ip -d link`.
    Other(String),
}

impl fmt::Display for LinkKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkKind::Dummy => f.write_str("dummy"),
            LinkKind::Geneve { port } => write!(f, "geneve external dstport {port}"),
            LinkKind::Vxlan { port } => write!(f, "vxlan external dstport {port}"),
            LinkKind::WireGuard => f.write_str("wireguard"),
            LinkKind::Other(text) => f.write_str(text),
        }
    }
}
