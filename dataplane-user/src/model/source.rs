//! Who may send to this node by a tunnel: what is received is counted by it.

use std::fmt;
use std::net::IpAddr;

use super::Carrier;

/// A known source: an outer source address, in one network, by one tunnel device. Several networks without VNI, and
/// several next hops, may share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The peer's underlay address.
    pub address: IpAddr,
    /// What carries its packets; one that takes a tunnel key, for the others come by no device of ours or are told apart
    /// by WireGuard itself.
    pub carrier: Carrier,
    /// VNI; 0 for encapsulations without.
    pub vni: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by {}", self.address, self.carrier)?;
        if self.carrier.carries_ethernet() {
            write!(f, " vni {}", self.vni)?;
        }
        Ok(())
    }
}
