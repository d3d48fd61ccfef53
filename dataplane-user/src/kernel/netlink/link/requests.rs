//! The requests for changes of devices.

use std::io;

use super::{create, delete, find, modify, set_alias, set_down, set_generates_addresses, set_master, set_up};
use crate::kernel::netlink::Netlink;
use crate::kernel::netlink::execute::{Requests, Role, no_link, unsupported};
use crate::kernel::netlink::message::Request;
use crate::model::{Link, LinkChange, LinkKind, LinkOperation};
use crate::net::LinkName;

impl Requests for LinkChange {
    fn links(&self) -> Vec<&LinkName> {
        match &self.1 {
            LinkOperation::Create(link) => link.kind.lower().into_iter().collect(),
            LinkOperation::SetMaster(bridge) => [&self.0].into_iter().chain(bridge).collect(),
            _ => vec![&self.0],
        }
    }

    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>> {
        let LinkChange(name, operation) = self;
        if let LinkOperation::Create(link) = operation {
            return creation(netlink, name, link);
        }
        if let LinkOperation::Delete(_) = operation {
            let entry = netlink.managed(name)?.into_iter();
            return Ok(entry.map(|entry| (delete(entry.index), Role::Delete)).collect());
        }
        let index = netlink.managed_index(name)?;
        let request = match operation {
            LinkOperation::Modify(patch) => {
                let mode = patch
                    .generates_addresses
                    .map(|on| set_generates_addresses(index, on));
                let requests = modify(index, patch).map(|request| (request, Role::Do));
                let mode = mode.map(|request| (request, Role::SetMode));
                return Ok(requests.into_iter().chain(mode).collect());
            }
            LinkOperation::SetUp => set_up(index),
            LinkOperation::SetDown => set_down(index),
            LinkOperation::SetMaster(None) => set_master(index, 0),
            LinkOperation::SetMaster(Some(bridge)) => set_master(index, netlink.managed_index(bridge)?),
            LinkOperation::SetAlias(alias) => set_alias(index, alias),
            LinkOperation::Create(_) | LinkOperation::Delete(_) => return Ok(Vec::new()),
        };
        Ok(vec![(request, Role::Do)])
    }
}

fn creation(netlink: &Netlink, name: &LinkName, link: &Link) -> io::Result<Vec<(Request, Role)>> {
    let lower = match link.kind.lower() {
        Some(lower) => Some(netlink.links.get(lower).ok_or_else(no_link)?.index),
        None => None,
    };
    let peer = match &link.kind {
        LinkKind::Veth(peer) if peer.namespace != netlink.own_namespace => {
            let gone = || io::Error::from_raw_os_error(libc::ENOENT);
            Some(*netlink.ends.get(&peer.namespace).ok_or_else(gone)?)
        }
        _ => None,
    };
    let create = create(name, link, lower, peer, netlink.marks)
        .ok_or_else(|| unsupported("Adit does not create links of this kind"))?;
    Ok(vec![
        (create, Role::Do),
        (find(name), Role::FindCreated(name.clone())),
    ])
}
