//! What the order of changes follows from: what each change requires and provides, and the one thing of which there is only one.
//!
//! Each kind of object says it beside its changes; `diff/order.rs` makes an order of it.

mod conditions;
mod nets;
mod slots;
mod stage;

pub(crate) use self::conditions::{Around, Condition, Needs, Target};
pub(crate) use self::nets::Nets;
pub(crate) use self::slots::{PortUse, Slot, freed, freed_port, taken};
pub use self::stage::Stage;
use crate::net::{LinkName, Namespace};

/// What lets a circle of changes be made after all.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Detour {
    /// A WireGuard device has some other port for a moment, which costs nothing.
    FreePort(Option<Namespace>, LinkName),
    /// A device goes before what leads to it is led elsewhere, so that another one can be made. By its namespace and name, and that one's name.
    MakeRoom(Option<Namespace>, LinkName, LinkName),
}
