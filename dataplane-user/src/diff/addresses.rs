//! Addresses on our devices.

use crate::model::{Change, ChangeSet, Conflict, KernelState, Object, Owner};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for ((link, address), wanted) in &target.addresses {
        let change = match observed.addresses.get(&(link.clone(), *address)) {
            None => Change::CreateAddress(link.clone(), *address, *wanted),
            Some(found) if found.owner == Owner::Foreign => {
                set.conflicts.push(Conflict {
                    object: Object::Address(link.clone(), *address),
                    found: "an address without our mark".to_owned(),
                    only_one: None,
                });
                continue;
            }
            Some(found) if found == wanted => continue,
            Some(_) => Change::ReplaceAddress(link.clone(), *address, *wanted),
        };
        set.changes.push(change);
    }
    for ((link, address), found) in &observed.addresses {
        if found.owner == Owner::Ours && !target.addresses.contains_key(&(link.clone(), *address)) {
            set.changes.push(Change::DeleteAddress(link.clone(), *address));
        }
    }
}
