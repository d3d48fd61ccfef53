//! Changes of next-hop objects.

use std::fmt;
use std::sync::Arc;

use super::{NextHopObject, RouteGroup, RouteHop};
use crate::model::change::{Operation, Verb};
use crate::model::order::{Around, Condition, Needs, NextHopObjectRef, Stage};
use crate::model::{Object, route};

/// A next-hop object and the operation on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHopObjectChange(pub NextHopObject, pub NextHopObjectOperation);

/// The operation on a next-hop object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextHopObjectOperation {
    /// Created with the mark of Adit.
    Create,
    /// An existing group changes to this one in place; routes that lead to it follow.
    Replace(Arc<RouteGroup>),
    /// Deleted.
    Delete,
}

impl Operation for NextHopObjectChange {
    fn object(&self) -> Object {
        Object::NextHopObject(self.0.clone())
    }

    fn verb(&self) -> Verb {
        match self.1 {
            NextHopObjectOperation::Create => Verb::Add,
            NextHopObjectOperation::Replace(_) => Verb::Set,
            NextHopObjectOperation::Delete => Verb::Delete,
        }
    }

    fn stage(&self) -> Stage {
        match (&self.1, &self.0) {
            (NextHopObjectOperation::Delete, NextHopObject::Hop(_)) => Stage::DeleteRouteHops,
            // The contents of objects in other forms are unknown.
            (NextHopObjectOperation::Delete, _) => Stage::DeleteRouteGroups,
            (NextHopObjectOperation::Create, NextHopObject::Hop(_) | NextHopObject::Other(_)) => {
                Stage::RouteHops
            }
            _ => Stage::RouteGroups,
        }
    }

    fn needs<'a>(&'a self, around: Around<'a>, needs: &mut Needs<'a>) {
        let NextHopObjectChange(object, operation) = self;
        let itself = NextHopObjectRef::from(object);
        if *operation == NextHopObjectOperation::Delete {
            needs.requires(Condition::NextHopObjectUnused(itself));
            return release(object, needs);
        }
        needs.provides(Condition::NextHopObject(itself));
        for hop in object.hops() {
            require_hop(hop, needs);
            if let NextHopObject::Group(_) = object {
                needs.requires(Condition::NextHopObject(NextHopObjectRef::Hop(hop)));
            }
        }
        if let NextHopObjectOperation::Replace(former) = operation {
            for (hop, _) in &former.members {
                needs.provides(Condition::NextHopObjectUnused(NextHopObjectRef::Hop(hop)));
            }
            // Its routes follow without own changes.
            for prefix in around.nets.by_group.get(former).into_iter().flatten() {
                route::led(*prefix, around, needs);
                for (hop, _) in &former.members {
                    needs.provides(Condition::AllowedUnused(&hop.link, *prefix));
                }
                for hop in object.hops().filter(|hop| hop.is_wireguard()) {
                    needs.requires(Condition::Allowed(&hop.link, *prefix));
                }
            }
        }
    }
}

/// The conditions that a next-hop object needs to send packets.
pub(crate) fn require_hop<'a>(hop: &'a RouteHop, needs: &mut Needs<'a>) {
    needs.requires(Condition::Up(&hop.link));
    if let Some(gateway) = hop.gateway {
        needs.requires(Condition::Neighbour(&hop.link, gateway));
    }
}

/// The conditions that hold once a next-hop object is deleted.
fn release<'a>(object: &'a NextHopObject, needs: &mut Needs<'a>) {
    for hop in object.hops() {
        if let NextHopObject::Group(_) = object {
            needs.provides(Condition::NextHopObjectUnused(NextHopObjectRef::Hop(hop)));
            continue;
        }
        needs.provides(Condition::LinkUnused(&hop.link));
        if let Some(gateway) = hop.gateway {
            needs.provides(Condition::NeighbourUnused(&hop.link, gateway));
        }
        if let Some(header) = &hop.encapsulation {
            needs.provides(Condition::SourceUnused(header.remote));
        }
    }
}

impl fmt::Display for NextHopObjectChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let NextHopObjectChange(object, operation) = self;
        match operation {
            NextHopObjectOperation::Create => write!(f, "add nexthop {object}"),
            NextHopObjectOperation::Replace(from) => write!(f, "set nexthop {from} to {object}"),
            NextHopObjectOperation::Delete => write!(f, "delete nexthop {object}"),
        }
    }
}
