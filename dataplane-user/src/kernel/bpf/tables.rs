//! Writes classes, next hops and groups to slots. Each observation rebuilds the table of slots from the
//! kernel.
//!
//! The order of writes keeps the maps valid if the process dies in between: the counters, the state and the
//! label of a next hop are written before the next hop, and the further slots of a group before its first
//! one. A value to which nothing refers does no harm, and the next observation finds it either complete or as
//! garbage.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{self, GroupMember, NextHopState};

use super::codec;
use super::maps::Maps;
use super::slots::Slots;
use super::snapshot::{Garbage, Snapshot};
use crate::kernel::KernelError;
use crate::model::{Class, Group, NextHop, PrefixTarget};

/// The slots of all values.
#[derive(Debug)]
pub(super) struct Tables {
    classes: BTreeMap<Class, u32>,
    next_hops: BTreeMap<Arc<NextHop>, u32>,
    groups: BTreeMap<Arc<Group>, Vec<u32>>,
    class_slots: Slots,
    next_hop_slots: Slots,
    group_slots: Slots,
    /// The number of next hops of a class, and the number of group members that refer to a next hop, by slot.
    class_uses: BTreeMap<u32, usize>,
    next_hop_uses: BTreeMap<u32, usize>,
    /// Targets to which a prefix still points because changing it failed. They must not be freed.
    held: BTreeSet<u32>,
}

impl Tables {
    /// The tables for maps that were not observed yet.
    pub(super) fn new(maps: &Maps, rest: Duration) -> Tables {
        Tables {
            classes: BTreeMap::new(),
            next_hops: BTreeMap::new(),
            groups: BTreeMap::new(),
            class_slots: Slots::new(maps.classes.capacity(), rest),
            next_hop_slots: Slots::new(maps.next_hops.capacity(), rest),
            group_slots: Slots::new(maps.groups.capacity(), rest),
            class_uses: BTreeMap::new(),
            next_hop_uses: BTreeMap::new(),
            held: BTreeSet::new(),
        }
    }

    /// Replaces the tables with those that were observed.
    pub(super) fn rebuild(&mut self, snapshot: &Snapshot) {
        let garbage = &snapshot.garbage;
        self.classes = snapshot
            .classes
            .iter()
            .map(|(slot, (class, _))| (*class, *slot))
            .collect();
        self.next_hops = snapshot
            .next_hops
            .iter()
            .map(|(slot, next_hop)| (Arc::clone(next_hop), *slot))
            .collect();
        self.groups = snapshot.groups.values().cloned().collect();
        self.class_slots
            .rebuild(|slot| snapshot.classes.contains_key(&slot) || garbage.classes.contains(&slot));
        self.next_hop_slots
            .rebuild(|slot| snapshot.next_hops.contains_key(&slot) || garbage.next_hops.contains(&slot));
        let group_slots: BTreeSet<u32> = self
            .groups
            .values()
            .flatten()
            .chain(&garbage.groups)
            .copied()
            .collect();
        self.group_slots.rebuild(|slot| group_slots.contains(&slot));
        self.class_uses = BTreeMap::new();
        self.next_hop_uses = BTreeMap::new();
        for next_hop in self.next_hops.keys() {
            count(&mut self.class_uses, self.classes.get(&next_hop.class), 1);
        }
        for (next_hop, _) in self.groups.keys().flat_map(|group| &group.members) {
            count(&mut self.next_hop_uses, self.next_hops.get(next_hop), 1);
        }
        self.held = BTreeSet::new();
    }

    /// Zeroes slots with garbage, so that they can be used again, and deletes invalid keys of sources.
    /// Prefixes that point to these slots must be deleted before.
    pub(super) fn sweep(&mut self, maps: &Maps, garbage: &Garbage) -> Result<(), KernelError> {
        for slot in &garbage.groups {
            maps.groups.put(*slot, layout::Group::default())?;
            self.group_slots.release(*slot);
        }
        for slot in &garbage.next_hops {
            maps.next_hops.put(*slot, layout::NextHop::default())?;
            self.next_hop_slots.release(*slot);
        }
        for slot in &garbage.classes {
            maps.classes.put(*slot, layout::Class::default())?;
            self.class_slots.release(*slot);
        }
        garbage
            .sources
            .iter()
            .try_for_each(|key| maps.sources.delete(*key))
    }

