//! Counters. Each CPU has its own, so that a writer never waits; a reader adds them up.

use super::assert_layout;

/// A number of packets and their bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Counters {
    /// Packets; a GSO packet counts as one.
    pub packets: u64,
    /// Bytes, from the inner IP header on.
    pub bytes: u64,
}

assert_layout!(Counters, size = 16, packets = 0, bytes = 8);
