//! Declared resources as core types: networks, nodes and kernel objects. Without wire formats; `source`
//! converts manifests to these types.

pub mod firewall;
pub mod intent;
pub mod netlink;
pub mod network;
pub mod node;
pub mod problem;
pub mod wireguard;

pub use firewall::FirewallOptions;
pub use intent::{Intent, Resources};
pub use network::{Bfd, Dataplane, Network, NetworkRoutes, Ports, SourceProtection};
pub use node::{AdvertisedPrefix, Node, WireGuardPeer};
pub use problem::{Problem, Reason, Refused, Severity};
pub use wireguard::WireGuardInterface;