    /// Writes a class, or changes the interface index of an existing one.
    pub(super) fn put_class(&mut self, maps: &Maps, class: &Class, ifindex: u32) -> Result<(), KernelError> {
        let raw = codec::encode_class(class, ifindex)?;
        // The other bytes do not change, so a packet sees either the old or the new index and nothing else.
        if let Some(slot) = self.classes.get(class) {
            return maps.classes.put(*slot, raw);
        }
        let slot = take_one(&mut self.class_slots, "class")?;
        put_or_release(&mut self.class_slots, slot, || maps.classes.put(slot, raw))?;
        self.classes.insert(*class, slot);
        Ok(())
    }

    /// Frees a class; a missing one is no error.
    pub(super) fn delete_class(&mut self, maps: &Maps, class: &Class) -> Result<(), KernelError> {
        let Some(slot) = self.classes.get(class).copied() else {
            return Ok(());
        };
        if self.class_uses.contains_key(&slot) {
            return Err(busy("freeing a class", "next hops still use it"));
        }
        maps.classes.put(slot, layout::Class::default())?;
        self.classes.remove(class);
        self.class_slots.release(slot);
        Ok(())
    }

    /// Writes a next hop, which is usable and has counters of zero. An existing one stays unchanged.
    pub(super) fn put_next_hop(&mut self, maps: &Maps, next_hop: &Arc<NextHop>) -> Result<(), KernelError> {
        if self.next_hops.contains_key(next_hop) {
            return Ok(());
        }
        let class = *self
            .classes
            .get(&next_hop.class)
            .ok_or_else(|| missing("writing a next hop", "its class is not in the table"))?;
        let raw = codec::encode_next_hop(next_hop, class)?;
        let label = codec::encode_label(&next_hop.node)?;
        let slot = take_one(&mut self.next_hop_slots, "next-hop")?;
        put_or_release(&mut self.next_hop_slots, slot, || {
            maps.next_hop_counters.reset(slot)?;
            maps.states.put(slot, NextHopState::USABLE)?;
            maps.labels.put(slot, label)?;
            maps.next_hops.put(slot, raw)
        })?;
        self.next_hops.insert(Arc::clone(next_hop), slot);
        count(&mut self.class_uses, Some(&class), 1);
        Ok(())
    }

    /// Marks a next hop as down or usable, in place.
    pub(super) fn set_state(&self, maps: &Maps, next_hop: &NextHop, down: bool) -> Result<(), KernelError> {
        let slot = self.next_hops.get(next_hop).copied();
        let slot = slot.ok_or_else(|| missing("marking a next hop", "it is not in the table"))?;
        let state = if down {
            NextHopState::DOWN
        } else {
            NextHopState::USABLE
        };
        maps.states.put(slot, state)
    }

    /// Frees a next hop; a missing one is no error.
    pub(super) fn delete_next_hop(&mut self, maps: &Maps, next_hop: &NextHop) -> Result<(), KernelError> {
        let Some(slot) = self.next_hops.get(next_hop).copied() else {
            return Ok(());
        };
        if self.next_hop_uses.contains_key(&slot) {
            return Err(busy("freeing a next hop", "groups still use it"));
        }
        self.refuse_if_held("freeing a next hop", TargetKind::NextHop(slot))?;
        maps.next_hops.put(slot, layout::NextHop::default())?;
        self.next_hops.remove(next_hop);
        self.next_hop_slots.release(slot);
        let class = self.classes.get(&next_hop.class);
        count(&mut self.class_uses, class, -1);
        Ok(())
    }

