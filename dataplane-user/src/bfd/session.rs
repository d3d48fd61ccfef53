//! A session: the elements of procedure of RFC 5880, section 6.8.

mod machine;
mod remote;
mod snapshot;
mod timers;
mod transmission;

use std::num::NonZeroU32;
use std::sync::Arc;

use super::authentication::Authentication;
use super::{Datagram, Diagnostic, Ignored, Keyring, Packet, Parameters, PollBits, State, Time};
use remote::Remote;
use timers::{Negotiation, Timers};
use transmission::Sent;

pub use snapshot::{InvalidSnapshot, RemoteTimers, Sequences, Snapshot};

/// A session with one remote system.
///
/// `random` is always any 32-bit number that is new for each call, for the jitter of the next transmission.
#[derive(Debug)]
pub struct Session {
    parameters: Parameters,
    state: State,
    diagnostic: Diagnostic,
    local: NonZeroU32,
    remote: Remote,
    timers: Negotiation,
    authentication: Option<Authentication>,
    /// When the last packet was received that was not discarded.
    heard: Option<Time>,
    sent: Sent,
}

/// What an event caused. The packet has to be sent at once.
#[must_use]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// A change of state.
    pub change: Option<Change>,
    /// A packet to send.
    pub packet: Option<Datagram>,
}

/// A change of the local state, or of whether the remote system is administratively down. In the latter case
/// alone, `from` and `to` are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The local state before.
    pub from: State,
    /// The local state.
    pub to: State,
    /// Why the session last went down: for a session that comes up, the reason of an earlier failure.
    pub diagnostic: Diagnostic,
    /// The state that the remote system last sent. If it is `AdminDown`, nothing is known of the path.
    pub remote: State,
}

impl Session {
    /// A session in state Down, which sends its first packet at once. The discriminator must be unique on
    /// this system and should be random. With authentication `random` must be unpredictable.
    #[must_use]
    pub fn new(
        parameters: Parameters,
        discriminator: NonZeroU32,
        keyring: Option<Arc<Keyring>>,
        now: Time,
        random: u32,
    ) -> Session {
        Session {
            parameters,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            local: discriminator,
            remote: Remote::UNKNOWN,
            timers: Negotiation::new(Timers::of(parameters, State::Down)),
            authentication: keyring.map(|keyring| Authentication::new(keyring, random)),
            heard: None,
            sent: Sent::nothing(now),
        }
    }

    /// Processes a packet (section 6.8.6).
    ///
    /// # Errors
    /// Why the packet is discarded.
    pub fn received(&mut self, packet: &Packet<'_>, now: Time, random: u32) -> Result<Effects, Ignored> {
        let control = &packet.control;
        if control.your_discriminator != 0 && control.your_discriminator != self.local.get() {
            return Err(Ignored::UnknownSession);
        }
        self.authenticate(packet, now)?;
        let before = self.remote.state;
        self.remote = Remote::of(control);
        self.heard = Some(now);
        self.timers.received(control.poll == PollBits::Final);
        if self.state == State::AdminDown {
            return Err(Ignored::AdminDown);
        }
        let transition = machine::transition(self.state, control.state);
        let mut change = transition.map(|(to, diagnostic)| self.enter(to, diagnostic));
        self.settle();
        let packet = if control.poll == PollBits::Poll {
            Some(self.transmit(PollBits::Final, now, random))
        } else {
            change.map(|_| self.transmit(self.poll_bits(), now, random))
        };
        if change.is_none() && (before == State::AdminDown) != (control.state == State::AdminDown) {
            change = Some(self.change_from(self.state));
        }
        Ok(Effects { change, packet })
    }

    /// Handles a deadline: detects a failure (section 6.8.4) or sends a periodic packet (section 6.8.7).
    pub fn timeout(&mut self, now: Time, random: u32) -> Effects {
        let mut change = None;
        if self.detection_deadline().is_some_and(|deadline| deadline <= now) {
            self.remote.forget();
            if matches!(self.state, State::Init | State::Up) {
                change = Some(self.enter(State::Down, Some(Diagnostic::DETECTION_TIME_EXPIRED)));
            }
        }
        let due = self.next_transmission().is_some_and(|deadline| deadline <= now);
        let send = due || change.is_some();
        let packet = send.then(|| self.transmit(self.poll_bits(), now, random));
        Effects { change, packet }
    }

