//! Several next hops that share a prefix, with weights.

use super::assert_layout;

/// One next hop in a group. 12 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct GroupMember {
    /// Slot of the next hop.
    pub next_hop: u32,
    /// The hash of the next hop's address that the choice mixes with the flow's hash; never derived from a slot.
    pub key: u32,
    /// 1 … 255.
    pub weight: u32,
}

/// Up to four next hops in one cache line; more of them continue in another slot. 64 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Group {
    /// The members; the first [`Group::count`] are used.
    pub members: [GroupMember; Group::MEMBERS],
    /// How many of [`Group::members`] are used; 0 in a free slot.
    pub count: u32,
    /// The slot with further members, or [`super::UNUSED_SLOT`].
    pub next: u32,
    /// 1 in a slot that a target may name, 0 in one that only continues another.
    pub head: u32,
    /// Zero.
    pub reserved: u32,
}

impl Group {
    /// Members a slot.
    pub const MEMBERS: usize = 4;
    /// Slots a group may take.
    pub const MAX_SLOTS: usize = 16;
    /// Next hops a group may have.
    pub const MAX_MEMBERS: usize = Group::MEMBERS * Group::MAX_SLOTS;
}

assert_layout!(GroupMember, size = 12, next_hop = 0, key = 4, weight = 8);
assert_layout!(Group, size = 64, members = 0, count = 48, next = 52, head = 56);
