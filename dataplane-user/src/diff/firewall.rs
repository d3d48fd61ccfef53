//! The nft table: it is replaced as a whole or not at all.

use crate::model::change::NftChange;
use crate::model::{ChangeSet, Conflict, KernelState, Object, Owner};

/// Runs after the links: if a desired device conflicts with an existing one, no rule names that device.
pub(super) fn diff(observed: &KernelState, desired: &KernelState, set: &mut ChangeSet) {
    let mut wanted = desired.firewall.clone();
    for conflict in &set.conflicts {
        if let (Object::Link(name), Some(wanted)) = (&conflict.object.object, &mut wanted) {
            wanted.forget_link(name);
        }
    }
    let wanted = wanted.filter(|wanted| !wanted.chains.is_empty());
    if observed.firewall_unreadable.is_some() {
        // Its contents stay. Deleting it does not require reading it.
        if wanted.is_none() {
            set.push(NftChange::Delete);
        }
        return;
    }
    match (&observed.firewall, wanted) {
        (None, None) => {}
        (None, Some(wanted)) => set.push(NftChange::Create(Box::new(wanted))),
        (Some(found), wanted) if found.owner == Owner::Other => {
            if wanted.is_some() {
                set.conflicts.push(Conflict {
                    object: Object::Firewall.into(),
                    found: "a table without the comment \"adit\"".to_owned(),
                    holder: None,
                });
            }
        }
        (Some(_), None) => set.push(NftChange::Delete),
        (Some(found), Some(wanted)) if *found == wanted => {}
        (Some(_), Some(wanted)) => set.push(NftChange::Replace(Box::new(wanted))),
    }
}
