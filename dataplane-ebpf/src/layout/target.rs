//! Prefix targets: what a prefix points to. A target is one word, so that its changes are atomic.

/// What a prefix points to: two bits for the kind, thirty bits for the slot.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct PrefixTarget(pub u32);

/// The kind and the slot of a [`PrefixTarget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Nothing: an empty entry.
    Empty,
    /// The next hop in the slot.
    NextHop(u32),
    /// The group whose first slot this is.
    Group(u32),
    /// This node advertises the prefix itself. A packet for it that leaves by `adit0` has no local route.
    Local,
}

impl PrefixTarget {
    const SHIFT: u32 = 30;
    const SLOT: u32 = (1 << PrefixTarget::SHIFT) - 1;

    /// Encodes a target.
    #[must_use]
    pub const fn new(kind: TargetKind) -> PrefixTarget {
        match kind {
            TargetKind::Empty => PrefixTarget(0),
            TargetKind::NextHop(slot) => {
                PrefixTarget((1 << PrefixTarget::SHIFT) | (slot & PrefixTarget::SLOT))
            }
            TargetKind::Group(slot) => PrefixTarget((2 << PrefixTarget::SHIFT) | (slot & PrefixTarget::SLOT)),
            TargetKind::Local => PrefixTarget(3 << PrefixTarget::SHIFT),
        }
    }

    /// Decodes the target.
    #[must_use]
    #[inline(always)]
    pub const fn kind(self) -> TargetKind {
        match self.0 >> PrefixTarget::SHIFT {
            1 => TargetKind::NextHop(self.0 & PrefixTarget::SLOT),
            2 => TargetKind::Group(self.0 & PrefixTarget::SLOT),
            3 => TargetKind::Local,
            _ => TargetKind::Empty,
        }
    }
}
