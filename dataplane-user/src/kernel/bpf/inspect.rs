//! The content of the maps for people and metrics: counters, the lookup of one address, or everything. `adit
//! map` (also as JSON), the status and the metrics use the same types.

mod json;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{self, Counters, NextHopState, PrefixKeyV4, PrefixKeyV6, names};
use dataplane_ebpf::verdict::{IngressVerdict, Verdict};
use ipnet::IpNet;
use serde::Serialize;

use self::json::{CountersJson, NextHopJson, SourceJson, members, state};
use super::codec;
use super::maps::Maps;
use super::snapshot::Snapshot;
use crate::as_text;
use crate::kernel::KernelError;
use crate::limits;
use crate::model::{Class, Group, NextHop, PrefixTarget, Source};
use crate::net::NodeName;

/// The counters of one verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct VerdictCount {
    /// The stable name of the verdict.
    #[serde(rename = "verdict")]
    pub name: &'static str,
    /// The explanation of the verdict, one sentence.
    pub explanation: &'static str,
    /// Its packets and bytes.
    #[serde(flatten, with = "CountersJson")]
    pub counters: Counters,
}

/// All counters, summed over the CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CounterReport {
    /// The verdicts of the egress program, in the order of [`Verdict`].
    pub egress: Vec<VerdictCount>,
    /// The verdicts of the ingress programs, in the order of [`IngressVerdict`].
    pub ingress: Vec<VerdictCount>,
    /// Packets sent to each next hop, by slot.
    pub next_hops: Vec<NextHopEntry>,
    /// Packets received from each known source, in order.
    pub sources: Vec<SourceEntry>,
    /// The classes of the next hops, with their devices.
    #[serde(skip)]
    pub classes: Vec<ClassEntry>,
}

/// The usage of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapUsage {
    /// The name of the map and of its pin.
    pub name: &'static str,
    /// The number of its entries, or of its used slots.
    pub entries: usize,
    /// The maximum number of entries or slots.
    pub capacity: u32,
}

/// A next hop in its slot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NextHopEntry {
    /// Its slot.
    pub slot: u32,
    /// The next hop.
    #[serde(flatten, with = "NextHopJson")]
    pub next_hop: Arc<NextHop>,
    /// Whether it may be chosen.
    #[serde(serialize_with = "state")]
    pub state: NextHopState,
    /// Its weight as a member of a group.
    pub weight: Option<u8>,
    /// Packets sent to it.
    #[serde(flatten, with = "CountersJson")]
    pub counters: Counters,
}

/// A class in its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClassEntry {
    /// Its slot.
    pub slot: u32,
    /// The class.
    #[serde(serialize_with = "as_text::serialize")]
    pub class: Class,
    /// The interface index of its device.
    pub ifindex: u32,
}

/// A known source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceEntry {
    /// The source.
    #[serde(flatten, with = "SourceJson")]
    pub source: Source,
    /// The node that has this address, once [`name_sources`] has found it.
    pub node: Option<String>,
    /// Packets received from it.
    #[serde(flatten, with = "CountersJson")]
    pub counters: Counters,
}

/// A group in its slots.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupEntry {
    /// Its slots, the first one first.
    pub slots: Vec<u32>,
    /// The group.
    #[serde(rename = "members", serialize_with = "members")]
    pub group: Arc<Group>,
}

/// A prefix and its target; `None` if the target can't be decoded, so that its packets are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PrefixEntry {
    /// The prefix.
    #[serde(serialize_with = "as_text::serialize")]
    pub prefix: IpNet,
    /// The target.
    #[serde(serialize_with = "as_text::optional::serialize")]
    pub target: Option<PrefixTarget>,
}

/// The result of the kernel's own lookup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupResult {
    /// The address that was looked up.
    pub address: IpAddr,
    /// The longest prefix that covers it; `None` if there is none.
    pub prefix: Option<IpNet>,
    /// The target.
    pub target: LookupTarget,
}

/// The target of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupTarget {
    /// No prefix covers it.
    NoPrefix,
    /// The target can't be decoded, because of a bug or because another program writes to the maps.
    Broken,
    /// This node advertises it.
    Local,
    /// One next hop.
    NextHop(NextHopEntry),
    /// A group.
    Group {
        /// The slots of the group, the first one first.
        slots: Vec<u32>,
        /// Its members in order, with their weights.
        members: Vec<NextHopEntry>,
    },
}

impl LookupTarget {
    /// The stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            LookupTarget::NoPrefix => "none",
            LookupTarget::Broken => "broken",
            LookupTarget::Local => "local",
            LookupTarget::NextHop(_) => "next_hop",
            LookupTarget::Group { .. } => "group",
        }
    }

    /// The next hops of the target.
    #[must_use]
    pub fn next_hops(&self) -> &[NextHopEntry] {
        match self {
            LookupTarget::NoPrefix | LookupTarget::Broken | LookupTarget::Local => &[],
            LookupTarget::NextHop(entry) => std::slice::from_ref(entry),
            LookupTarget::Group { members, .. } => members,
        }
    }
}

