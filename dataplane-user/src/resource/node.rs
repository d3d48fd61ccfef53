//! A node, member of networks.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::network::Dataplane;
use crate::net::encapsulation::Wish;
use crate::net::{Family, LinkName, NetworkName, NodeName, PeerEndpoint, PublicKey};

/// A node (`TunnelNode`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: NodeName,
    /// The networks that it is a member of.
    pub networks: BTreeSet<NetworkName>,
    /// Where other nodes reach it.
    pub underlay: Underlay,
    /// Its own overlay addresses, in the networks' prefixes; the first of a family in a network is the preferred source.
    pub addresses: Vec<IpAddr>,
    /// What it carries beside its addresses.
    pub prefixes: Vec<AdvertisedPrefix>,
    /// Its end of WireGuard links.
    pub wireguard: Option<WireGuardPeer>,
    /// What it wants of its links.
    pub encapsulation: Wish,
    /// What carries the packets that it sends; `None`: what the network says.
    pub dataplane: Option<Dataplane>,
    /// No new flows to it.
    pub drain: bool,
    /// The devices to which the answers of connections that came in by them go back; at most [`RETURN_PATHS`].
    pub return_path: BTreeSet<LinkName>,
}

/// How many devices the bits of the marks tell apart.
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

/// Where other nodes reach a node; at least one is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Underlay {
    /// Over IPv4.
    pub ipv4: Option<Ipv4Addr>,
    /// Over IPv6.
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

/// A prefix that a node carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdvertisedPrefix {
    /// The prefix; no host bits.
    pub cidr: IpNet,
    /// Its share among the nodes that carry the same prefix in the same tier, 1 … 255.
    pub weight: u8,
    /// Only the lowest tier is used.
    pub tier: u32,
}

/// A node's end of WireGuard links, as its manifest tells the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuardPeer {
    /// Its public key.
    pub public_key: PublicKey,
    /// The one that it changes to.
    pub next_public_key: Option<PublicKey>,
    /// Where others reach its first device, when that differs from underlay address and network port.
    pub endpoint: Option<Endpoint>,
    /// Seconds between the keepalives that it sends to its peers; `None`: off.
    pub keepalive_seconds: Option<u16>,
    /// The file with the key that it shares with each of its peers; the path is the same on all of them.
    pub preshared_key_file: Option<String>,
}

/// Where a node's WireGuard is reached; the port is that of its first device, the others' follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// An address or a name.
    pub host: Host,
    /// UDP port, not 0.
    pub port: u16,
}

impl Endpoint {
    /// Where it is; `find` tells the address of a name, `None`: it has none.
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

/// As manifests and wg-quick's files have it: IPv6 addresses in brackets.
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

/// An address, or a name that is looked up time and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A link-local address, and the device that leads to its link.
    Scoped(Ipv6Addr, LinkName),
    /// A DNS name.
    Name(String),
}

impl Host {
    /// The name, where it is one.
    #[must_use]
    pub fn name(&self) -> Option<&String> {
        match self {
            Host::Name(name) => Some(name),
            Host::Address(_) | Host::Scoped(..) => None,
        }
    }
}
