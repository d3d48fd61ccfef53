//! Small network values that every layer uses: MAC addresses, families, names.

pub mod family;
pub mod hash;
pub mod mac;
pub mod name;

pub use family::Family;
pub use mac::MacAddr;
pub use name::{LinkName, NetworkName, NodeName};
