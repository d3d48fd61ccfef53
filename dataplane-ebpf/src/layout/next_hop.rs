//! One way to one peer: the outer addresses and the inner destination, its state, and its node's name.

use super::{UNUSED_SLOT, assert_layout};

/// One way to one peer. 64 bytes, one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct NextHop {
    /// The peer's underlay address, big-endian; IPv4 in the first four bytes, the others 0.
    pub remote: [u8; 16],
    /// Our own underlay address, of the same family. The kernel does not validate it; the agent does.
    pub local: [u8; 16],
    /// The inner Ethernet destination, the peer's tunnel device. Zero for devices without link-layer header.
    pub destination_mac: [u8; 6],
    /// [`NextHop::OUTER_IPV6`] and its fellow.
    pub flags: u16,
    /// The slot of its class; [`UNUSED_SLOT`] in a free next hop.
    pub class: u32,
    /// The outer flow label, 0 for none. Only an IPv6 outer header has one: the kernel refuses an IPv4 tunnel key
    /// that bears a label. The programs use it; no manifest asks for one yet, and the agent writes 0.
    pub flow_label: u32,
    /// The neighbour that packets without encapsulation go to, as big-endian as `remote`: the gateway of the underlay's
    /// route to the peer, or the peer's underlay address where that is on-link. Zero for the others.
    pub gateway: [u8; 16],
}

impl NextHop {
    /// The outer header is IPv6; without one, the peer's underlay address is.
    pub const OUTER_IPV6: u16 = 1 << 0;
    /// [`NextHop::gateway`] is an IPv6 address; IPv4 packets go to such a neighbour too.
    pub const GATEWAY_IPV6: u16 = 1 << 1;

    /// Whether the slot holds a next hop.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.class != UNUSED_SLOT
    }
}

assert_layout!(
    NextHop,
    size = 64,
    remote = 0,
    local = 16,
    destination_mac = 32,
    flags = 38,
    class = 40,
    flow_label = 44,
    gateway = 48
);

/// Whether a next hop may be chosen; written in place, one store for a peer's failure however many prefixes and
/// groups name it.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct NextHopState(pub u32);

impl NextHopState {
    /// May be chosen. A fresh slot's state: without health checks every next hop is usable.
    pub const USABLE: NextHopState = NextHopState(0);
    /// Must not be chosen.
    pub const DOWN: NextHopState = NextHopState(1);
}

/// A node's name beside its next hop, for whoever reads the maps: UTF-8, padded with zero bytes.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct NodeLabel(pub [u8; NodeLabel::LEN]);

impl NodeLabel {
    /// Bytes; longer names are shortened by the agent.
    pub const LEN: usize = 64;
}
