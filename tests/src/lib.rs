//! The harness that the tests in `tests/tests` and the lab in `tests/lab` share.

pub mod agent;
pub mod bpf;
pub mod bpffs;
pub mod capture;
pub mod chaos;
mod connection;
pub mod container;
pub mod crash;
pub mod declared;
pub mod flows;
pub mod forwarding;
pub mod frame;
pub mod hand;
pub mod icmp;
pub mod interrupt;
pub mod kernel;
pub mod named;
pub mod netns;
pub mod overlay;
pub mod pair;
pub mod random;
pub mod scrape;
pub mod situation;
pub mod snapshot;
pub mod socket;
pub mod splitmix;
pub mod topology;
pub mod traffic;
pub mod unreadable;
pub mod wire;

pub use agent::Agent;
pub use bpffs::Bpffs;
pub use kernel::{require_module, require_program};
pub use netns::NetNs;
pub use overlay::Overlay;
pub use topology::Topology;
