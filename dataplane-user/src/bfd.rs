//! Bidirectional Forwarding Detection (RFC 5880), in asynchronous mode over one hop (RFC 5881) or several
//! (RFC 5883): packets, authentication, sessions and their timers.
//!
//! Nothing here reads a clock, opens a socket or draws a random number: time and randomness are arguments.
//! The caller receives datagrams, checks their TTL (RFC 5881, section 5), finds the session of each by
//! [`Control::your_discriminator`] or, if that is 0, by the addresses, and hands them to
//! [`Session::received`]. It calls [`Session::timeout`] when [`Session::next_deadline`] has come; a [`Wheel`]
//! keeps the deadlines of many sessions. Datagrams that wait in a socket must be handed over before a
//! timeout: otherwise a process that was stopped for a moment takes its own pause for a failure of its peers.
//!
//! Not supported: the echo function, demand mode of the local system (that of the remote system is
//! respected), the passive role, and authentication other than keyed SHA1.

mod authentication;
#[cfg(test)]
pub(crate) mod fuzz;
mod ignored;
mod packet;
mod parameters;
mod session;
mod state;
#[cfg(test)]
mod tests;
mod time;
mod wheel;

pub use authentication::{InvalidKeys, Key, Keyring, Method};
pub use ignored::Ignored;
pub use packet::{Control, Datagram, Packet, PollBits, Section};
pub use parameters::{InvalidParameters, Parameters};
pub use session::{Change, Effects, InvalidSnapshot, RemoteTimers, Sequences, Session, Snapshot};
pub use state::{Diagnostic, State};
pub use time::Time;
pub use wheel::Wheel;
