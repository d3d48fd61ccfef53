//! Routes.

use crate::model::{Change, ChangeSet, Conflict, KernelState, Object, Owner};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (key, wanted) in &target.routes {
        let change = match observed.routes.get(key) {
            None => Change::CreateRoute(*key, wanted.clone()),
            Some(found) if found.owner == Owner::Foreign => {
                set.conflicts.push(Conflict {
                    object: Object::Route(*key),
                    found: found.kind.to_string(),
                    only_one: None,
                });
                continue;
            }
            Some(found) if found == wanted => continue,
            Some(_) => Change::ReplaceRoute(*key, wanted.clone()),
        };
        set.changes.push(change);
    }
    for (key, found) in &observed.routes {
        if found.owner == Owner::Ours && !target.routes.contains_key(key) {
            set.changes.push(Change::DeleteRoute(*key, found.clone()));
        }
    }
}