    /// When [`Session::timeout`] has to be called, which may be in the past. It changes with each call of
    /// another method.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        let deadlines = [self.next_transmission(), self.detection_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Changes the parameters without an interruption. Packets that are due anyway carry them.
    pub fn set_parameters(&mut self, parameters: Parameters) {
        self.parameters = parameters;
        if self.state != State::Up {
            self.timers.set_at_once(self.wanted());
        }
        self.settle();
    }

    /// Exchanges the keys; the method stays, or the remote system has to change it within its detection time,
    /// as for `None`. `random` must be unpredictable.
    pub fn set_keyring(&mut self, keyring: Option<Arc<Keyring>>, random: u32) {
        self.authentication = match (self.authentication.take(), keyring) {
            (Some(mut authentication), Some(keyring)) => {
                authentication.set_keyring(keyring);
                Some(authentication)
            }
            (None, keyring) => keyring.map(|keyring| Authentication::new(keyring, random)),
            (Some(_), None) => None,
        };
    }

    /// Disables the session, for example because an operator wishes so, or with
    /// [`Diagnostic::PATH_DOWN`] (section 6.8.16). It continues to send packets. Before a session is removed,
    /// it should do so for [`Session::remote_detection_time`].
    pub fn disable(&mut self, diagnostic: Diagnostic, now: Time, random: u32) -> Effects {
        if self.state == State::AdminDown {
            return Effects::default();
        }
        self.change_to(State::AdminDown, Some(diagnostic), now, random)
    }

    /// Enables the session again.
    pub fn enable(&mut self, now: Time, random: u32) -> Effects {
        if self.state != State::AdminDown {
            return Effects::default();
        }
        self.change_to(State::Down, None, now, random)
    }

    /// The local state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Why the session last went down.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// The state that the remote system last sent. It stays when no more packets arrive.
    #[must_use]
    pub fn remote_state(&self) -> State {
        self.remote.state
    }

    /// Why the session last went down for the remote system.
    #[must_use]
    pub fn remote_diagnostic(&self) -> Diagnostic {
        self.remote.diagnostic
    }

    /// The discriminator of the local system.
    #[must_use]
    pub fn discriminator(&self) -> NonZeroU32 {
        self.local
    }

    /// When the last packet was received that was not discarded; or when the session was resumed.
    #[must_use]
    pub fn heard(&self) -> Option<Time> {
        self.heard
    }
}

impl Session {
    /// Checks whether and how the packet is authenticated.
    fn authenticate(&mut self, packet: &Packet<'_>, now: Time) -> Result<(), Ignored> {
        // Then bfd.AuthSeqKnown is 0 again (6.8.1).
        let silence = 2 * self.detection_time();
        let forget = self.heard.is_some_and(|heard| now.since(heard) >= silence);
        match (&mut self.authentication, &packet.authentication) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(Ignored::AuthenticationUnexpected),
            (Some(_), None) => Err(Ignored::AuthenticationMissing),
            (Some(authentication), Some(section)) => {
                let multiplier = packet.control.detect_multiplier.get();
                authentication.verify(section, multiplier, forget)
            }
        }
    }

    /// Changes the state, and with it the timers.
    fn enter(&mut self, to: State, diagnostic: Option<Diagnostic>) -> Change {
        let from = self.state;
        self.state = to;
        self.diagnostic = diagnostic.unwrap_or(self.diagnostic);
        self.timers.set_at_once(self.wanted());
        self.change_from(from)
    }

    fn change_from(&self, from: State) -> Change {
        Change {
            from,
            to: self.state,
            diagnostic: self.diagnostic,
            remote: self.remote.state,
        }
    }

    fn change_to(&mut self, to: State, diagnostic: Option<Diagnostic>, now: Time, random: u32) -> Effects {
        let change = self.enter(to, diagnostic);
        Effects {
            change: Some(change),
            packet: Some(self.transmit(self.poll_bits(), now, random)),
        }
    }

    /// Begins the poll sequences that are necessary now.
    fn settle(&mut self) {
        if self.state == State::Up {
            self.timers.request(self.wanted());
        }
        // The remote system would not learn other content, because no periodic packets are sent (6.6).
        let news = self.sent.content != Some(self.content());
        if news && self.remote_demand_is_active() {
            self.timers.poll();
        }
    }

    fn wanted(&self) -> Timers {
        Timers::of(self.parameters, self.state)
    }

    /// Whether the remote system wants no periodic packets (6.8).
    fn remote_demand_is_active(&self) -> bool {
        self.remote.timers.demand && self.state == State::Up && self.remote.state == State::Up
    }
}
