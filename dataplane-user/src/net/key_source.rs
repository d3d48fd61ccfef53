//! Where private keys are.

use std::fmt;

/// Where a private key is; the key itself never gets into manifests.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum KeySource {
    /// The node's own, in the state directory, which its overlay links use too.
    Node,
    /// The one that the node's own changes to, beside it.
    Next,
    /// A file of this name in the state directory, made once.
    Generated(String),
    /// A file, by its absolute path.
    File(String),
    /// A credential that systemd gives the agent (`LoadCredential=`), by its name.
    Credential(String),
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeySource::Node => f.write_str("the node's own"),
            KeySource::Next => f.write_str("the node's next one"),
            KeySource::Generated(name) => write!(f, "generated for {name}"),
            KeySource::File(path) => write!(f, "file {path}"),
            KeySource::Credential(name) => write!(f, "credential {name}"),
        }
    }
}
