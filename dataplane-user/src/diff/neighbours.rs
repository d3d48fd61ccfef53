//! Permanent neighbours on devices managed by Adit.

use crate::model::change::{NeighbourChange, Write};
use crate::model::{ChangeSet, Conflict, KernelState, Object, Owner};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (key @ (link, address), wanted) in &target.neighbours {
        match observed.neighbours.get(key) {
            Some(found) if found.owner == Owner::Foreign => set.conflicts.push(Conflict {
                object: Object::Neighbour(link.clone(), *address).into(),
                found: format!("a permanent neighbour {} without Adit's mark", found.mac),
                holder: None,
            }),
            Some(found) if found == wanted => {}
            _ => set.push(NeighbourChange(link.clone(), *address, Write::Put(*wanted))),
        }
    }
    for (key @ (link, address), found) in &observed.neighbours {
        if found.owner == Owner::Ours && !target.neighbours.contains_key(key) {
            set.push(NeighbourChange(link.clone(), *address, Write::Delete));
        }
    }
}
