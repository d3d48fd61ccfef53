//! Permanent neighbours on devices managed by Adit.

use crate::model::change::{NeighbourChange, Write};
use crate::model::{ChangeSet, Conflict, KernelState, Object, Owner};

pub(super) fn diff(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    for (key @ (link, address), wanted) in &desired.neighbours {
        match observed.neighbours.get(key) {
            Some(found) if found.owner == Owner::Other => set.conflicts.push(Conflict {
                object: Object::Neighbour(link.clone(), *address).into(),
                found: format!("a permanent neighbour {} without Adit's mark", found.mac),
                holder: None,
            }),
            Some(found) if found == wanted => {}
            _ => set.push(NeighbourChange(link.clone(), *address, Write::Put(*wanted))),
        }
    }
    for (key @ (link, address), found) in &observed.neighbours {
        if found.owner == Owner::Adit && !desired.neighbours.contains_key(key) {
            set.push(NeighbourChange(link.clone(), *address, Write::Delete));
        }
    }
}
