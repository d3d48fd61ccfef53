//! What is wrong, in words that an operator can act on. Odd facts are problems, not failures.

use std::fmt;

use crate::net::{Family, NodeName};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something declared can't be had; the rest is ready all the same.
    Warning,
    /// The node is not ready.
    Error,
}

impl Severity {
    /// The stable word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// What kind of problem; stable words for scripts and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// This node is not among the resources.
    NodeAbsent,
    /// An object that is not ours stands where ours should.
    Conflict,
    /// A change was refused by the kernel.
    ApplyFailed,
    /// The manifests don't load; the last good ones go on.
    SourceInvalid,
    /// The kernel can't do this combination.
    Unsupported,
    /// Two ends have no underlay family in common.
    NoCommonFamily,
    /// The kernel, or a device, has no IPv6, or no policy rules of a family: what needs it is skipped.
    NoFamily,
    /// Something that a link needs is not declared.
    Incomplete,
    /// This node's WireGuard key is not the one that its manifest tells the others.
    KeyMismatch,
    /// A key can't be read now; what was read last stays in use, or what the kernel has.
    KeyUnreadable,
    /// Nobody tells what is in the nft table now; it stays as it is.
    FirewallUnreadable,
    /// The kernel told something of an object that can't be decoded: the object is skipped.
    Undecoded,
    /// A handshake with a key that a node changes to is awaited.
    KeyRotation,
    /// The name of an endpoint has no address now.
    NameUnresolved,
    /// Two nodes' names hash to one MAC.
    MacCollision,
    /// A peer's underlay address is not reachable by any route.
    NoUnderlayRoute,
    /// The underlay's way to a peer leads into the overlay.
    UnderlayLoop,
    /// Another route takes packets that are the overlay's.
    Shadowed,
    /// A device's strict `rp_filter` drops what something declared needs.
    StrictFilter,
    /// The underlay's way to a peer is too narrow for the overlay's MTU.
    MtuTooSmall,
    /// This node's underlay address is not on this machine.
    ForeignUnderlay,
    /// Something that it needs is not there yet.
    Waiting,
    /// The kernel's events are not heard, so drift is seen by full reconciliations only.
    EventsMissing,
    /// A table of the dataplane is too small.
    Capacity,
    /// What the kernel holds is not what was asked for, after all changes succeeded.
    NotConverged,
    /// The reconciliation loop does not get on.
    Hanging,
    /// The accepted manifests can't be kept in the state directory.
    NotKept,
}

impl Reason {
    /// The stable word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Reason::NodeAbsent => "NodeAbsent",
            Reason::Conflict => "Conflict",
            Reason::ApplyFailed => "ApplyFailed",
            Reason::SourceInvalid => "SourceInvalid",
            Reason::Unsupported => "Unsupported",
            Reason::NoCommonFamily => "NoCommonFamily",
            Reason::NoFamily => "NoFamily",
            Reason::Incomplete => "Incomplete",
            Reason::KeyMismatch => "KeyMismatch",
            Reason::KeyUnreadable => "KeyUnreadable",
            Reason::FirewallUnreadable => "FirewallUnreadable",
            Reason::Undecoded => "Undecoded",
            Reason::KeyRotation => "KeyRotation",
            Reason::NameUnresolved => "NameUnresolved",
            Reason::MacCollision => "MacCollision",
            Reason::NoUnderlayRoute => "NoUnderlayRoute",
            Reason::UnderlayLoop => "UnderlayLoop",
            Reason::Shadowed => "Shadowed",
            Reason::StrictFilter => "StrictFilter",
            Reason::MtuTooSmall => "MtuTooSmall",
            Reason::ForeignUnderlay => "ForeignUnderlay",
            Reason::Waiting => "Waiting",
            Reason::EventsMissing => "EventsMissing",
            Reason::Capacity => "Capacity",
            Reason::NotConverged => "NotConverged",
            Reason::Hanging => "Hanging",
            Reason::NotKept => "NotKept",
        }
    }
}

/// A pair of nodes that can't talk in one family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// This node.
    pub from: NodeName,
    /// The peer.
    pub to: NodeName,
    /// The inner family that is refused.
    pub family: Family,
}

/// Something that an operator should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What kind it is.
    pub reason: Reason,
    /// What it is about: `TunnelNode/a`, `link adit-geneve`, `route 10.0.0.0/8`.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The pair that this problem keeps apart, if it is about one.
    pub refused: Option<Refused>,
}

impl Problem {
    /// A problem that keeps the node from being ready.
    #[must_use]
    pub fn error(reason: Reason, subject: String, message: String, remedy: String) -> Problem {
        Problem {
            severity: Severity::Error,
            reason,
            subject,
            message,
            remedy,
            refused: None,
        }
    }

    /// A problem that does not.
    #[must_use]
    pub fn warning(reason: Reason, subject: String, message: String, remedy: String) -> Problem {
        Problem {
            severity: Severity::Warning,
            reason,
            subject,
            message,
            remedy,
            refused: None,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {} ({}); {}",
            self.subject,
            self.message,
            self.reason.name(),
            self.remedy
        )
    }
}
