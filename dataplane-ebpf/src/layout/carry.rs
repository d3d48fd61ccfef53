//! The carry map: what no kernel object can hold and what must outlive every version of the other maps. No program reads
//! it. It is pinned beside their directories, and its layout never changes: another kind of entry gets another
//! [`CarryKey::kind`].

use super::assert_layout;

/// Where the carry map is pinned, below the agent's directory.
pub const DIRECTORY: &str = "carry";
/// Its name, and its pin's.
pub const NAME: &str = "adit_carry";
/// Entries that it can hold; a hash table without preallocation (`BPF_F_NO_PREALLOC`).
pub const MAX_ENTRIES: u32 = 65_536;

/// What an entry is about.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct CarryKey {
    /// [`CarryKey::ENDPOINT`]; it says what the value is.
    pub kind: u32,
    /// Zero.
    pub reserved: u32,
    /// The device's name, padded with zero bytes.
    pub device: [u8; 16],
    /// The peer's public key.
    pub peer: [u8; 32],
}

impl CarryKey {
    /// The endpoint that was configured last for a WireGuard peer: [`CarryEndpoint`].
    pub const ENDPOINT: u32 = 1;
}

/// A UDP address. 32 bytes, as every value of the carry map.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct CarryEndpoint {
    /// Big-endian; IPv4 in the first four bytes, the others 0.
    pub address: [u8; 16],
    /// In the host's order.
    pub port: u16,
    /// 4 or 6.
    pub version: u16,
    /// The device of a link-local IPv6 address, else 0.
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
