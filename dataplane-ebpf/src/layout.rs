//! The BPF map ABI: the types of keys and values, the names and sizes of the maps, and the version of the
//! ABI.
//!
//! Every type is `#[repr(C)]`, [`bytemuck::Pod`] and free of implicit padding. Addresses are big-endian bytes
//! as on the wire, integers are in host byte order. The content of a used slot never changes, because the
//! kernel copies array elements without a lock: the writer fills a free slot and then changes the references
//! to it. The two exceptions are single aligned words, [`class::Class::ifindex`] and
//! [`next_hop::NextHopState`].

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
pub use target::PrefixTarget;

/// The version of the ABI, which is part of the name of the pin directory (`v2`). Any change of a type, a
/// size or a meaning increments it.
pub const ABI_VERSION: u32 = 2;

/// Slot 0 of classes, next hops and groups is never used, so that a zeroed reference differs from a real one.
pub const UNUSED_SLOT: u32 = 0;

/// Entries in the class table.
pub const MAX_CLASSES: u32 = 256;
/// Entries in the next-hop table, and in the tables beside it (states, labels, counters).
pub const MAX_NEXT_HOPS: u32 = 16_384;
/// Entries in the group table; a group with more than four next hops uses several.
pub const MAX_GROUPS: u32 = 16_384;
/// Entries in the IPv4 prefix table.
pub const MAX_PREFIXES_V4: u32 = 1_048_576;
/// Entries in the IPv6 prefix table.
pub const MAX_PREFIXES_V6: u32 = 262_144;
/// Entries in the table of known sources.
pub const MAX_SOURCES: u32 = 16_384;

/// Fails the build unless the type has this size and the listed fields have these offsets.
macro_rules! assert_layout {
    ($type:ty, size = $size:literal $(, $field:ident = $offset:literal)* $(,)?) => {
        const _: () = {
            assert!(core::mem::size_of::<$type>() == $size);
            $(assert!(core::mem::offset_of!($type, $field) == $offset);)*
        };
    };
}
pub(crate) use assert_layout;
