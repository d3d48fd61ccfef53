//! What a restarted process needs to continue a session without the remote system noticing.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::super::authentication::Authentication;
use super::super::{Diagnostic, Keyring, Parameters, State, Time};
use super::timers::{Negotiation, Timers};
use super::{Remote, Session};

/// The state of a session, as plain values to be stored.
///
/// A stored snapshot gets old: sequence numbers advance with packets. The received one does not matter, but
/// the own one must not fall behind: [`Snapshot::advance`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The state. A session that was neither up nor administratively down starts again.
    pub state: State,
    /// Why the session last went down.
    pub diagnostic: Diagnostic,
    /// The discriminator of the local system, not 0.
    pub local_discriminator: u32,
    /// The discriminator of the remote system; 0: unknown.
    pub remote_discriminator: u32,
    /// The interval at which the local system sends, in microseconds.
    pub min_tx: u32,
    /// The interval at which the local system can receive, in microseconds.
    pub min_rx: u32,
    /// The timers of the remote system; `None`: no packet was received yet.
    pub remote: Option<RemoteTimers>,
    /// The sequence numbers, if the session is authenticated.
    pub sequences: Option<Sequences>,
}

/// The timers that the remote system last sent. Intervals are in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteTimers {
    /// The interval at which it would like to send.
    pub min_tx: u32,
    /// The interval at which it can receive.
    pub min_rx: u32,
    /// Its detect multiplier, not 0.
    pub multiplier: u8,
    /// Whether it uses demand mode.
    pub demand: bool,
}

/// Sequence numbers of authentication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequences {
    /// The next one to be sent.
    pub transmit: u32,
    /// The last one that was received; `None`: unknown.
    pub received: Option<u32>,
}

/// A snapshot that lacks a value that its session must have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stored session has no {0}")]
pub struct InvalidSnapshot(&'static str);

impl Snapshot {
    /// Skips sequence numbers: at least as many as packets may have been sent since the snapshot was taken.
    /// The remote system ignores numbers that it has seen, and those that are ahead of the last one by more
    /// than three times the detect multiplier of the local system. So snapshots have to be stored often
    /// enough.
    pub fn advance(&mut self, packets: u32) {
        if let Some(sequences) = &mut self.sequences {
            sequences.transmit = sequences.transmit.wrapping_add(packets);
        }
    }

    /// The remote system of a session that is up.
    fn remote_up(&self) -> Result<Remote, InvalidSnapshot> {
        let lacks = |what| Err(InvalidSnapshot(what));
        match self.remote {
            None => lacks("timers of the remote system"),
            Some(RemoteTimers { multiplier: 0, .. }) => lacks("remote detect multiplier"),
            // Without them, packets would be sent without a pause, or a failure be detected at once.
            _ if self.min_tx == 0 || self.min_rx == 0 => lacks("intervals"),
            _ if self.remote_discriminator == 0 => lacks("remote discriminator"),
            Some(timers) => Ok(Remote {
                discriminator: self.remote_discriminator,
                state: State::Up,
                diagnostic: Diagnostic::NONE,
                timers,
            }),
        }
    }
}

impl Session {
    /// What has to be stored to resume the session.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let used = self.timers.used();
        Snapshot {
            state: self.state,
            diagnostic: self.diagnostic,
            local_discriminator: self.local.get(),
            remote_discriminator: self.remote.discriminator,
            min_tx: used.min_tx,
            min_rx: used.min_rx,
            remote: self.heard.map(|_| self.remote.timers),
            sequences: self.authentication.as_ref().map(|authentication| Sequences {
                transmit: authentication.transmit_sequence(),
                received: authentication.received_sequence(),
            }),
        }
    }

    /// Continues a session after a restart of the process. A session that was up is up, sends at once, and
    /// has one detection time from now to receive a packet. Other parameters than before take effect by a
    /// poll sequence. `random` is for a keyring that the session did not have before.
    ///
    /// # Errors
    /// If the snapshot lacks a value.
    pub fn resume(
        parameters: Parameters,
        snapshot: &Snapshot,
        keyring: Option<Arc<Keyring>>,
        now: Time,
        random: u32,
    ) -> Result<Session, InvalidSnapshot> {
        let local = NonZeroU32::new(snapshot.local_discriminator);
        let local = local.ok_or(InvalidSnapshot("local discriminator"))?;
        let authentication = keyring.map(|keyring| match snapshot.sequences {
            Some(Sequences { transmit, received }) => {
                // A session that is down may wait for a remote system that begins a new sequence.
                let received = received.filter(|_| snapshot.state == State::Up);
                Authentication::resume(keyring, transmit, received)
            }
            None => Authentication::new(keyring, random),
        });
        let mut session = Session::new(parameters, local, None, now, random);
        session.authentication = authentication;
        session.diagnostic = snapshot.diagnostic;
        match snapshot.state {
            State::Down | State::Init => {}
            State::AdminDown => session.state = State::AdminDown,
            State::Up => {
                session.state = State::Up;
                session.remote = snapshot.remote_up()?;
                session.heard = Some(now);
                session.timers = Negotiation::new(Timers {
                    min_tx: snapshot.min_tx,
                    min_rx: snapshot.min_rx,
                });
                session.settle();
            }
        }
        Ok(session)
    }
}
