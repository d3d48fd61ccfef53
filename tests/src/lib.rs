//! The harness that the tests in `tests/tests` share.

<<<<<<< HEAD
pub mod bpf;
pub mod frame;
pub mod random;
=======
pub mod kernel;
pub mod netns;

pub use kernel::require_module;
pub use netns::NetNs;
>>>>>>> 3017783 (Test the netlink adapter in network namespaces)
