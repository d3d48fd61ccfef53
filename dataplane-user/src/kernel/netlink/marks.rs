//! Whether created objects get the mark of Adit.

use netlink_packet_route::route::RouteProtocol;

use crate::model::PROTOCOL;

/// The mark of Adit, or none for objects that a command creates for the user and that no agent manages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Marks {
    /// Group or protocol 173; objects without it are never changed.
    #[default]
    Adit,
    /// None, as for objects that `ip` creates.
    None,
}

impl Marks {
    /// The protocol of objects that have one: 173, or `boot` without the mark.
    pub(super) fn protocol(self) -> RouteProtocol {
        match self {
            Marks::Adit => RouteProtocol::Other(PROTOCOL),
            Marks::None => RouteProtocol::Boot,
        }
    }
}
