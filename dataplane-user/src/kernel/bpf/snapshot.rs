//! Reads the maps back into values, and separates values from garbage that a crash or another program left
//! there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{self, Counters, SourceKey, UNUSED_SLOT};
use ipnet::IpNet;

use super::codec;
use super::maps::Maps;
use crate::kernel::KernelError;
use crate::model::{Class, Group, NextHop, PrefixTarget, Source};

/// The content of all maps except the counters of sent packets, by slot.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Classes, with the interface indexes of their devices.
    pub(super) classes: BTreeMap<u32, (Class, u32)>,
    /// Next hops.
    pub(super) next_hops: BTreeMap<u32, Arc<NextHop>>,
    /// The next hops that are not usable.
    pub(super) down: BTreeSet<Arc<NextHop>>,
    /// Groups by their first slots, with all their slots in order.
    pub(super) groups: BTreeMap<u32, (Arc<Group>, Vec<u32>)>,
    /// Prefixes.
    pub(super) prefixes: BTreeMap<IpNet, PrefixTarget>,
    /// Known sources, with the packets received from each.
    pub(super) sources: BTreeMap<Source, Counters>,
    /// Garbage.
    pub(super) garbage: Garbage,
}

/// Garbage, which is neither free nor a valid value: an earlier process died between two writes, or another
/// program wrote to the maps.
#[derive(Debug, Default)]
pub(super) struct Garbage {
    pub(super) classes: BTreeSet<u32>,
    pub(super) next_hops: BTreeSet<u32>,
    pub(super) groups: BTreeSet<u32>,
    /// Prefixes that point to no valid value.
    pub(super) prefixes: Vec<IpNet>,
    /// Prefixes that were set to no target.
    pub(super) emptied: Vec<IpNet>,
    /// Invalid keys of sources.
    pub(super) sources: Vec<SourceKey>,
}

impl Garbage {
    /// The number of garbage objects.
    pub(super) fn len(&self) -> usize {
        self.classes.len()
            + self.next_hops.len()
            + self.groups.len()
            + self.prefixes.len()
            + self.emptied.len()
            + self.sources.len()
    }
}

impl Snapshot {
    /// Reads everything.
    pub(super) fn read(maps: &Maps) -> Result<Snapshot, KernelError> {
        let mut snapshot = Snapshot::read_objects(maps)?;
        for (key, target) in maps.prefixes_v4.read_all()? {
            snapshot.add_prefix(codec::prefix_v4(&key), target);
        }
        for (key, target) in maps.prefixes_v6.read_all()? {
            snapshot.add_prefix(codec::prefix_v6(&key), target);
        }
        Ok(snapshot)
    }

    /// Reads everything except the prefixes.
    pub(super) fn read_objects(maps: &Maps) -> Result<Snapshot, KernelError> {
        let mut snapshot = Snapshot::read_forwarding(maps)?;
        snapshot.add_groups(&maps.groups.read_used()?);
        Ok(snapshot)
    }

    /// Reads everything except the prefixes and the groups, which are ten times as large as all the rest.
    pub(super) fn read_forwarding(maps: &Maps) -> Result<Snapshot, KernelError> {
        let mut snapshot = Snapshot::default();
        snapshot.add_classes(&maps.classes.read_used()?);
        let next_hops = maps.next_hops.read_used()?;
        let labels = maps.labels.read_these(next_hops.keys())?;
        snapshot.add_next_hops(&next_hops, &labels);
        let states = maps.states.read_these(next_hops.keys())?.into_iter();
        let down = states.filter(|(_, state)| *state != layout::NextHopState::USABLE);
        let down = down.filter_map(|(slot, _)| snapshot.next_hops.get(&slot).cloned());
        snapshot.down = down.collect();
        snapshot.add_sources(maps.sources.entries()?);
        Ok(snapshot)
    }

    /// The value to which a target points, if it is valid.
    pub(super) fn target(&self, target: layout::PrefixTarget) -> Option<PrefixTarget> {
        match target.kind() {
            TargetKind::Local => Some(PrefixTarget::Local),
            TargetKind::NextHop(slot) => self.next_hops.get(&slot).cloned().map(PrefixTarget::NextHop),
            TargetKind::Group(slot) => self
                .groups
                .get(&slot)
                .map(|(group, _)| PrefixTarget::Group(Arc::clone(group))),
            TargetKind::Empty => None,
        }
    }

