//! Prefix targets: what a prefix points to. A target is one word, so that its changes are atomic.

/// What a prefix points to: two bits for the kind, thirty bits for the slot.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Target(pub u32);

/// The kind and the slot of a [`Target`].
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

impl Target {
    const SHIFT: u32 = 30;
    const SLOT: u32 = (1 << Target::SHIFT) - 1;

    /// Encodes a target.
    #[must_use]
    pub const fn new(kind: TargetKind) -> Target {
        match kind {
            TargetKind::Empty => Target(0),
            TargetKind::NextHop(slot) => Target((1 << Target::SHIFT) | (slot & Target::SLOT)),
            TargetKind::Group(slot) => Target((2 << Target::SHIFT) | (slot & Target::SLOT)),
            TargetKind::Local => Target(3 << Target::SHIFT),
        }
    }

    /// Decodes the target.
    #[must_use]
    #[inline(always)]
    pub const fn kind(self) -> TargetKind {
        match self.0 >> Target::SHIFT {
            1 => TargetKind::NextHop(self.0 & Target::SLOT),
            2 => TargetKind::Group(self.0 & Target::SLOT),
            3 => TargetKind::Local,
            _ => TargetKind::Empty,
        }
    }
}
