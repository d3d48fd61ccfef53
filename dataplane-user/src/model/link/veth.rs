//! Veth pairs: how an end refers to the other one.

use std::fmt;

use crate::net::{LinkName, Namespace};

/// The other end of a veth pair.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VethPeer {
    /// Its namespace; `None`: the agent's own.
    pub namespace: Option<Namespace>,
    /// Its name in that namespace.
    pub name: LinkName,
}

impl VethPeer {
    /// Whether the pair is created by the end with this name and namespace: by the first of both ends in
    /// order.
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
