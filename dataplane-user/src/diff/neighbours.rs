//! Permanent neighbours on our devices.

use std::net::IpAddr;

use super::order::{Condition, Needs};
use crate::model::change::{NetlinkChange, Write};
use crate::model::{ChangeSet, Conflict, KernelState, Neighbour, Object, Owner};
use crate::net::LinkName;

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (key @ (link, address), wanted) in &target.neighbours {
        match observed.neighbours.get(key) {
            Some(found) if found.owner == Owner::Foreign => set.conflicts.push(Conflict {
                object: Object::Neighbour(link.clone(), *address).into(),
                found: format!("a permanent neighbour {} without our mark", found.mac),
                holder: None,
            }),
            Some(found) if found == wanted => {}
            _ => set.push(NetlinkChange::Neighbour(
                link.clone(),
                *address,
                Write::Put(*wanted),
            )),
        }
    }
    for (key @ (link, address), found) in &observed.neighbours {
        if found.owner == Owner::Ours && !target.neighbours.contains_key(key) {
            set.push(NetlinkChange::Neighbour(link.clone(), *address, Write::Delete));
        }
    }
}

pub(super) fn needs<'a>(
    link: &'a LinkName,
    address: IpAddr,
    write: &Write<Neighbour>,
    needs: &mut Needs<'a>,
) {
    match write {
        Write::Put(_) => {
            needs.requires(Condition::Up(link));
            needs.provides(Condition::Neighbour(link, address));
        }
        Write::Delete => needs.requires(Condition::NeighbourUnused(link, address)),
    }
}
