//! Small network values that every layer uses: MAC addresses, families, prefixes, names, keys, ports, endpoints.

pub mod encapsulation;
pub mod endpoint;
pub mod family;
pub mod hash;
pub mod key;
pub mod key_source;
pub mod mac;
pub mod name;
pub mod namespace;
pub mod ports;
pub mod prefix;

pub use encapsulation::Encapsulation;
pub use endpoint::PeerEndpoint;
pub use family::Family;
pub use key::{InvalidKey, PresharedKey, PrivateKey, PublicKey};
pub use key_source::KeySource;
pub use mac::MacAddr;
pub use name::{LinkName, NetworkName, NodeName, PeerId};
pub use namespace::{Namespace, Runtime};
pub use ports::PortRange;
