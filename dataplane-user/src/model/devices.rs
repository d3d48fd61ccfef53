//! The names of the devices that networks need.

use crate::net::LinkName;

/// What is added to a device's number, and to its port, for the next keys.
pub const ROTATION: u8 = 128;
/// The device that attracts the overlay's traffic and carries the node's overlay addresses.
pub const ANCHOR: &str = "adit0";
/// The flow-based GENEVE device.
pub const GENEVE: &str = "adit-geneve";
/// The flow-based VXLAN device.
pub const VXLAN: &str = "adit-vxlan";

/// The flow-based ipip device, for IPv4 underlays.
pub const IPIP: &str = "adit-ipip";
/// The flow-based ip6tnl device, for IPv6 underlays.
pub const IP6TNL: &str = "adit-ip6tnl";

/// What the names of WireGuard devices begin with; their numbers follow.
pub const WIREGUARD: &str = "adit-wg";

/// The name of the WireGuard device of a number.
#[must_use]
pub fn wireguard_device(unit: u8) -> LinkName {
    LinkName::new(&format!("{WIREGUARD}{unit}")).expect("ten bytes at most")
}

/// Whether a device of this name is one that we make.
#[must_use]
pub fn is_ours(link: &LinkName) -> bool {
    link.as_str() == ANCHOR || link.as_str().starts_with("adit-")
}

/// The device beside that of a number, for the next keys.
#[must_use]
pub fn next_wireguard_device(unit: u8) -> LinkName {
    wireguard_device(unit | ROTATION)
}

/// The numbers of devices that networks meet on.
pub fn wireguard_units() -> std::ops::Range<u8> {
    0..ROTATION
}
