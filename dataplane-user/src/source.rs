//! Where resources come from: manifests in files, the node's keys, the addresses of names, and the
//! numbers that the machine's own lists have for names. A source gives a complete, checked set or an
//! error, never a part.

pub mod file;
pub mod key_file;
pub mod key_ring;
pub mod last_good;
pub mod manifest;
pub mod names;
pub mod namespaces;
pub mod numbers;
pub mod watch;
pub mod withdrawn;

pub use file::{LoadError, LoadErrors, load};
pub use key_ring::KeyRing;
pub(crate) use manifest::suggest::hint;
pub use watch::{Watch, WatchError};