    /// Writes a group. An existing one stays unchanged.
    pub(super) fn put_group(&mut self, maps: &Maps, group: &Arc<Group>) -> Result<(), KernelError> {
        const DOING: &str = "writing a group";
        if self.groups.contains_key(group) {
            return Ok(());
        }
        if group.members.is_empty() || group.members.len() > layout::Group::MAX_MEMBERS {
            let text = format!(
                "a group has 1 to {} next hops, not {}",
                layout::Group::MAX_MEMBERS,
                group.members.len()
            );
            return Err(KernelError::new(
                DOING,
                io::Error::new(io::ErrorKind::InvalidInput, text),
            ));
        }
        if group.members.iter().any(|(_, weight)| *weight == 0) {
            let text = "a weight must not be 0";
            return Err(KernelError::new(
                DOING,
                io::Error::new(io::ErrorKind::InvalidInput, text),
            ));
        }
        let members = group.members.iter().map(|(next_hop, weight)| {
            let slot = self.next_hops.get(next_hop)?;
            Some(GroupMember {
                next_hop: *slot,
                key: codec::member_key(next_hop),
                weight: u32::from(*weight),
            })
        });
        let members = members
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| missing(DOING, "one of its next hops is not in the table"))?;
        let needed = members.len().div_ceil(layout::Group::MEMBERS);
        let slots = take(&mut self.group_slots, needed, "group")?;
        let raw = codec::encode_group(&slots, &members).expect("as many slots as the members need");
        // The first slot is written last: without it there is no group.
        for (slot, raw) in slots.iter().zip(&raw).rev() {
            if let Err(error) = maps.groups.put(*slot, *raw) {
                slots.iter().for_each(|slot| self.group_slots.release(*slot));
                return Err(error);
            }
        }
        for member in &members {
            count(&mut self.next_hop_uses, Some(&member.next_hop), 1);
        }
        self.groups.insert(Arc::clone(group), slots);
        Ok(())
    }

    /// Frees a group; a missing one is no error.
    pub(super) fn delete_group(&mut self, maps: &Maps, group: &Group) -> Result<(), KernelError> {
        let Some(slots) = self.groups.get(group).cloned() else {
            return Ok(());
        };
        if let Some(head) = slots.first() {
            self.refuse_if_held("freeing a group", TargetKind::Group(*head))?;
        }
        // The first slot is freed first: the others are no group then.
        for slot in &slots {
            maps.groups.put(*slot, layout::Group::default())?;
        }
        self.groups.remove(group);
        slots.into_iter().for_each(|slot| self.group_slots.release(slot));
        for (next_hop, _) in &group.members {
            count(&mut self.next_hop_uses, self.next_hops.get(next_hop), -1);
        }
        Ok(())
    }

    /// Encodes a target.
    pub(super) fn target(&self, target: &PrefixTarget) -> Result<layout::PrefixTarget, KernelError> {
        const DOING: &str = "pointing a prefix";
        let kind = match target {
            PrefixTarget::Local => TargetKind::Local,
            PrefixTarget::NextHop(next_hop) => TargetKind::NextHop(
                *self
                    .next_hops
                    .get(next_hop)
                    .ok_or_else(|| missing(DOING, "its next hop is not in the table"))?,
            ),
            PrefixTarget::Group(group) => TargetKind::Group(
                self.groups
                    .get(group)
                    .and_then(|slots| slots.first().copied())
                    .ok_or_else(|| missing(DOING, "its group is not in the table"))?,
            ),
        };
        Ok(layout::PrefixTarget::new(kind))
    }

    /// Prevents that a target is freed before the next observation, because a prefix could not be changed and
    /// still points to it.
    pub(super) fn hold(&mut self, target: layout::PrefixTarget) {
        self.held.insert(target.0);
    }

    fn refuse_if_held(&self, doing: &str, kind: TargetKind) -> Result<(), KernelError> {
        if self.held.contains(&layout::PrefixTarget::new(kind).0) {
            return Err(busy(
                doing,
                "a prefix still points to it, because changing that prefix failed",
            ));
        }
        Ok(())
    }
}

fn count(uses: &mut BTreeMap<u32, usize>, slot: Option<&u32>, change: isize) {
    let Some(slot) = slot else {
        return;
    };
    let used = uses.entry(*slot).or_default();
    *used = used.saturating_add_signed(change);
    if *used == 0 {
        uses.remove(slot);
    }
}

fn take_one(slots: &mut Slots, what: &str) -> Result<u32, KernelError> {
    let taken = take(slots, 1, what)?;
    Ok(*taken.first().expect("one was asked for"))
}

fn take(slots: &mut Slots, count: usize, what: &str) -> Result<Vec<u32>, KernelError> {
    slots.take(count).ok_or_else(|| KernelError {
        context: Some(format!("allocating {count} slots of the {what} table")),
        source: io::Error::from_raw_os_error(libc::ENOSPC),
        kernel_text: Some(format!(
            "the table has {} slots, and {} of them are not reusable yet because they were freed a moment ago",
            slots.capacity(),
            slots.resting()
        )),
    })
}

fn put_or_release(
    slots: &mut Slots,
    slot: u32,
    put: impl FnOnce() -> Result<(), KernelError>,
) -> Result<(), KernelError> {
    let result = put();
    if result.is_err() {
        slots.release(slot);
    }
    result
}

fn busy(doing: &str, why: &str) -> KernelError {
    KernelError {
        context: Some(doing.to_owned()),
        source: io::Error::from_raw_os_error(libc::EBUSY),
        kernel_text: Some(why.to_owned()),
    }
}

fn missing(doing: &str, why: &str) -> KernelError {
    KernelError {
        context: Some(doing.to_owned()),
        source: io::Error::from_raw_os_error(libc::ENOENT),
        kernel_text: Some(why.to_owned()),
    }
}
