//! Map contents. Values are identities: what differs is another next hop or group in another slot, so only a class's
//! link and a prefix's target change in place, each one word.

use ipnet::IpNet;

use super::order::{Around, Condition, Needs};
use super::routes;
use crate::model::change::{BpfChange, Existence, NextHopOperation, Write};
use crate::model::{Carrier, ChangeSet, Class, KernelState, NextHop, Target};

pub(super) fn diff(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    put(observed, target, set);
    delete(observed, target, set);
}

fn put(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for (class, link) in &target.classes {
        if let Some(link) = link
            && observed.classes.get(class) != Some(&Some(link.clone()))
        {
            set.push(BpfChange::Class(*class, Write::Put(link.clone())));
        }
    }
    for next_hop in target.next_hops.difference(&observed.next_hops) {
        set.push(BpfChange::NextHop(next_hop.clone(), NextHopOperation::Put));
    }
    for next_hop in target.down.difference(&observed.down) {
        set.push(BpfChange::NextHop(
            next_hop.clone(),
            NextHopOperation::SetDown(true),
        ));
    }
    for next_hop in observed.down.difference(&target.down) {
        if target.next_hops.contains(next_hop) {
            let usable = NextHopOperation::SetDown(false);
            set.push(BpfChange::NextHop(next_hop.clone(), usable));
        }
    }
    for group in target.groups.difference(&observed.groups) {
        set.push(BpfChange::Group(group.clone(), Existence::Create));
    }
    for (prefix, leads_to) in &target.prefixes {
        if observed.prefixes.get(prefix) != Some(leads_to) {
            set.push(BpfChange::Prefix(*prefix, Write::Put(leads_to.clone())));
        }
    }
}

fn delete(observed: &KernelState, target: &KernelState, set: &mut ChangeSet) {
    for prefix in observed.prefixes.keys() {
        if !target.prefixes.contains_key(prefix) {
            set.push(BpfChange::Prefix(*prefix, Write::Delete));
        }
    }
    for group in observed.groups.difference(&target.groups) {
        set.push(BpfChange::Group(group.clone(), Existence::Delete));
    }
    for next_hop in observed.next_hops.difference(&target.next_hops) {
        set.push(BpfChange::NextHop(next_hop.clone(), NextHopOperation::Delete));
    }
    for class in observed.classes.keys() {
        if !target.classes.contains_key(class) {
            set.push(BpfChange::Class(*class, Write::Delete));
        }
    }
}

pub(super) fn needs<'a>(change: &'a BpfChange, around: Around<'a>, needs: &mut Needs<'a>) {
    match change {
        BpfChange::Class(class, Write::Put(link)) => {
            needs.requires(Condition::Up(link));
            needs.provides(Condition::Class(class));
            needs.provides(Condition::Maps);
            release_class(class, around, needs);
        }
        BpfChange::Class(class, Write::Delete) => {
            needs.requires(Condition::ClassUnused(class));
            release_class(class, around, needs);
        }
        BpfChange::NextHop(next_hop, operation) => of_next_hop(next_hop, *operation, needs),
        BpfChange::Group(group, Existence::Create) => {
            for (member, _) in &group.members {
                needs.requires(Condition::NextHop(member));
            }
            needs.provides(Condition::Group(group));
            needs.provides(Condition::Maps);
        }
        BpfChange::Group(group, Existence::Delete) => {
            needs.requires(Condition::GroupUnused(group));
            for (member, _) in &group.members {
                needs.provides(Condition::NextHopUnused(member));
            }
        }
        BpfChange::Prefix(prefix, Write::Put(target)) => {
            require_target(prefix, target, around, needs);
            needs.provides(Condition::Maps);
            routes::led(*prefix, around, needs);
            release_prefix(prefix, around, needs);
        }
        BpfChange::Prefix(prefix, Write::Delete) => {
            routes::require_led(*prefix, around, needs);
            release_prefix(prefix, around, needs);
        }
        BpfChange::Program(..) | BpfChange::DeleteVersion(_) | BpfChange::Source(..) => {}
    }
}

fn of_next_hop<'a>(next_hop: &'a NextHop, operation: NextHopOperation, needs: &mut Needs<'a>) {
    match operation {
        NextHopOperation::Put => {
            needs.requires(Condition::Class(&next_hop.class));
            needs.provides(Condition::NextHop(next_hop));
            needs.provides(Condition::Maps);
        }
        NextHopOperation::SetDown(_) => {
            needs.requires(Condition::NextHop(next_hop));
            needs.provides(Condition::Maps);
        }
        NextHopOperation::Delete => {
            needs.requires(Condition::NextHopUnused(next_hop));
            needs.provides(Condition::ClassUnused(&next_hop.class));
            needs.provides(Condition::SourceUnused(next_hop.remote));
        }
    }
}

/// What a prefix leads to, and what takes its packets there.
fn require_target<'a>(prefix: &IpNet, target: &'a Target, around: Around<'a>, needs: &mut Needs<'a>) {
    if let Target::Group(group) = target {
        needs.requires(Condition::Group(group));
    }
    for next_hop in target.next_hops() {
        needs.requires(Condition::NextHop(next_hop));
        needs.requires(Condition::Class(&next_hop.class));
        let link = around
            .target
            .classes
            .get(&next_hop.class)
            .and_then(Option::as_ref);
        if let Some(link) = link.filter(|_| next_hop.class.carrier == Carrier::WireGuard) {
            needs.requires(Condition::Allowed(link, *prefix));
        }
    }
}

fn release_class<'a>(class: &Class, around: Around<'a>, needs: &mut Needs<'a>) {
    if let Some(Some(link)) = around.observed.classes.get(class) {
        needs.provides(Condition::LinkUnused(link));
    }
}

fn release_prefix<'a>(prefix: &IpNet, around: Around<'a>, needs: &mut Needs<'a>) {
    let Some(former) = around.observed.prefixes.get(prefix) else {
        return;
    };
    match former {
        Target::NextHop(next_hop) => needs.provides(Condition::NextHopUnused(next_hop)),
        Target::Group(group) => needs.provides(Condition::GroupUnused(group)),
        Target::Local => {}
    }
    for next_hop in former
        .next_hops()
        .filter(|next_hop| next_hop.class.carrier == Carrier::WireGuard)
    {
        if let Some(Some(link)) = around.observed.classes.get(&next_hop.class) {
            needs.provides(Condition::AllowedUnused(link, *prefix));
        }
    }
}
