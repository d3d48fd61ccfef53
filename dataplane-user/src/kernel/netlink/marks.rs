//! Whether what is made bears our mark.

use netlink_packet_route::route::RouteProtocol;

use crate::model::PROTOCOL;

/// Our mark, or none: what a command makes on a user's behalf is the user's, and no agent's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Marks {
    /// Group or protocol 173; nothing else is touched.
    #[default]
    Ours,
    /// As `ip` makes things, by hand.
    None,
}

impl Marks {
    /// The protocol of what has one: of routes by hand, `boot`.
    pub(super) fn protocol(self) -> RouteProtocol {
        match self {
            Marks::Ours => RouteProtocol::Other(PROTOCOL),
            Marks::None => RouteProtocol::Boot,
        }
    }
}
