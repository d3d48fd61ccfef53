//! Programs on devices.

use std::fmt;

/// Where a program sits on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    /// The egress program, on the anchor device's egress.
    Egress,
    /// The ingress program, on a tunnel device's ingress.
    Ingress,
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Hook::Egress => "egress",
            Hook::Ingress => "ingress",
        })
    }
}

/// Our program on a hook of a device. Its key in the state is (link, hook). Other people's programs are not observed:
/// they keep their place, ours is added beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Which version of the program.
    pub version: ProgramVersion,
}

/// Whether an attached program is the one that this agent brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProgramVersion {
    /// It is.
    Current,
    /// It is another agent's, an older one or one from before a restart; to be replaced in place.
    Stale,
}