/// Everything that the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dump {
    /// Prefixes in order.
    pub prefixes: Vec<PrefixEntry>,
    /// Groups by their first slot.
    pub groups: Vec<GroupEntry>,
    /// Next hops by slot.
    pub next_hops: Vec<NextHopEntry>,
    /// Classes by slot.
    pub classes: Vec<ClassEntry>,
    /// Known sources in order.
    pub sources: Vec<SourceEntry>,
    /// The number of used slots that can't be decoded.
    pub unreadable_slots: usize,
}

/// Finds the node of each source: by the next hops to its address, else by the underlay addresses of peers.
pub fn name_sources(
    sources: &mut [SourceEntry],
    next_hops: &[NextHopEntry],
    peers: &BTreeMap<IpAddr, NodeName>,
) {
    let named = next_hops.iter().map(|entry| {
        let NextHop {
            node, remote, class, ..
        } = &*entry.next_hop;
        ((*remote, class.tunnel, class.vni), node)
    });
    let named = named.collect::<BTreeMap<_, _>>();
    for SourceEntry { source, node, .. } in sources {
        let by_next_hop = named.get(&(source.address, source.tunnel, source.vni));
        let by_peer = || peers.get(&source.address).map(ToString::to_string);
        *node = by_next_hop.map(ToString::to_string).or_else(by_peer);
    }
}

pub(super) fn counters(maps: &Maps) -> Result<CounterReport, KernelError> {
    let egress = maps.egress_counters.read_all()?;
    let ingress = maps.ingress_counters.read_all()?;
    let count = |(name, explanation), counters: &Counters| VerdictCount {
        name,
        explanation,
        counters: *counters,
    };
    let egress_names = Verdict::ALL
        .iter()
        .map(|verdict| (verdict.name(), verdict.explanation()));
    let ingress_names = IngressVerdict::ALL
        .iter()
        .map(|verdict| (verdict.name(), verdict.explanation()));
    let snapshot = Snapshot::read_forwarding(maps)?;
    Ok(CounterReport {
        egress: egress_names
            .zip(&egress)
            .map(|(name, value)| count(name, value))
            .collect(),
        ingress: ingress_names
            .zip(&ingress)
            .map(|(name, value)| count(name, value))
            .collect(),
        next_hops: next_hops(maps, &snapshot)?,
        classes: classes(&snapshot),
        sources: sources(&snapshot),
    })
}

pub(super) fn usage(maps: &Maps) -> Result<Vec<MapUsage>, KernelError> {
    let snapshot = Snapshot::read_objects(maps)?;
    let group_slots = snapshot.groups.values().map(|(_, slots)| slots.len()).sum();
    let prefixes_v4 = maps.prefixes_v4.read_all()?.len();
    let prefixes_v6 = maps.prefixes_v6.read_all()?.len();
    // Slot 0 of an array is never used, so that a zeroed reference refers to nothing.
    let usage = |name, entries, capacity| MapUsage {
        name,
        entries,
        capacity,
    };
    Ok(vec![
        usage(names::PREFIXES_V4, prefixes_v4, maps.prefixes_v4.capacity()),
        usage(names::PREFIXES_V6, prefixes_v6, maps.prefixes_v6.capacity()),
        usage(
            names::CLASSES,
            snapshot.classes.len(),
            maps.classes.capacity() - 1,
        ),
        usage(
            names::NEXT_HOPS,
            snapshot.next_hops.len(),
            maps.next_hops.capacity() - 1,
        ),
        usage(names::GROUPS, group_slots, maps.groups.capacity() - 1),
        usage(
            names::SOURCES,
            snapshot.sources.len() + snapshot.garbage.sources.len(),
            maps.sources.capacity(),
        ),
    ])
}

pub(super) fn dump(maps: &Maps) -> Result<Dump, KernelError> {
    let snapshot = Snapshot::read(maps)?;
    let next_hops = next_hops(maps, &snapshot)?;
    let (classes, sources) = (classes(&snapshot), sources(&snapshot));
    let garbage = snapshot.garbage;
    let readable = snapshot.prefixes.into_iter().map(|(prefix, target)| PrefixEntry {
        prefix,
        target: Some(target),
    });
    let broken = garbage
        .prefixes
        .iter()
        .chain(&garbage.emptied)
        .map(|prefix| PrefixEntry {
            prefix: *prefix,
            target: None,
        });
    let mut prefixes: Vec<PrefixEntry> = readable.chain(broken).collect();
    prefixes.sort_by_key(|entry| entry.prefix);
    let group = |(group, slots)| GroupEntry { slots, group };
    Ok(Dump {
        classes,
        next_hops,
        groups: snapshot.groups.into_values().map(group).collect(),
        prefixes,
        sources,
        unreadable_slots: garbage.classes.len()
            + garbage.next_hops.len()
            + garbage.groups.len()
            + garbage.sources.len(),
    })
}

