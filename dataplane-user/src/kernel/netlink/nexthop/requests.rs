//! The requests for changes of next-hop objects.

use std::io;

use super::{absent, create, delete, replace};
use crate::kernel::netlink::Netlink;
use crate::kernel::netlink::execute::{Requests, Role, no_link, unsupported};
use crate::kernel::netlink::message::Request;
use crate::model::{NextHopObject, NextHopObjectChange, NextHopObjectOperation};
use crate::net::LinkName;

impl Requests for NextHopObjectChange {
    fn links(&self) -> Vec<&LinkName> {
        match self {
            NextHopObjectChange(NextHopObject::Hop(hop), NextHopObjectOperation::Create) => vec![&hop.link],
            _ => Vec::new(),
        }
    }

    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>> {
        let NextHopObjectChange(object, operation) = self;
        let next_hops = &mut netlink.next_hops;
        let request = match (operation, object) {
            (NextHopObjectOperation::Create, _) => {
                let id = next_hops.allocate().ok_or_else(no_id)?;
                let create = create(id, object, next_hops, &netlink.links).ok_or_else(no_link)?;
                next_hops.insert(id, object.clone());
                create
            }
            (NextHopObjectOperation::Replace(from), NextHopObject::Group(to)) => {
                let former = NextHopObject::Group(from.clone());
                let id = next_hops.id(&former).ok_or_else(absent)?;
                let replace = replace(id, to, next_hops).ok_or_else(absent)?;
                next_hops.insert(id, object.clone());
                replace
            }
            (NextHopObjectOperation::Replace(_), _) => {
                return Err(unsupported("only groups of next hops can be replaced"));
            }
            (NextHopObjectOperation::Delete, _) => {
                let id = next_hops.id(object).into_iter();
                return Ok(id.map(|id| (delete(id), Role::Delete)).collect());
            }
        };
        Ok(vec![(request, Role::Do)])
    }
}

fn no_id() -> io::Error {
    io::Error::other("all ids for next-hop objects are in use")
}
