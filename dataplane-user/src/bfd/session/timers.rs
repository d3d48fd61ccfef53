//! Changes of the local timers by poll sequences (RFC 5880, sections 6.5 and 6.8.3).

use super::super::{Parameters, State};

/// The smallest transmit interval of a session that is not up, in microseconds (section 6.8.3).
const SLOW: u32 = 1_000_000;

/// The intervals of the local system, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Timers {
    /// bfd.DesiredMinTxInterval.
    pub(super) min_tx: u32,
    /// bfd.RequiredMinRxInterval.
    pub(super) min_rx: u32,
}

impl Timers {
    /// The timers to be used in a state.
    pub(super) fn of(parameters: Parameters, state: State) -> Timers {
        let least = if state == State::Up { 0 } else { SLOW };
        Timers {
            min_tx: parameters.min_tx().max(least),
            min_rx: parameters.min_rx(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Poll {
    Idle,
    /// Packets have the poll bit.
    Running,
    /// Answered. Another poll sequence has to wait for a packet without the final bit, because a second
    /// answer to this one would be taken for an answer to the next one.
    Answered,
}

/// The timers that are sent, those that are in effect, and the poll sequence that brings them together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Negotiation {
    advertised: Timers,
    used: Timers,
    poll: Poll,
}

impl Negotiation {
    /// Timers that the remote system learns by the first packet, or that it knows already.
    pub(super) fn new(timers: Timers) -> Negotiation {
        Negotiation {
            advertised: timers,
            used: timers,
            poll: Poll::Idle,
        }
    }

    /// The timers in packets.
    pub(super) fn advertised(&self) -> Timers {
        self.advertised
    }

    /// The timers that transmission and detection are based on.
    pub(super) fn used(&self) -> Timers {
        self.used
    }

    /// Whether packets have the poll bit.
    pub(super) fn is_polling(&self) -> bool {
        self.poll == Poll::Running
    }

    /// Timers of a session whose state changes, or that is not up. They are in effect at once.
    pub(super) fn set_at_once(&mut self, wanted: Timers) {
        if self.advertised != wanted {
            self.poll = Poll::Running;
        }
        self.advertised = wanted;
        self.used = wanted;
    }

    /// Timers of a session that is and stays up. An interval at which less is sent, and one at which more is
    /// expected, are in effect only when the remote system has confirmed them. Timers that are wanted while
    /// another poll sequence is not over have to be requested again.
    pub(super) fn request(&mut self, wanted: Timers) {
        if self.poll != Poll::Idle || self.advertised == wanted {
            return;
        }
        self.poll = Poll::Running;
        self.advertised = wanted;
        self.used = Timers {
            min_tx: self.used.min_tx.min(wanted.min_tx),
            min_rx: self.used.min_rx.max(wanted.min_rx),
        };
    }

    /// Begins a poll sequence without other timers.
    pub(super) fn poll(&mut self) {
        self.poll = Poll::Running;
    }

    /// A packet with or without the final bit was received.
    pub(super) fn received(&mut self, is_final: bool) {
        match (self.poll, is_final) {
            (Poll::Running, true) => {
                self.poll = Poll::Answered;
                self.used = self.advertised;
            }
            (Poll::Answered, false) => self.poll = Poll::Idle,
            _ => {}
        }
    }
}
