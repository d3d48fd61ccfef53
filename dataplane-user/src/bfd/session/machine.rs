//! The state machine (RFC 5880, sections 6.2 and 6.8.6).

use super::super::{Diagnostic, State};

/// The new state when a packet with a state arrives, and its diagnostic if the session goes down. `None`: the
/// state stays.
pub(super) fn transition(local: State, received: State) -> Option<(State, Option<Diagnostic>)> {
    let down = Some((State::Down, Some(Diagnostic::NEIGHBOR_SIGNALED_DOWN)));
    match (local, received) {
        (State::Init | State::Up, State::AdminDown) | (State::Up, State::Down) => down,
        (State::Down, State::Down) => Some((State::Init, None)),
        (State::Down, State::Init) | (State::Init, State::Init | State::Up) => Some((State::Up, None)),
        (State::AdminDown, _)
        | (State::Down, State::AdminDown | State::Up)
        | (State::Init, State::Down)
        | (State::Up, State::Init | State::Up) => None,
    }
}
