//! Addresses on links.

mod change;

use std::net::IpAddr;

use ipnet::IpNet;

use super::Owner;

pub use change::{AddressChange, AddressOperation};

/// An address on a link. Its key in the state is (link, address with prefix length).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Who manages it (`IFA_PROTO`).
    pub owner: Owner,
    /// Its scope.
    pub scope: AddressScope,
    /// The address at the other end of a point-to-point link; then the prefix length of the key is the one of
    /// this address.
    pub peer: Option<IpAddr>,
}

/// Where an address is valid (`ifa_scope`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressScope {
    /// Everywhere.
    Global,
    /// On its link.
    Link,
    /// On this host.
    Host,
}

impl AddressScope {
    /// The scope that `ip address add` chooses: host for loopback addresses, and link for IPv6 link-local
    /// ones, as the kernel sets it itself.
    #[must_use]
    pub fn of(address: IpAddr) -> AddressScope {
        match address {
            _ if address.is_loopback() => AddressScope::Host,
            IpAddr::V6(address) if address.is_unicast_link_local() => AddressScope::Link,
            _ => AddressScope::Global,
        }
    }
}

/// The subnet to which the kernel creates a route for an address or its peer; none for an IPv4 address with a
/// full-length prefix and no peer.
#[must_use]
pub fn connected_subnet(address: &IpNet, peer: Option<IpAddr>) -> Option<IpNet> {
    match peer {
        Some(peer) => Some(IpNet::new(peer, address.prefix_len()).ok()?.trunc()),
        None => (address.prefix_len() < 32 || address.addr().is_ipv6()).then(|| address.trunc()),
    }
}
