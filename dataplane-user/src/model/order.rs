//! What determines the order of changes: the conditions that each change requires and provides, and unique
//! properties such as ports, VNIs and names.
//!
//! Each kind of object states its conditions beside its changes; `diff/order.rs` derives the order.

mod conditions;
mod nets;
mod slots;
mod stage;

pub(crate) use self::conditions::{Around, Condition, Needs, NextHopObjectRef};
pub(crate) use self::nets::{NetSet, Nets};
pub(crate) use self::slots::{PortUse, Slot, freed, freed_port, taken};
pub use self::stage::Stage;
use crate::net::{LinkName, Namespace};

/// An additional change that breaks a circle of changes that wait for each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detour {
    /// A WireGuard device has another port temporarily; this interrupts no traffic.
    FreePort(Option<Namespace>, LinkName),
    /// A device is deleted before its traffic takes another path, so that another device can be created:
    /// namespace and name of the deleted device, name of the new one.
    MakeRoom(Option<Namespace>, LinkName, LinkName),
}