    fn add_classes(&mut self, used: &BTreeMap<u32, layout::Class>) {
        let mut known = BTreeSet::new();
        for (slot, raw) in used {
            match codec::decode_class(raw) {
                Some(class) if *slot != UNUSED_SLOT && known.insert(class) => {
                    self.classes.insert(*slot, (class, raw.ifindex));
                }
                // The second of two equal classes is also garbage: its references are changed to the first,
                // so that one of them is left.
                _ => drop(self.garbage.classes.insert(*slot)),
            }
        }
    }

    fn add_next_hops(
        &mut self,
        used: &BTreeMap<u32, layout::NextHop>,
        labels: &BTreeMap<u32, layout::NodeLabel>,
    ) {
        let mut known = BTreeSet::new();
        for (slot, raw) in used {
            let next_hop = self.classes.get(&raw.class).and_then(|(class, _)| {
                let label = labels.get(slot)?;
                codec::decode_next_hop(raw, label, *class).map(Arc::new)
            });
            match next_hop {
                Some(next_hop) if *slot != UNUSED_SLOT && known.insert(Arc::clone(&next_hop)) => {
                    self.next_hops.insert(*slot, next_hop);
                }
                _ => drop(self.garbage.next_hops.insert(*slot)),
            }
        }
    }

    fn add_groups(&mut self, used: &BTreeMap<u32, layout::Group>) {
        let mut known = BTreeSet::new();
        let mut taken = BTreeSet::new();
        for (head, _) in used
            .iter()
            .filter(|(slot, raw)| raw.head == 1 && **slot != UNUSED_SLOT)
        {
            let Some((group, slots)) = self.decode_group(used, *head) else {
                continue;
            };
            if slots.iter().any(|slot| taken.contains(slot)) || !known.insert(Arc::clone(&group)) {
                continue;
            }
            taken.extend(slots.iter().copied());
            self.groups.insert(*head, (group, slots));
        }
        self.garbage.groups = used
            .keys()
            .filter(|slot| !taken.contains(*slot))
            .copied()
            .collect();
    }

    /// Decodes a group from its first slot; `None` if it differs from what [`codec::encode_group`] encodes
    /// for its members.
    fn decode_group(&self, used: &BTreeMap<u32, layout::Group>, head: u32) -> Option<(Arc<Group>, Vec<u32>)> {
        let mut slots = vec![head];
        let mut raw_members = Vec::new();
        let mut raw = used.get(&head)?;
        loop {
            raw_members.extend_from_slice(raw.members.get(..raw.count as usize)?);
            if raw.next == UNUSED_SLOT {
                break;
            }
            if slots.contains(&raw.next) {
                return None;
            }
            slots.push(raw.next);
            raw = used.get(&raw.next)?;
        }
        let written = codec::encode_group(&slots, &raw_members)?;
        if slots
            .iter()
            .zip(&written)
            .any(|(slot, wanted)| used.get(slot) != Some(wanted))
        {
            return None;
        }
        let member = |raw: &layout::GroupMember| {
            let next_hop = self.next_hops.get(&raw.next_hop)?;
            let weight = u8::try_from(raw.weight).ok().filter(|weight| *weight != 0)?;
            let right = raw.key == codec::member_key(next_hop);
            right.then(|| (Arc::clone(next_hop), weight))
        };
        let members = raw_members.iter().map(member).collect::<Option<_>>()?;
        Some((Arc::new(Group { members }), slots))
    }

    fn add_sources(&mut self, entries: Vec<(SourceKey, Counters)>) {
        for (key, counters) in entries {
            match codec::decode_source(&key) {
                Some(source) => drop(self.sources.insert(source, counters)),
                None => self.garbage.sources.push(key),
            }
        }
    }

    fn add_prefix(&mut self, prefix: IpNet, raw: layout::PrefixTarget) {
        match self.target(raw) {
            Some(target) => {
                self.prefixes.insert(prefix, target);
            }
            None if raw.kind() == TargetKind::Empty => self.garbage.emptied.push(prefix),
            None => self.garbage.prefixes.push(prefix),
        }
    }
}
