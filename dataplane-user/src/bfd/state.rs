//! States of a session and diagnostic codes, with their numbers on the wire and their names.

use std::fmt;

/// The state of a session (RFC 5880, sections 4.1 and 6.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Disabled by an operator. Says nothing about the path.
    AdminDown = 0,
    /// No connectivity.
    Down = 1,
    /// Packets of the remote system arrive, but it does not yet see those of the local system.
    Init = 2,
    /// Packets arrive in both directions.
    Up = 3,
}

impl State {
    /// All states, by their numbers.
    pub const ALL: [State; 4] = [State::AdminDown, State::Down, State::Init, State::Up];

    /// The state of the two highest bits of a byte.
    pub(super) fn of_high_bits(byte: u8) -> State {
        State::ALL[usize::from(byte >> 6)]
    }

    /// The name in snake case, for metrics and status.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            State::AdminDown => "admin_down",
            State::Down => "down",
            State::Init => "init",
            State::Up => "up",
        }
    }
}

/// Why a session last went down (RFC 5880, section 4.1). Codes without a meaning are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Diagnostic(u8);

impl Diagnostic {
    /// The session was never down.
    pub const NONE: Diagnostic = Diagnostic(0);
    /// No packet arrived within the detection time.
    pub const DETECTION_TIME_EXPIRED: Diagnostic = Diagnostic(1);
    /// Echo packets did not come back.
    pub const ECHO_FAILED: Diagnostic = Diagnostic(2);
    /// The remote system signaled that the session is down.
    pub const NEIGHBOR_SIGNALED_DOWN: Diagnostic = Diagnostic(3);
    /// The forwarding plane was reset.
    pub const FORWARDING_PLANE_RESET: Diagnostic = Diagnostic(4);
    /// Something other than BFD found that the path is down.
    pub const PATH_DOWN: Diagnostic = Diagnostic(5);
    /// A path that continues this one is down.
    pub const CONCATENATED_PATH_DOWN: Diagnostic = Diagnostic(6);
    /// An operator disabled the session.
    pub const ADMINISTRATIVELY_DOWN: Diagnostic = Diagnostic(7);
    /// A path that continues this one is down in the reverse direction.
    pub const REVERSE_CONCATENATED_PATH_DOWN: Diagnostic = Diagnostic(8);

    /// The code of the five lowest bits of a byte.
    #[must_use]
    pub const fn from_low_bits(byte: u8) -> Diagnostic {
        Diagnostic(byte & 0x1f)
    }

    /// The code, 0 to 31.
    #[must_use]
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The name in snake case, for metrics and status; `unassigned` for 9 to 31.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            0 => "none",
            1 => "detection_time_expired",
            2 => "echo_failed",
            3 => "neighbor_signaled_down",
            4 => "forwarding_plane_reset",
            5 => "path_down",
            6 => "concatenated_path_down",
            7 => "administratively_down",
            8 => "reverse_concatenated_path_down",
            _ => "unassigned",
        }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}
