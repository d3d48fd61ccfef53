//! Problems, described so that an operator can act. An unusual machine is a problem, not an `Err`.

use std::fmt;

use crate::net::{Family, NodeName};

/// How severe a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Something declared is not available; everything else is ready.
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

/// The kind of a problem; [`Reason::name`] is a stable word for scripts and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The manifests contain no resource for this node.
    NodeAbsent,
    /// An object that Adit does not manage has the name or position of a desired one, or two declarations
    /// collide.
    Conflict,
    /// The kernel refused a change, or its state can't be read.
    ApplyFailed,
    /// The manifests were rejected; the previous version stays in use.
    SourceInvalid,
    /// The kernel, nft or this version of Adit does not support what is declared.
    Unsupported,
    /// Two nodes have no underlay address family in common.
    NoCommonFamily,
    /// The kernel or a device has no IPv6, or the kernel has no policy rules of a family; objects that need
    /// it are skipped.
    NoFamily,
    /// Something that a declared feature needs is missing, for example an address, a key or nft.
    Incomplete,
    /// The WireGuard key of this node is not the one that its manifest declares.
    KeyMismatch,
    /// A key can't be read now; the key that was read last, or the one in the kernel, stays in use.
    KeyUnreadable,
    /// The nft table can't be read now; it stays as it is.
    FirewallUnreadable,
    /// The kernel reported an object that Adit can't decode; the object is skipped.
    Undecoded,
    /// A key rotation waits for a handshake with the next key.
    KeyRotation,
    /// The name of a WireGuard endpoint does not resolve to an address now.
    NameUnresolved,
    /// The names of two nodes hash to the same inner MAC address.
    MacCollision,
    /// No route leads to the underlay address or the WireGuard endpoint of a peer.
    NoUnderlayRoute,
    /// The underlay path to a peer leads into the overlay, or the route to a WireGuard endpoint into its own
    /// device.
    UnderlayLoop,
    /// A more specific route takes packets that should enter the overlay.
    Shadowed,
    /// The strict `rp_filter` of a device drops packets that a declared object needs.
    StrictFilter,
    /// The MTU of the underlay path to a peer is too small for the MTU of the network.
    MtuTooSmall,
    /// No device of this machine has the underlay address of this node.
    ForeignUnderlay,
    /// A declared object waits for a device, a namespace or a failed change.
    Waiting,
    /// The agent receives no kernel events (of other namespaces), so only full reconciliations find drift
    /// there.
    EventsMissing,
    /// More is declared than the dataplane has room for, for example next hops of a prefix or WireGuard
    /// devices.
    Capacity,
    /// The kernel accepted every change but still differs from the desired state.
    NotConverged,
    /// The reconciliation loop does not make progress.
    Hanging,
    /// The list of withdrawn peers can't be read.
    WithdrawnUnreadable,
    /// The accepted manifests can't be written to the state directory.
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
            Reason::WithdrawnUnreadable => "WithdrawnUnreadable",
            Reason::NotKept => "NotKept",
        }
    }
}

/// A pair of nodes between which packets of one inner family are refused.
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
    /// How severe it is.
    pub severity: Severity,
    /// Its kind.
    pub reason: Reason,
    /// The object that it concerns: `TunnelNode/a`, `link adit-geneve`, `route 10.0.0.0/8`.
    pub subject: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
    /// The pair of nodes that can't communicate because of this problem, if it concerns a pair.
    pub refused: Option<Refused>,
}

impl Problem {
    /// A problem of severity [`Severity::Error`]: the node is not ready.
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

    /// A problem of severity [`Severity::Warning`]: the node is ready otherwise.
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
