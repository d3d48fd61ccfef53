//! The harness that the tests in `tests/tests` share.

pub mod bpffs;
pub mod netns;

pub use bpffs::Bpffs;
pub use netns::NetNs;
