//! The state of the remote system, from its last packet.

use super::super::{Control, Diagnostic, State};
use super::RemoteTimers;

/// What is known of the remote system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remote {
    /// 0: unknown, or no packet was received for a detection time.
    pub(super) discriminator: u32,
    pub(super) state: State,
    pub(super) diagnostic: Diagnostic,
    pub(super) timers: RemoteTimers,
}

impl Remote {
    /// The initial values (section 6.8.1).
    pub(super) const UNKNOWN: Remote = Remote {
        discriminator: 0,
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        timers: RemoteTimers {
            min_tx: 0,
            min_rx: 1,
            multiplier: 0,
            demand: false,
        },
    };

    pub(super) fn of(control: &Control) -> Remote {
        Remote {
            discriminator: control.my_discriminator.get(),
            state: control.state,
            diagnostic: control.diagnostic,
            timers: RemoteTimers {
                min_tx: control.desired_min_tx,
                min_rx: control.required_min_rx,
                multiplier: control.detect_multiplier.get(),
                demand: control.demand,
            },
        }
    }

    /// No packet was received for a detection time (6.8.1 and 6.8.18). Its state and what the detection time
    /// is computed of stay.
    pub(super) fn forget(&mut self) {
        self.discriminator = 0;
        self.timers.min_rx = Remote::UNKNOWN.timers.min_rx;
    }
}
