//! Sources of private keys.

use std::fmt;

/// The source of a private key; manifests never contain the key itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySource {
    /// The key of the node in the state directory, which its overlay links use too.
    Node,
    /// The next key of the node, in the same directory, during a key rotation.
    Next,
    /// A file of this name in the state directory, generated once.
    Generated(String),
    /// A file, by its absolute path.
    File(String),
    /// A credential from systemd (`LoadCredential=`), by its name.
    Credential(String),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Node => f.write_str("of the node"),
            KeySource::Next => f.write_str("of the node, next key"),
            KeySource::Generated(name) => write!(f, "generated for {name}"),
            KeySource::File(path) => write!(f, "file {path}"),
            KeySource::Credential(name) => write!(f, "credential {name}"),
        }
    }
}
