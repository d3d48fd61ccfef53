//! The events that wake the reconciliation loop.

/// A reason to reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The manifests may have changed.
    SourceChanged,
    /// Kernel state changed that concerns Adit.
    KernelChanged,
    /// Kernel events were lost, so anything may have changed.
    EventsLost,
    /// A full reconciliation is due, whether or not something happened.
    Resync,
    /// A check of state that changes without events is due.
    Recheck,
    /// A retry is due.
    Retry,
    /// The agent ends and leaves the kernel state as it is.
    Stop,
}

impl Event {
    /// Whether the manifests may have changed.
    #[must_use]
    pub fn may_change_the_source(&self) -> bool {
        !matches!(self, Event::KernelChanged | Event::Recheck)
    }
}
