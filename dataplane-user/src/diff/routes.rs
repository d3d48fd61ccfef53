//! Routes.

use crate::model::change::{RouteChange, RouteOperation};
use crate::model::{ChangeSet, Conflict, KernelState, Object, Owner};

pub(super) fn diff(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    for (key, wanted) in &desired.routes {
        let operation = match observed.routes.get(key) {
            None => RouteOperation::Create(wanted.clone()),
            Some(found) if found.owner != Owner::Adit => {
                set.conflicts.push(Conflict {
                    object: Object::Route(*key).into(),
                    found: found.kind.to_string(),
                    holder: None,
                });
                continue;
            }
            Some(found) if wanted.kind == found.kind => continue,
            Some(_) => RouteOperation::Replace(wanted.clone()),
        };
        set.push(RouteChange(*key, operation));
    }
    for (key, found) in &observed.routes {
        if found.owner == Owner::Adit && !desired.routes.contains_key(key) {
            set.push(RouteChange(*key, RouteOperation::Delete(found.clone())));
        }
    }
}
