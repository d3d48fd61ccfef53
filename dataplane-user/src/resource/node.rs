//! A node, a member of networks.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::network::Dataplane;
use crate::net::encapsulation::RequestedEncapsulation;
use crate::net::{Family, LinkName, NetworkName, NodeName, PeerEndpoint, PublicKey};

/// A node (`TunnelNode`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The networks of which it is a member.
    pub networks: BTreeSet<NetworkName>,
    /// Its underlay addresses.
    pub underlay: Underlay,
    /// Its own overlay addresses, inside the prefixes of its networks; the first one of a family in a network
    /// is the preferred source.
    pub addresses: Vec<IpAddr>,
    /// The prefixes that it advertises beside its addresses.
    pub prefixes: Vec<AdvertisedPrefix>,
    /// Its end of WireGuard links.
    pub wireguard: Option<WireGuardPeer>,
    /// The encapsulation that it requests for its links.
    pub encapsulation: RequestedEncapsulation,
    /// The dataplane for the packets that it sends; `None`: the one of the network.
    pub dataplane: Option<Dataplane>,
    /// Whether it is drained: it gets no new flows.
    pub drain: bool,
    /// The devices of return paths: answers leave through the device on which their connection arrived; at
    /// most [`RETURN_PATHS`].
    pub return_path: BTreeSet<LinkName>,
}

/// The number of devices that the bits of the marks can distinguish.
pub const RETURN_PATHS: usize = 15;

impl Node {
    /// A node that is a member of no network.
    #[must_use]
    pub fn without_overlay(name: NodeName) -> Node {
        Node {
            name,
            networks: BTreeSet::new(),
            underlay: Underlay::default(),
            addresses: Vec::new(),
            prefixes: Vec::new(),
            wireguard: None,
            encapsulation: None,
            dataplane: None,
            drain: false,
            return_path: BTreeSet::new(),
        }
    }
}

/// The underlay addresses of a node, at which other nodes reach it. A member of a network has at least one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Underlay {
    /// The IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

impl Underlay {
    /// The address of a family.
    #[must_use]
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => self.ipv4.map(IpAddr::from),
            Family::Ipv6 => self.ipv6.map(IpAddr::from),
        }
    }
}

/// A prefix that a node advertises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdvertisedPrefix {
    /// The prefix; no host bits.
    pub cidr: IpNet,
    /// Its weight among the nodes that advertise the same prefix in the same tier, 1 … 255.
    pub weight: u8,
    /// Its tier; only the lowest tier with a usable node is used.
    pub tier: u32,
}

/// The end of a node in WireGuard links, as its manifest declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuardPeer {
    /// Its public key.
    pub public_key: PublicKey,
    /// The next public key, during a key rotation.
    pub next_public_key: Option<PublicKey>,
    /// The endpoint of its first device, if it differs from its underlay address and the port of the network.
    pub endpoint: Option<Endpoint>,
    /// Seconds between the keepalives that it sends to its peers; `None`: off.
    pub keepalive_seconds: Option<u16>,
    /// The file with the preshared key for its peers; the path is the same on all of them.
    pub preshared_key_file: Option<String>,
}

/// A WireGuard endpoint of a node; the port is the one of its first device, and those of the next devices
/// follow it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An address or a name.
    pub host: Host,
    /// UDP port, not 0.
    pub port: u16,
}

impl Endpoint {
    /// The endpoint with an address; `find` returns the address of a name. `None`: the name has none.
    #[must_use]
    pub fn resolve(&self, find: impl FnOnce(&str) -> Option<IpAddr>) -> Option<PeerEndpoint> {
        let (address, device) = match &self.host {
            Host::Address(address) => (*address, None),
            Host::Scoped(address, device) => ((*address).into(), Some(device.clone())),
            Host::Name(name) => (find(name)?, None),
        };
        let port = self.port;
        Some(PeerEndpoint {
            address,
            port,
            device,
        })
    }
}

impl From<PeerEndpoint> for Endpoint {
    fn from(endpoint: PeerEndpoint) -> Endpoint {
        let host = match (endpoint.address, endpoint.device) {
            (IpAddr::V6(address), Some(device)) => Host::Scoped(address, device),
            (address, _) => Host::Address(address),
        };
        Endpoint {
            host,
            port: endpoint.port,
        }
    }
}

/// In the syntax of manifests and wg-quick files: IPv6 addresses in brackets.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.port;
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]:{port}"),
            Host::Address(IpAddr::V4(address)) => write!(f, "{address}:{port}"),
            Host::Scoped(address, device) => write!(f, "[{address}%{device}]:{port}"),
            Host::Name(name) => write!(f, "{name}:{port}"),
        }
    }
}

/// An address, or a name that is looked up again regularly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A link-local address and the device of its link.
    Scoped(Ipv6Addr, LinkName),
    /// A DNS name.
    Name(String),
}

impl Host {
    /// The name, if it is one.
    #[must_use]
    pub fn name(&self) -> Option<&String> {
        match self {
            Host::Name(name) => Some(name),
            Host::Address(_) | Host::Scoped(..) => None,
        }
    }
}
