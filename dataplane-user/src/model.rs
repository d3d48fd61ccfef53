//! Kernel state as values: the same types for what shall be and for what is, and the changes between them.
//!
//! Links go by name and next hops by what they are; ifindexes and slots exist only inside the kernel adapters.

pub mod address;
pub mod attachment;
pub mod bpf;
pub mod change;
pub mod devices;
pub mod facts;
pub mod firewall;
pub mod link;
pub mod neighbour;
pub mod nexthop;
pub mod route;
pub mod rule;
pub mod source;
pub mod state;
pub mod sysctl;
pub mod wireguard;

pub use address::{Address, AddressScope, connected_subnet};
pub use attachment::{Attachment, Hook, ProgramVersion};
pub use bpf::{Carrier, Class, Group, NextHop, NodeLabel, Target, UnderlayDevice};
pub use change::{Action, Change, ChangeSet, Conflict, Located, Object, Waiting};
pub use firewall::Firewall;
pub use link::{Link, LinkKind, VethPeer};
pub use neighbour::Neighbour;
pub use nexthop::{OuterHeader, RouteGroup, RouteHop, RouteTarget};
pub use route::{Encap, Hop, Paths, Route, RouteKey, RouteKind, RouteScope};
pub use rule::Rule;
pub use source::Source;
pub use state::{KernelState, Named, Undecoded};
pub use sysctl::Sysctl;

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The kernel made it by itself: an IPv6 link-local address.
    Kernel,
    /// It bears our mark.
    Ours,
    /// It does not: never replaced, never deleted.
    Foreign,
}

/// The mark on routes, rules, next hops, neighbours and addresses (`rtm_protocol`, `IFA_PROTO`).
pub const PROTOCOL: u8 = 173;
/// The mark on links (`IFLA_GROUP`).
pub const LINK_GROUP: u32 = 173;
/// The metric of the routes that lead into the overlay.
pub const ANCHOR_METRIC: u32 = 173;
/// The metric of the unreachable routes behind them.
pub const BACKSTOP_METRIC: u32 = 1_000_000;
/// The bits of packets' and connections' marks that say by which device a connection came in; all others are left alone.
/// They are none of Kubernetes' (0xc000), Cilium's (0xf00), Tailscale's (0xff0000) or netavark's (0x2000), and no
/// WireGuard device of ours marks its packets.
pub const RETURN_PATH_MASK: u32 = 0x0f00_0000;
/// The priority of the rules that send replies back: before the kernel's own for the main table, after the local one.
pub const RETURN_PATH_PRIORITY: u32 = 1729;
/// The tables that they ask are this number and one to as many as the mask holds: 17301 … 17315.
pub const RETURN_PATH_TABLES: u32 = 17300;
/// The metric of the routes in those tables: as anchors have it, so that foreign ones in their places are seen.
pub const RETURN_PATH_METRIC: u32 = ANCHOR_METRIC;
/// The kernel's main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;
/// The kernel's table of this machine's own addresses, which is asked before all others (`RT_TABLE_LOCAL`).
pub const LOCAL_TABLE: u32 = 255;
