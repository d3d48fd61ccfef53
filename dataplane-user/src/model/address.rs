//! Addresses on our links.

use std::net::IpAddr;

use super::Owner;

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
