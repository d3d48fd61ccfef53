//! Counters, one a CPU: a writer never waits, a reader adds them up.

use super::assert_layout;

/// Packets and bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Counters {
    /// Packets; a GSO super-packet counts once.
    pub packets: u64,
    /// Bytes from the inner IP header on.
    pub bytes: u64,
}

assert_layout!(Counters, size = 16, packets = 0, bytes = 8);
