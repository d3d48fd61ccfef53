//! Permanent neighbours on tunnel devices managed by Adit, which do not resolve neighbours.

use std::fmt;
use std::net::IpAddr;

use super::change::{Operation, Verb, Write};
use super::order::{Around, Condition, Needs, Stage};
use super::{Object, Owner};
use crate::net::{LinkName, MacAddr};

/// A permanent neighbour. Its key in the state is (link, address).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Who manages it (`NDA_PROTOCOL`).
    pub owner: Owner,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

/// A device, an address, and the operation on the permanent neighbour there. A neighbour that the kernel
/// created by itself is replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NeighbourChange(pub LinkName, pub IpAddr, pub Write<Neighbour>);

impl Operation for NeighbourChange {
    fn object(&self) -> Object {
        Object::Neighbour(self.0.clone(), self.1)
    }

    fn verb(&self) -> Verb {
        self.2.verb()
    }

    fn stage(&self) -> Stage {
        match self.2 {
            Write::Put(_) => Stage::Neighbours,
            Write::Delete => Stage::DeleteNeighbours,
        }
    }

    fn needs<'a>(&'a self, _around: Around<'a>, needs: &mut Needs<'a>) {
        let NeighbourChange(link, address, write) = self;
        match write {
            Write::Put(_) => {
                needs.requires(Condition::Up(link));
                needs.provides(Condition::Neighbour(link, *address));
            }
            Write::Delete => needs.requires(Condition::NeighbourUnused(link, *address)),
        }
    }
}

impl fmt::Display for NeighbourChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NeighbourChange(link, address, write) = self;
        match write {
            Write::Put(neighbour) => write!(f, "put neighbour {address} lladdr {} dev {link}", neighbour.mac),
            Write::Delete => write!(f, "delete {}", self.object()),
        }
    }
}
