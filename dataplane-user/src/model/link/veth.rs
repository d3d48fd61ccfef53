//! Veth pairs: what an end says of the other.

use std::fmt;

use crate::net::{LinkName, Namespace};

/// The other end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VethPeer {
    /// The namespace that it is in; `None`: the agent's.
    pub namespace: Option<Namespace>,
    /// Its name there.
    pub name: LinkName,
}

impl VethPeer {
    /// Whether the end of this name and namespace makes the pair: the first one of both.
    #[must_use]
    pub fn is_made_by(&self, namespace: Option<&Namespace>, name: &LinkName) -> bool {
        (namespace, name) < (self.namespace.as_ref(), &self.name)
    }
}

impl fmt::Display for VethPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.name)?;
        if let Some(namespace) = &self.namespace {
            write!(f, " in {namespace}")?;
        }
        Ok(())
    }
}
