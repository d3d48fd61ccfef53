//! The nft table: it is replaced as a whole, or not at all.

use crate::model::{Change, ChangeSet, Conflict, KernelState, Object, Owner};

/// Comes after the links: where one of ours can't be had, no rule is about the one that stands there.
pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    let mut wanted = target.firewall.clone();
    for conflict in &set.conflicts {
        if let (Object::Link(name), Some(wanted)) = (&conflict.object, &mut wanted) {
            wanted.forget_link(name);
        }
    }
    let wanted = wanted.filter(|wanted| !wanted.chains.is_empty());
    if observed.firewall_unreadable.is_some() {
        // What is in it stays; to delete it, nobody has to know.
        if wanted.is_none() {
            set.changes.push(Change::DeleteFirewall);
        }
        return;
    }
    match (&observed.firewall, wanted) {
        (None, None) => {}
        (None, Some(wanted)) => set.changes.push(Change::CreateFirewall(Box::new(wanted))),
        (Some(found), wanted) if found.owner == Owner::Foreign => {
            if wanted.is_some() {
                set.conflicts.push(Conflict {
                    object: Object::Firewall,
                    found: "a table without the comment \"adit\"".to_owned(),
                    only_one: None,
                });
            }
        }
        (Some(_), None) => set.changes.push(Change::DeleteFirewall),
        (Some(found), Some(wanted)) if *found == wanted => {}
        (Some(_), Some(wanted)) => set.changes.push(Change::ReplaceFirewall(Box::new(wanted))),
    }
}
