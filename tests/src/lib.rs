//! The harness that the tests in `tests/tests` share.

pub mod bpf;
pub mod bpffs;
pub mod frame;
pub mod kernel;
pub mod netns;
pub mod random;
pub mod wire;

pub use bpffs::Bpffs;
pub use kernel::require_module;
pub use netns::NetNs;
