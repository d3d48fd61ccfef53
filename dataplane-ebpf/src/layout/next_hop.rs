//! Next hops: the outer addresses and the inner destination, the state, and the name of the node.

use super::{UNUSED_SLOT, assert_layout};

/// A path to a peer. 64 bytes, one cache line.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct NextHop {
    /// The underlay address of the peer, big-endian; IPv4 in the first four bytes, the others 0.
    pub remote: [u8; 16],
    /// The underlay address of this node, of the same family. The kernel does not validate it; the agent
    /// does.
    pub local: [u8; 16],
    /// The inner Ethernet destination address, which is the MAC address of the tunnel device of the peer.
    /// Zero for devices without link-layer header.
    pub destination_mac: [u8; 6],
    /// A combination of [`NextHop::OUTER_IPV6`] and [`NextHop::GATEWAY_IPV6`].
    pub flags: u16,
    /// The slot of the class; [`UNUSED_SLOT`] in a free next hop.
    pub class: u32,
    /// The outer flow label; 0 for none. Only an IPv6 outer header has one: the kernel refuses an IPv4 tunnel
    /// key with a label. The programs use it, but no manifest field sets it yet, so the agent writes 0.
    pub flow_label: u32,
    /// The neighbour to which packets without encapsulation are sent, big-endian as `remote`: the gateway of
    /// the underlay route to the peer, or the underlay address of the peer if it is on-link. Zero with
    /// encapsulation.
    pub gateway: [u8; 16],
}

impl NextHop {
    /// The outer header is IPv6, or, without an outer header, the underlay address of the peer.
    pub const OUTER_IPV6: u16 = 1 << 0;
    /// [`NextHop::gateway`] is an IPv6 address. IPv4 packets can be sent to such a neighbour, too.
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

/// Whether a next hop may be chosen. It is written in place: if a peer fails, one store is enough, no matter
/// how many prefixes and groups refer to the next hop.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct NextHopState(pub u32);

impl NextHopState {
    /// The next hop may be chosen. This is also the state of a new slot: without health checks every next hop
    /// is usable.
    pub const USABLE: NextHopState = NextHopState(0);
    /// The next hop must not be chosen.
    pub const DOWN: NextHopState = NextHopState(1);
}

/// The name of the node that a next hop leads to, for readers of the maps: UTF-8, padded with zero bytes.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct NodeLabel(pub [u8; NodeLabel::LEN]);

impl NodeLabel {
    /// The length in bytes. The agent shortens longer names.
    pub const LEN: usize = 64;
}
