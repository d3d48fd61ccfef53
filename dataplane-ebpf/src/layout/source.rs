//! Who may send to us by a tunnel: one entry an outer source address, network and tunnel device.

use super::assert_layout;

/// Where a packet came from, as its outer header says. 24 bytes; the value beside it is [`super::Counters`], what the
/// ingress programs received from there. The agent alone adds and removes entries.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, bytemuck::Pod, bytemuck::Zeroable)]
pub struct SourceKey {
    /// The outer source address, big-endian; IPv4 in the first four bytes, the others 0.
    pub address: [u8; 16],
    /// VNI of GENEVE and VXLAN, 0 for the others.
    pub vni: u32,
    /// The tunnel device's encapsulation, as in [`super::Class::encapsulation`].
    pub encapsulation: u8,
    /// 4 or 6: the family of the address.
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
