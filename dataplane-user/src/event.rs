//! What wakes the reconciliation loop.

/// A reason to reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The manifests may have changed.
    SourceChanged,
    /// Something of the kernel's that concerns us changed.
    KernelChanged,
    /// Events of the kernel were lost, so that anything may have changed.
    EventsLost,
    /// It is time for a full reconciliation, whether or not something happened.
    Resync,
    /// It is time to check what changes without events.
    Recheck,
    /// The last reconciliation left something undone.
    Retry,
    /// The agent shall end; the dataplane stays.
    Stop,
}

impl Event {
    /// Whether the manifests may be other ones than before.
    #[must_use]
    pub fn may_change_the_source(&self) -> bool {
        !matches!(self, Event::KernelChanged | Event::Recheck)
    }
}
