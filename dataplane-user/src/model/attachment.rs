//! BPF programs on devices.

use std::fmt;

use super::Object;
use super::change::{Operation, Verb};
use super::order::{Around, Condition, Needs, Stage};
use crate::net::LinkName;

/// Where a program is attached to a device.
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

/// A BPF program of Adit on a hook of a device. Its key in the state is (link, hook). Programs of others are
/// not observed: they stay attached, and Adit's program is added beside them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The version of the program.
    pub version: ProgramVersion,
}

/// Whether an attached program is the one that this agent contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProgramVersion {
    /// It is the program of this agent.
    Current,
    /// It is the program of another or older agent, and is to be replaced in place.
    Stale,
}

/// A device, a hook of it, and the operation on the program there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramChange(pub LinkName, pub Hook, pub ProgramOperation);

/// The operation on a program on a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProgramOperation {
    /// It is attached.
    Attach,
    /// It replaces another program of Adit in place.
    Replace,
    /// It replaces, in place, a program of an older version of the map ABI, which reads other maps.
    TakeOver,
    /// It is detached.
    Detach,
}

impl Operation for ProgramChange {
    fn object(&self) -> Object {
        Object::Program(self.0.clone(), self.1)
    }

    fn verb(&self) -> Verb {
        match self.2 {
            ProgramOperation::Attach => Verb::Add,
            ProgramOperation::Replace | ProgramOperation::TakeOver => Verb::Set,
            ProgramOperation::Detach => Verb::Delete,
        }
    }

    fn stage(&self) -> Stage {
        match self.2 {
            ProgramOperation::Attach => Stage::Attach,
            ProgramOperation::Replace => Stage::ReplacePrograms,
            ProgramOperation::TakeOver => Stage::TakeOver,
            ProgramOperation::Detach => Stage::Detach,
        }
    }

    fn needs<'a>(&'a self, _around: Around<'a>, needs: &mut Needs<'a>) {
        let link = &self.0;
        match self.2 {
            ProgramOperation::Attach => {
                needs.requires(Condition::Link(link));
                needs.provides(Condition::Ready(link));
                needs.provides(Condition::Up(link));
                needs.provides(Condition::Maps);
            }
            ProgramOperation::Replace => needs.provides(Condition::TakenOver),
            // The maps of the older version are complete, those of this version perhaps not.
            ProgramOperation::TakeOver => {
                needs.requires(Condition::Maps);
                needs.provides(Condition::TakenOver);
            }
            ProgramOperation::Detach => {
                needs.requires(Condition::LinkUnused(link));
                needs.provides(Condition::Detached(link));
                needs.provides(Condition::ProgramsDetached);
            }
        }
    }
}

impl fmt::Display for ProgramChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ProgramChange(link, hook, operation) = self;
        match operation {
            ProgramOperation::Attach => write!(f, "attach the {hook} program to {link}"),
            ProgramOperation::Replace => write!(f, "replace the {hook} program of {link}"),
            ProgramOperation::TakeOver => {
                write!(f, "take over the {hook} program of {link} from an older map ABI")
            }
            ProgramOperation::Detach => write!(f, "detach the {hook} program from {link}"),
        }
    }
}

/// Pins again the maps and programs of this process whose pins were removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestorePins;

impl Operation for RestorePins {
    fn object(&self) -> Object {
        Object::Pins
    }

    fn verb(&self) -> Verb {
        Verb::Add
    }

    fn stage(&self) -> Stage {
        Stage::Pins
    }

    fn needs<'a>(&'a self, _around: Around<'a>, _needs: &mut Needs<'a>) {}
}

impl fmt::Display for RestorePins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("restore the pins of the BPF maps")
    }
}

/// Deletes the maps and links of this older version of the map ABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeleteVersion(pub u32);

impl Operation for DeleteVersion {
    fn object(&self) -> Object {
        Object::Version(self.0)
    }

    fn verb(&self) -> Verb {
        Verb::Delete
    }

    fn stage(&self) -> Stage {
        Stage::DeleteVersions
    }

    fn needs<'a>(&'a self, _around: Around<'a>, needs: &mut Needs<'a>) {
        // A program of that version may still run.
        needs.requires(Condition::Maps);
        needs.requires(Condition::TakenOver);
        needs.requires(Condition::ProgramsDetached);
    }
}

impl fmt::Display for DeleteVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "delete what map ABI {} has left", self.0)
    }
}
