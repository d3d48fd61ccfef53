//! What the plan must know of the machine; gathered by the kernel adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::LinkName;

/// What the plan must know of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// The addresses of this namespace, on all devices.
    pub local_addresses: BTreeSet<IpAddr>,
    /// How the kernel routes to each peer's underlay address; absent where it has no route.
    pub paths: BTreeMap<IpAddr, UnderlayPath>,
}

/// The underlay's way to a peer (`ip route get`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnderlayPath {
    /// The device that packets leave by.
    pub link: LinkName,
    /// The neighbour on it that packets go to, of either family (an IPv4 route may have an IPv6 gateway); `None`: the
    /// address is on-link.
    pub gateway: Option<IpAddr>,
    /// The path's MTU in bytes: the route's where it has one, else the device's.
    pub mtu: u32,
}
