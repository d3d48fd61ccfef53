//! The BPF map ABI: the types that lie in the maps, the maps' names and sizes, and the ABI's version.
//!
//! Every type is `#[repr(C)]`, [`bytemuck::Pod`] and free of implicit padding. Addresses are big-endian bytes as on
//! the wire, integers are in the host's order. A used slot's identity never changes: the writer fills a free slot
//! and then repoints what refers to it, because an array element is copied without a lock. The two exceptions are
//! single aligned words, [`class::Class::ifindex`] and [`next_hop::NextHopState`].

pub mod carry;
pub mod class;
pub mod counters;
pub mod group;
pub mod names;
pub mod next_hop;
pub mod prefix;
pub mod source;
pub mod target;

pub use carry::{CarryEndpoint, CarryKey};
pub use class::Class;
pub use counters::Counters;
pub use group::{Group, GroupMember};
pub use next_hop::{NextHop, NextHopState, NodeLabel};
pub use prefix::{PrefixKeyV4, PrefixKeyV6};
pub use source::SourceKey;
pub use target::Target;

/// The version of the ABI; the pin directory bears it (`v2`). Any change of a type, a size or a meaning raises it.
pub const ABI_VERSION: u32 = 2;

/// Slot 0 of classes, next hops and groups is never used, so that a zeroed reference is told from a real one.
pub const UNUSED_SLOT: u32 = 0;

/// Entries in the class table.
pub const MAX_CLASSES: u32 = 256;
/// Entries in the next-hop table, and in the tables beside it (states, labels, counters).
pub const MAX_NEXT_HOPS: u32 = 16_384;
/// Entries in the group table; a group of more than four next hops takes several.
pub const MAX_GROUPS: u32 = 16_384;
/// Entries in the IPv4 prefix table.
pub const MAX_PREFIXES_V4: u32 = 1_048_576;
/// Entries in the IPv6 prefix table.
pub const MAX_PREFIXES_V6: u32 = 262_144;
/// Entries in the table of known sources.
pub const MAX_SOURCES: u32 = 16_384;

/// Fails the build unless the type has this size and no field lies where it should not.
macro_rules! assert_layout {
    ($type:ty, size = $size:literal $(, $field:ident = $offset:literal)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
    };
}
pub(crate) use assert_layout;
