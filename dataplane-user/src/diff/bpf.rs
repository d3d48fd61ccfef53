//! Map contents. Values are identities: what differs is another next hop or group in another slot, so only a class's
//! link and a prefix's target change in place, each one word.

use std::sync::Arc;

use crate::model::{Change, ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    let changes = &mut set.changes;
    for (class, link) in &target.classes {
        if let Some(link) = link
            && observed.classes.get(class) != Some(&Some(link.clone()))
        {
            changes.push(Change::PutClass(*class, link.clone()));
        }
    }
    let new = |next_hop: &&Arc<_>| !observed.next_hops.contains(*next_hop);
    changes.extend(
        target
            .next_hops
            .iter()
            .filter(new)
            .cloned()
            .map(Change::PutNextHop),
    );
    let down = target
        .down
        .iter()
        .filter(|next_hop| !observed.down.contains(*next_hop));
    changes.extend(
        down.cloned()
            .map(|next_hop| Change::SetNextHopDown(next_hop, true)),
    );
    let still = |next_hop: &&Arc<_>| target.next_hops.contains(*next_hop) && !target.down.contains(*next_hop);
    let usable = observed.down.iter().filter(still);
    changes.extend(
        usable
            .cloned()
            .map(|next_hop| Change::SetNextHopDown(next_hop, false)),
    );
    changes.extend(
        target
            .groups
            .difference(&observed.groups)
            .cloned()
            .map(Change::PutGroup),
    );
    for (prefix, leads_to) in &target.prefixes {
        if observed.prefixes.get(prefix) != Some(leads_to) {
            changes.push(Change::PutPrefix(*prefix, leads_to.clone()));
        }
    }

    let gone = observed
        .prefixes
        .keys()
        .filter(|prefix| !target.prefixes.contains_key(prefix));
    changes.extend(gone.copied().map(Change::DeletePrefix));
    changes.extend(
        observed
            .groups
            .difference(&target.groups)
            .cloned()
            .map(Change::DeleteGroup),
    );
    changes.extend(
        observed
            .next_hops
            .difference(&target.next_hops)
            .cloned()
            .map(Change::DeleteNextHop),
    );
    let gone = observed
        .classes
        .keys()
        .filter(|class| !target.classes.contains_key(class));
    changes.extend(gone.copied().map(Change::DeleteClass));
}