pub(super) fn lookup(maps: &Maps, address: IpAddr) -> Result<LookupResult, KernelError> {
    let raw = match address {
        IpAddr::V4(v4) => maps.prefixes_v4.get(PrefixKeyV4 {
            length: 32,
            address: v4.octets(),
        })?,
        IpAddr::V6(v6) => maps.prefixes_v6.get(PrefixKeyV6 {
            length: 128,
            address: v6.octets(),
        })?,
    };
    let Some(raw) = raw else {
        return Ok(LookupResult {
            address,
            prefix: None,
            target: LookupTarget::NoPrefix,
        });
    };
    Ok(LookupResult {
        address,
        prefix: covering_prefix(maps, address)?,
        target: resolve(maps, raw)?,
    })
}

/// The prefix that matches an address. The kernel's lookup returns the value but not the key, so this reads
/// the keys.
fn covering_prefix(maps: &Maps, address: IpAddr) -> Result<Option<IpNet>, KernelError> {
    let prefixes: Vec<IpNet> = match address {
        IpAddr::V4(_) => {
            let all = maps.prefixes_v4.read_all()?;
            all.iter().map(|(key, _)| codec::prefix_v4(key)).collect()
        }
        IpAddr::V6(_) => {
            let all = maps.prefixes_v6.read_all()?;
            all.iter().map(|(key, _)| codec::prefix_v6(key)).collect()
        }
    };
    let covering = prefixes.into_iter().filter(|prefix| prefix.contains(&address));
    Ok(covering.max_by_key(IpNet::prefix_len))
}

fn resolve(maps: &Maps, raw: layout::PrefixTarget) -> Result<LookupTarget, KernelError> {
    let snapshot = Snapshot::read_objects(maps)?;
    let entry = |slot: u32| match snapshot.next_hops.get(&slot) {
        Some(next_hop) => next_hop_entry(maps, slot, next_hop),
        None => Err(KernelError::new(
            "reading a next hop",
            std::io::ErrorKind::NotFound.into(),
        )),
    };
    let slot_of = |next_hop: &Arc<NextHop>| {
        let mut slots = snapshot.next_hops.iter();
        slots.find_map(|(slot, known)| (known == next_hop).then_some(*slot))
    };
    match (raw.kind(), snapshot.target(raw)) {
        (TargetKind::Local, _) => Ok(LookupTarget::Local),
        (TargetKind::NextHop(slot), Some(_)) => entry(slot).map(LookupTarget::NextHop),
        (TargetKind::Group(head), Some(PrefixTarget::Group(group))) => {
            let member = |(next_hop, weight): &(Arc<NextHop>, u8)| {
                let slot = slot_of(next_hop).expect("a group is read from next hops that were read");
                Ok(NextHopEntry {
                    weight: Some(*weight),
                    ..entry(slot)?
                })
            };
            Ok(LookupTarget::Group {
                slots: snapshot
                    .groups
                    .get(&head)
                    .map(|(_, slots)| slots.clone())
                    .unwrap_or_default(),
                members: group
                    .members
                    .iter()
                    .map(member)
                    .collect::<Result<_, KernelError>>()?,
            })
        }
        _ => Ok(LookupTarget::Broken),
    }
}

fn classes(snapshot: &Snapshot) -> Vec<ClassEntry> {
    let class = |(slot, (class, ifindex)): (&u32, &(Class, u32))| ClassEntry {
        slot: *slot,
        class: *class,
        ifindex: *ifindex,
    };
    snapshot.classes.iter().map(class).collect()
}

fn sources(snapshot: &Snapshot) -> Vec<SourceEntry> {
    let source = |(source, counters): (&Source, &Counters)| SourceEntry {
        source: *source,
        node: None,
        counters: *counters,
    };
    snapshot.sources.iter().map(source).collect()
}

fn next_hop_entry(maps: &Maps, slot: u32, next_hop: &Arc<NextHop>) -> Result<NextHopEntry, KernelError> {
    Ok(NextHopEntry {
        slot,
        next_hop: Arc::clone(next_hop),
        state: maps.states.get(slot)?.unwrap_or_default(),
        weight: None,
        counters: maps.next_hop_counters.get(slot)?,
    })
}

fn next_hops(maps: &Maps, snapshot: &Snapshot) -> Result<Vec<NextHopEntry>, KernelError> {
    // Read them one by one if they are few, as they usually are: reading all would sum the counters of all
    // CPUs for every slot.
    if snapshot.next_hops.len() <= limits::MAP_ONE_BY_ONE {
        let used = snapshot.next_hops.iter();
        return used
            .map(|(slot, next_hop)| next_hop_entry(maps, *slot, next_hop))
            .collect();
    }
    let counters = maps.next_hop_counters.read_all()?;
    let states = maps.states.read_these(snapshot.next_hops.keys())?;
    let entry = |(slot, next_hop): (&u32, &Arc<NextHop>)| NextHopEntry {
        slot: *slot,
        next_hop: Arc::clone(next_hop),
        state: states.get(slot).copied().unwrap_or(NextHopState::USABLE),
        weight: None,
        // The entries of an array are in the order of their indexes.
        counters: counters.get(*slot as usize).copied().unwrap_or_default(),
    };
    Ok(snapshot.next_hops.iter().map(entry).collect())
}
