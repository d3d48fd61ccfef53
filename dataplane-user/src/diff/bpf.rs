//! Contents of BPF maps. Values are identities: a different value is another next hop or group in another
//! slot. Only the link of a class and the target of a prefix change in place, one word each.

use crate::model::change::{
    ClassChange, Existence, GroupChange, NextHopChange, NextHopOperation, PrefixChange, Write,
};
use crate::model::{ChangeSet, KernelState};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    put(observed, target, set);
    delete(observed, target, set);
}

fn put(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (class, link) in &target.classes {
        if let Some(link) = link
            && observed.classes.get(class) != Some(&Some(link.clone()))
        {
            set.push(ClassChange(*class, Write::Put(link.clone())));
        }
    }
    for next_hop in target.next_hops.difference(&observed.next_hops) {
        set.push(NextHopChange(next_hop.clone(), NextHopOperation::Put));
    }
    for next_hop in target.down.difference(&observed.down) {
        set.push(NextHopChange(next_hop.clone(), NextHopOperation::SetDown(true)));
    }
    for next_hop in observed.down.difference(&target.down) {
        if target.next_hops.contains(next_hop) {
            let usable = NextHopOperation::SetDown(false);
            set.push(NextHopChange(next_hop.clone(), usable));
        }
    }
    for group in target.groups.difference(&observed.groups) {
        set.push(GroupChange(group.clone(), Existence::Create));
    }
    for (prefix, leads_to) in &target.prefixes {
        if observed.prefixes.get(prefix) != Some(leads_to) {
            set.push(PrefixChange(*prefix, Write::Put(leads_to.clone())));
        }
    }
}

fn delete(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for prefix in observed.prefixes.keys() {
        if !target.prefixes.contains_key(prefix) {
            set.push(PrefixChange(*prefix, Write::Delete));
        }
    }
    for group in observed.groups.difference(&target.groups) {
        set.push(GroupChange(group.clone(), Existence::Delete));
    }
    for next_hop in observed.next_hops.difference(&target.next_hops) {
        set.push(NextHopChange(next_hop.clone(), NextHopOperation::Delete));
    }
    for class in observed.classes.keys() {
        if !target.classes.contains_key(class) {
            set.push(ClassChange(*class, Write::Delete));
        }
    }
}
