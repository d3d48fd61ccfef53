//! Permanent neighbours on our tunnel devices, which ask nobody.

use super::Owner;
use crate::net::MacAddr;

/// A permanent neighbour. Its key in the state is (link, address).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Whose it is (`NDA_PROTOCOL`).
    pub owner: Owner,
    /// Its Ethernet address.
    pub mac: MacAddr,
}
