//! Changes of addresses.

use std::fmt;

use ipnet::IpNet;

use super::{Address, connected_subnet};
use crate::model::Object;
use crate::model::change::{Operation, Verb};
use crate::model::order::{Around, Condition, Needs, Slot, Stage};
use crate::net::LinkName;

/// A device, an address on it, and the operation on the address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressChange(pub LinkName, pub IpNet, pub AddressOperation);

/// The operation on an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressOperation {
    /// Added with the mark of Adit.
    Create(Address),
    /// Replaced, because the scope differs.
    Replace(Address),
    /// Replaces the same address with another prefix length: the kernel does not allow both at the same time.
    Move {
        /// The address with the former prefix length.
        from: IpNet,
        /// The new properties of the address.
        to: Address,
    },
    /// Deleted.
    Delete {
        /// Whether it must be deleted before routes are created, because the kernel deletes desired routes
        /// together with it, or because the kernel's route for it has the key of a desired route.
        first: bool,
    },
}

impl Operation for AddressChange {
    fn object(&self) -> Object {
        Object::Address(self.0.clone(), self.1)
    }

    fn verb(&self) -> Verb {
        match self.2 {
            AddressOperation::Create(_) => Verb::Add,
            AddressOperation::Delete { .. } => Verb::Delete,
            AddressOperation::Replace(_) | AddressOperation::Move { .. } => Verb::Set,
        }
    }

    fn stage(&self) -> Stage {
        match &self.2 {
            AddressOperation::Create(address)
            | AddressOperation::Replace(address)
            | AddressOperation::Move { to: address, .. }
                if self.1.addr().is_ipv6() && address.peer.is_some() =>
            {
                Stage::PeerAddresses
            }
            AddressOperation::Delete { first: false } => Stage::DeleteAddresses,
            _ => Stage::LinkSettings,
        }
    }

    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>) {
        let AddressChange(link, address, _) = self;
        let (AddressOperation::Create(value)
        | AddressOperation::Replace(value)
        | AddressOperation::Move { to: value, .. }) = &self.2
        else {
            if self.2 == (AddressOperation::Delete { first: true }) {
                needs.provides(Condition::RoutesFlushed(link));
                let found = around.before.addresses.get(&(link.clone(), *address));
                if let Some(subnet) = connected_subnet(address, found.and_then(|found| found.peer)) {
                    needs.provides(Condition::SlotFree(Slot::Subnet(subnet)));
                }
                return;
            }
            needs.requires(Condition::Unrouted(link));
            return needs.requires(Condition::AddressUnused(address.addr()));
        };
        needs.requires(Condition::Link(link));
        if address.addr().is_ipv6() && value.peer.is_some() {
            needs.requires(Condition::Up(link));
        }
        needs.provides(Condition::Address(address.addr()));
        if let Some(subnet) = connected_subnet(address, value.peer) {
            needs.provides(Condition::Connected(subnet));
        }
    }
}

impl fmt::Display for AddressChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AddressChange(link, address, operation) = self;
        match operation {
            AddressOperation::Create(_) => write!(f, "add address {address} dev {link}"),
            AddressOperation::Replace(_) => write!(f, "replace address {address} dev {link}"),
            AddressOperation::Move { from, .. } => {
                write!(f, "replace address {from} by {address} dev {link}")
            }
            AddressOperation::Delete { .. } => write!(f, "delete address {address} dev {link}"),
        }
    }
}
