//! Groups: several next hops of a prefix, with weights.

use super::assert_layout;

/// One next hop in a group. 12 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct GroupMember {
    /// The slot of the next hop.
    pub next_hop: u32,
    /// A hash of the address of the next hop, which the choice combines with the flow hash. It does not
    /// depend on slots.
    pub key: u32,
    /// The weight, 1 … 255.
    pub weight: u32,
}

/// Up to four next hops in one cache line. A group with more of them continues in another slot. 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Group {
    /// The members; the first [`Group::count`] are used.
    pub members: [GroupMember; Group::MEMBERS],
    /// The number of used [`Group::members`]; 0 in a free slot.
    pub count: u32,
    /// The slot with further members, or [`super::UNUSED_SLOT`].
    pub next: u32,
    /// 1 in the first slot of a group, to which a target can point; 0 in a slot that continues another.
    pub head: u32,
    /// Zero.
    pub reserved: u32,
}

impl Group {
    /// Members per slot.
    pub const MEMBERS: usize = 4;
    /// The maximum number of slots of a group.
    pub const MAX_SLOTS: usize = 16;
    /// The maximum number of next hops of a group.
    pub const MAX_MEMBERS: usize = Group::MEMBERS * Group::MAX_SLOTS;
}

assert_layout!(GroupMember, size = 12, next_hop = 0, key = 4, weight = 8);
assert_layout!(Group, size = 64, members = 0, count = 48, next = 52, head = 56);
