//! Known sources: which peers may send to this node through a tunnel. Each combination of outer source
//! address, network and tunnel device has one entry.

use super::assert_layout;

/// The source of a packet according to its outer header. 24 bytes. The value is [`super::Counters`]: the
/// packets that the ingress programs received from this source. Only the agent adds and removes entries.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SourceKey {
    /// The outer source address, big-endian; IPv4 in the first four bytes, the others 0.
    pub address: [u8; 16],
    /// The VNI of GENEVE and VXLAN; 0 for other encapsulations.
    pub vni: u32,
    /// The encapsulation of the tunnel device, as in [`super::Class::encapsulation`].
    pub encapsulation: u8,
    /// The family of the address: 4 or 6.
    pub version: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

assert_layout!(
    SourceKey,
    size = 24,
    address = 0,
    vni = 16,
    encapsulation = 20,
    version = 21,
    reserved = 22
);
