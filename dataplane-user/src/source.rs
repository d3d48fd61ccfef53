//! The sources of resources: manifest files, key files, resolved names, and the number lists of the machine
//! (`rt_tables`, `services`). A source returns a complete and checked set or an error, never a part.

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
