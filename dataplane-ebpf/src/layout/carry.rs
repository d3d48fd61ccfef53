//! The carry map: data that no kernel object can hold and that must outlive every version of the other maps.
//! No program reads it. It is pinned beside the directories of the other maps. Its layout never changes: a
//! new kind of entry gets a new [`CarryKey::kind`].

use super::assert_layout;

/// The directory in which the carry map is pinned, relative to the directory of the agent.
pub const DIRECTORY: &str = "carry";
/// The name of the map and of its pin.
pub const NAME: &str = "adit_carry";
/// The maximum number of entries. The map is a hash table without preallocation (`BPF_F_NO_PREALLOC`).
pub const MAX_ENTRIES: u32 = 65_536;

/// The key of an entry: its kind, and the WireGuard peer that it belongs to.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct CarryKey {
    /// [`CarryKey::ENDPOINT`]; it determines the type of the value.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// The name of the device, padded with zero bytes.
    pub device: [u8; 16],
    /// The public key of the peer.
    pub peer: [u8; 32],
}

impl CarryKey {
    /// The value is a [`CarryEndpoint`]: the last configured endpoint of a WireGuard peer.
    pub const ENDPOINT: u32 = 1;
}

/// A UDP address. It has 32 bytes, as every value of the carry map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct CarryEndpoint {
    /// Big-endian; IPv4 in the first four bytes, the others 0.
    pub address: [u8; 16],
    /// In host byte order.
    pub port: u16,
    /// 4 or 6.
    pub version: u16,
    /// The interface index of the device of a link-local IPv6 address, else 0.
    pub scope: u32,
    /// Zero.
    pub reserved: [u8; 8],
}

assert_layout!(CarryKey, size = 56, kind = 0, device = 8, peer = 24);
assert_layout!(
    CarryEndpoint,
    size = 32,
    address = 0,
    port = 16,
    version = 18,
    scope = 20
);
