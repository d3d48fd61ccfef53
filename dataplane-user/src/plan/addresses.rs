//! Addresses: the overlay addresses of the node on the anchor, and one host-scope address on each tunnel
//! device.

use std::net::{IpAddr, Ipv4Addr};

use crate::model::{Address, AddressScope, KernelState, Owner};
use crate::net::LinkName;
use crate::net::family::host_prefix;
use crate::resource::Intent;

use crate::model::devices::ANCHOR;

/// The address on each tunnel device: without an IPv4 address on the input device, a loose `rp_filter` drops
/// all decapsulated IPv4 packets.
const TUNNEL_DEVICE_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);

pub(super) fn plan(intent: &Intent, desired: &mut KernelState) {
    let anchor = LinkName::constant(ANCHOR);
    let overlay = Address {
        owner: Owner::Adit,
        scope: AddressScope::Global,
        peer: None,
    };
    for &address in &intent.node().addresses {
        desired
            .addresses
            .insert((anchor.clone(), host_prefix(address)), overlay);
    }
    let tunnel = Address {
        owner: Owner::Adit,
        scope: AddressScope::Host,
        peer: None,
    };
    for name in desired.links.keys().filter(|name| **name != anchor) {
        let address = host_prefix(IpAddr::V4(TUNNEL_DEVICE_ADDRESS));
        desired.addresses.insert((name.clone(), address), tunnel);
    }
}
