//! What a prefix points at: one word, so that a change of it is atomic.

/// What a prefix points at: two bits of kind, thirty of slot.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Target(pub u32);

/// A [`Target`], taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// Nothing: an empty entry.
    Empty,
    /// One next hop, by slot.
    NextHop(u32),
    /// A group, by the slot of its head.
    Group(u32),
    /// This node carries the prefix itself: a packet that still comes here has no local route.
    Local,
}

impl Target {
    const SHIFT: u32 = 30;
    const SLOT: u32 = (1 << Target::SHIFT) - 1;

    /// Puts a target together.
    #[must_use]
    pub const fn new(kind: TargetKind) -> Target {
        match kind {
            TargetKind::Empty => Target(0),
            TargetKind::NextHop(slot) => Target((1 << Target::SHIFT) | (slot & Target::SLOT)),
            TargetKind::Group(slot) => Target((2 << Target::SHIFT) | (slot & Target::SLOT)),
            TargetKind::Local => Target(3 << Target::SHIFT),
        }
    }

    /// Takes it apart.
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
