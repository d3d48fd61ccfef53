//! Kernel state as values: the same types for desired and observed state, and the changes between them.
//!
//! Links are identified by name and next hops by their content; ifindexes and slots exist only inside the
//! kernel adapters.

pub mod address;
pub mod attachment;
pub mod bpf;
pub mod change;
pub mod devices;
pub mod facts;
pub mod firewall;
pub mod flood;
pub mod link;
pub mod neighbour;
pub mod nexthop;
pub mod order;
pub mod route;
pub mod rule;
pub mod source;
pub mod state;
pub mod sysctl;
pub mod wireguard;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use address::{Address, AddressChange, AddressOperation, AddressScope, connected_subnet};
pub use attachment::{
    Attachment, DeleteVersion, Hook, ProgramChange, ProgramOperation, ProgramVersion, RestorePins,
};
pub use bpf::{
    Class, ClassChange, Group, GroupChange, NextHop, NextHopChange, NextHopOperation, NodeLabel,
    PrefixChange, PrefixTarget, TunnelKind, UnderlayDevice,
};
pub use change::{Action, Change, ChangeSet, Conflict, Located, Waiting};
pub use firewall::{Firewall, NftChange};
pub use flood::FloodChange;
pub use link::{DeleteLinkReason, Link, LinkChange, LinkKind, LinkOperation, LinkPatch, VethPeer};
pub use neighbour::{Neighbour, NeighbourChange};
pub use nexthop::{
    NextHopObject, NextHopObjectChange, NextHopObjectOperation, OuterHeader, RouteGroup, RouteHop,
};
pub use route::{Encap, Hop, Paths, Route, RouteChange, RouteKey, RouteKind, RouteOperation, RouteScope};
pub use rule::{Rule, RuleChange};
pub use source::{Source, SourceChange};
pub use state::{KernelState, Named, Undecoded};
pub use sysctl::{Sysctl, SysctlChange};
pub use wireguard::WireGuardChange;

use crate::net::LinkName;

change::objects! {
    /// A device.
    Link(name: LinkName), "link", repair "link", "link {name}";
    /// An address on a device.
    Address(link: LinkName, address: IpNet), "address", repair "address", "address {address} dev {link}";
    /// A default destination of a VXLAN device.
    Flood(link: LinkName, to: IpAddr), "default_destination", repair "neighbour", "default destination {to} of {link}";
    /// A neighbour on a device.
    Neighbour(link: LinkName, address: IpAddr), "neighbour", repair "neighbour", "neighbour {address} dev {link}";
    /// A next-hop object.
    NextHopObject(target: NextHopObject), "nexthop", repair "nexthop", "nexthop {target}";
    /// A route.
    Route(key: RouteKey), "route", repair "route", "route {key}";
    /// A policy rule.
    Rule(rule: Box<Rule>), "rule", repair "rule", "rule {rule}";
    /// A setting of a device.
    Sysctl(link: LinkName, sysctl: Sysctl), "sysctl", repair "sysctl", "{sysctl} of {link}";
    /// A WireGuard device's key, port, mark and peers.
    WireGuard(link: LinkName), "wireguard", repair "wireguard", "wireguard {link}";
    /// The nft table.
    Firewall, "firewall", repair "nftables", "nft table inet adit";
    /// A BPF program of Adit on a device.
    Program(link: LinkName, hook: Hook), "program", repair "program", "the {hook} program of {link}";
    /// The pins of the maps and programs of this process.
    Pins, "pins", repair "map", "the pins of the BPF maps";
    /// The maps and links that an older version of the map ABI has left.
    Version(version: u32), "version", repair "map", "maps of version {version}";
    /// A class.
    Class(class: Class), "class", repair "map", "class {class}";
    /// A next hop.
    NextHop(next_hop: Arc<NextHop>), "next_hop", repair "map", "next hop {next_hop}";
    /// A group of next hops.
    Group(group: Arc<Group>), "group", repair "map", "group of {group}";
    /// A prefix.
    Prefix(prefix: IpNet), "prefix", repair "map", "prefix {prefix}";
    /// A known source.
    Source(source: Source), "source", repair "map", "source {source}";
}

change::changes! {
    /// A change that rtnetlink makes.
    NetlinkChange of Netlink:
    /// Of a device.
    Link(LinkChange),
    /// Of an address on a device.
    Address(AddressChange),
    /// Of a default destination of a VXLAN device.
    Flood(FloodChange),
    /// Of a permanent neighbour on a device managed by Adit.
    Neighbour(NeighbourChange),
    /// Of a next-hop object.
    NextHopObject(NextHopObjectChange),
    /// Of a route.
    Route(RouteChange),
    /// Of a policy rule.
    Rule(RuleChange),
}

change::changes! {
    /// A change of programs or maps.
    BpfChange of Bpf:
    /// Of a BPF program on a device.
    Program(ProgramChange),
    /// Of the pins of the maps and programs of this process.
    Pins(RestorePins),
    /// Of the maps and links that an older version of the map ABI has left.
    Version(DeleteVersion),
    /// Of a class.
    Class(ClassChange),
    /// Of a next hop.
    NextHop(NextHopChange),
    /// Of a group.
    Group(GroupChange),
    /// Of a prefix.
    Prefix(PrefixChange),
    /// Of a known source.
    Source(SourceChange),
}

/// Evaluates an expression for each kind of object that is created and deleted but never changed
/// ([`change::Whole`]): `each_whole!(K => compare::<K>(a, b))`.
macro_rules! each_whole {
    ($kind:ident => $what:expr) => {{
        {
            type $kind = $crate::model::Rule;
            $what
        }
        {
            type $kind = $crate::model::Source;
            $what
        }
    }};
}

pub(crate) use each_whole;

/// Who manages an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    /// The kernel created it by itself, for example an IPv6 link-local address.
    Kernel,
    /// Adit: the object has its mark.
    Adit,
    /// Somebody else: it has no mark of Adit, and is never replaced or deleted.
    Other,
}

/// The mark on routes, rules, next hops, neighbours and addresses (`rtm_protocol`, `IFA_PROTO`).
pub const PROTOCOL: u8 = 173;
/// The mark on links (`IFLA_GROUP`).
pub const LINK_GROUP: u32 = 173;
/// The metric of the routes that lead into the overlay.
pub const ANCHOR_METRIC: u32 = 173;
/// The metric of the unreachable routes behind them (backstop routes).
pub const BACKSTOP_METRIC: u32 = 1_000_000;
/// The bits of packet and connection marks that store on which device a connection arrived; Adit does not
/// change the other bits. They overlap none of the marks of Kubernetes (0xc000), Cilium (0xf00), Tailscale
/// (0xff0000) and netavark (0x2000), and no overlay WireGuard device of Adit marks its packets.
pub const RETURN_PATH_MASK: u32 = 0x0f00_0000;
/// The priority of the rules for return paths: after the kernel's rule for the local table, before the one
/// for the main table.
pub const RETURN_PATH_PRIORITY: u32 = 1729;
/// The routing tables of return paths are this number plus the number of the device, 1 … 15: 17301 … 17315.
pub const RETURN_PATH_TABLES: u32 = 17300;
/// The metric of the routes in those tables. It is the metric of anchors, so that routes of others with the
/// same key are observed.
pub const RETURN_PATH_METRIC: u32 = ANCHOR_METRIC;
/// The kernel's main routing table (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;
/// The kernel's table of this machine's own addresses, which is looked up before all others
/// (`RT_TABLE_LOCAL`).
pub const LOCAL_TABLE: u32 = 255;
