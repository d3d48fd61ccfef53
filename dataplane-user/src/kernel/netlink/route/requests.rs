//! The requests for changes of routes.

use std::io;

use super::{Known, Mode, delete, write};
use crate::kernel::netlink::Netlink;
use crate::kernel::netlink::execute::{Requests, Role, unsupported};
use crate::kernel::netlink::message::Request;
use crate::model::{RouteChange, RouteOperation};
use crate::net::LinkName;

impl Requests for RouteChange {
    fn links(&self) -> Vec<&LinkName> {
        match &self.1 {
            RouteOperation::Create(route) | RouteOperation::Replace(route) => route.links().collect(),
            RouteOperation::Delete(_) => Vec::new(),
        }
    }

    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>> {
        let RouteChange(key, operation) = self;
        let (mode, route) = match operation {
            RouteOperation::Create(route) => (Mode::Create, route),
            RouteOperation::Replace(route) => (Mode::Replace, route),
            RouteOperation::Delete(_) => return Ok(vec![(delete(key), Role::Delete)]),
        };
        let known = Known {
            links: &netlink.links,
            next_hops: &netlink.next_hops,
        };
        let request = write(mode, key, &route.kind, known, netlink.marks)?
            .ok_or_else(|| unsupported("Adit does not create routes of this kind"))?;
        Ok(vec![(request, Role::Do)])
    }
}
