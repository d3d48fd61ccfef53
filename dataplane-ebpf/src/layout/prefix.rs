//! Keys of the prefix tables, in the format of the LPM trie of the kernel (`struct bpf_lpm_trie_key`,
//! linux/bpf.h).

use super::assert_layout;

/// An IPv4 prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PrefixKeyV4 {
    /// The prefix length in bits, 0 … 32.
    pub length: u32,
    /// Big-endian; the host bits are 0.
    pub address: [u8; 4],
}

/// An IPv6 prefix.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PrefixKeyV6 {
    /// The prefix length in bits, 0 … 128.
    pub length: u32,
    /// Big-endian; the host bits are 0.
    pub address: [u8; 16],
}

assert_layout!(PrefixKeyV4, size = 8, length = 0, address = 4);
assert_layout!(PrefixKeyV6, size = 20, length = 0, address = 4);
