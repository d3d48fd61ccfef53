//! Default destinations of VXLAN devices: where they send frames whose destination they don't know.

use std::fmt;
use std::net::IpAddr;

use super::Object;
use super::change::{Existence, Operation, Verb};
use super::order::{Around, Condition, Needs, Stage};
use crate::net::LinkName;

/// A VXLAN device, a default destination of it, and the operation on the destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FloodChange(pub LinkName, pub IpAddr, pub Existence);

impl Operation for FloodChange {
    fn object(&self) -> Object {
        Object::Flood(self.0.clone(), self.1)
    }

    fn verb(&self) -> Verb {
        self.2.verb()
    }

    fn stage(&self) -> Stage {
        match self.2 {
            Existence::Create => Stage::LinkSettings,
            Existence::Delete => Stage::DeleteAddresses,
        }
    }

    fn needs<'a>(&'a self, _around: Around<'a>, needs: &mut Needs<'a>) {
        if self.2 == Existence::Create {
            needs.requires(Condition::Link(&self.0));
        }
    }
}

impl fmt::Display for FloodChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} default destination {} dev {}", self.2, self.1, self.0)
    }
}
