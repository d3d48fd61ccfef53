//! The names of the devices that networks need.

use crate::net::LinkName;

/// The offset from the number and the port of a WireGuard device to those of its second device during a key
/// rotation.
pub const ROTATION: u8 = 128;
/// The anchor: the device to which the overlay's routes lead, and which has the overlay addresses of the
/// node.
pub const ANCHOR: &str = "adit0";
/// The flow-based GENEVE device.
pub const GENEVE: &str = "adit-geneve";
/// The flow-based VXLAN device.
pub const VXLAN: &str = "adit-vxlan";

/// The flow-based ipip device, for IPv4 underlays.
pub const IPIP: &str = "adit-ipip";
/// The flow-based ip6tnl device, for IPv6 underlays.
pub const IP6TNL: &str = "adit-ip6tnl";

/// The prefix of the names of WireGuard devices; the number follows.
pub const WIREGUARD: &str = "adit-wg";

/// The name of the WireGuard device with this number.
#[must_use]
pub fn wireguard_device(unit: u8) -> LinkName {
    LinkName::new(&format!("{WIREGUARD}{unit}")).expect("ten bytes at most")
}

/// Whether this is the name of an overlay device of Adit.
#[must_use]
pub fn is_overlay_device(link: &LinkName) -> bool {
    link.as_str() == ANCHOR || link.as_str().starts_with("adit-")
}

/// Whether networks of any manifests need a device of this name.
#[must_use]
pub fn is_ever_needed(link: &LinkName) -> bool {
    let number = link.as_str().strip_prefix(WIREGUARD);
    let unit = number.and_then(|number| number.parse().ok());
    [ANCHOR, GENEVE, VXLAN, IPIP, IP6TNL].contains(&link.as_str())
        || unit.is_some_and(|unit| wireguard_device(unit) == *link)
}

/// The name of the second device for the next keys, beside the device with this number.
#[must_use]
pub fn next_wireguard_device(unit: u8) -> LinkName {
    wireguard_device(unit | ROTATION)
}

/// The numbers of the WireGuard devices of networks.
pub fn wireguard_units() -> std::ops::Range<u8> {
    0..ROTATION
}
