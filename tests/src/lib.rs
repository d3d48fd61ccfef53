//! The harness that the tests in `tests/tests` share.

pub mod bpf;
pub mod bpffs;
pub mod frame;
pub mod netns;

pub use bpffs::Bpffs;
pub use netns::NetNs;
