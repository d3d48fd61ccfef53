//! Addresses on our links.

mod change;

use std::net::IpAddr;

use ipnet::IpNet;

use super::Owner;

pub use change::{AddressChange, AddressOperation};

/// An address on a link. Its key in the state is (link, address with prefix length).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// Whose it is (`IFA_PROTO`).
    pub owner: Owner,
    /// Its scope.
    pub scope: AddressScope,
    /// The address at the other end of a point-to-point link; the key's prefix length is this one's then.
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
    /// As `ip address add` has it: host for loopback addresses, link for IPv6 link-local ones, which the kernel itself says.
    #[must_use]
    pub fn of(address: IpAddr) -> AddressScope {
        match address {
            _ if address.is_loopback() => AddressScope::Host,
            IpAddr::V6(address) if address.is_unicast_link_local() => AddressScope::Link,
            _ => AddressScope::Global,
        }
    }
}

/// The subnet that the kernel makes a route to with an address, or with its peer; none for an IPv4 address that stands alone.
#[must_use]
pub fn connected_subnet(address: &IpNet, peer: Option<IpAddr>) -> Option<IpNet> {
    match peer {
        Some(peer) => Some(IpNet::new(peer, address.prefix_len()).ok()?.trunc()),
        None => (address.prefix_len() < 32 || address.addr().is_ipv6()).then(|| address.trunc()),
    }
}
