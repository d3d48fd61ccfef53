//! The maps. [`dataplane_ebpf::layout`] defines their names, types and sizes; a test compares the BPF object
//! with it.
#![expect(
    unsafe_code,
    reason = "map statics have link sections, map values are pointers"
)]

use core::ptr;

use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_NO_PREALLOC;
use aya_ebpf::macros::map;
use aya_ebpf::maps::lpm_trie::Key;
use aya_ebpf::maps::{Array, LpmTrie, PerCpuArray, PerCpuHashMap};
use dataplane_ebpf::arrive::Sources;
use dataplane_ebpf::decide::Tables;
use dataplane_ebpf::layout::{
    Class, Counters, Group, MAX_CLASSES, MAX_GROUPS, MAX_NEXT_HOPS, MAX_PREFIXES_V4, MAX_PREFIXES_V6,
    MAX_SOURCES, NextHop, NextHopState, NodeLabel, PrefixKeyV4, PrefixKeyV6, PrefixTarget, SourceKey,
};
use dataplane_ebpf::verdict::{IngressVerdict, Verdict};

#[map(name = "adit_prefixes4")]
static PREFIXES_V4: LpmTrie<[u8; 4], PrefixTarget> = LpmTrie::with_max_entries(MAX_PREFIXES_V4, 0);
#[map(name = "adit_prefixes6")]
static PREFIXES_V6: LpmTrie<[u8; 16], PrefixTarget> = LpmTrie::with_max_entries(MAX_PREFIXES_V6, 0);
#[map(name = "adit_classes")]
static CLASSES: Array<Class> = Array::with_max_entries(MAX_CLASSES, 0);
#[map(name = "adit_next_hops")]
static NEXT_HOPS: Array<NextHop> = Array::with_max_entries(MAX_NEXT_HOPS, 0);
#[map(name = "adit_nh_states")]
static NEXT_HOP_STATES: Array<NextHopState> = Array::with_max_entries(MAX_NEXT_HOPS, 0);
/// No program reads it; see [`keep_labels`].
#[map(name = "adit_nh_labels")]
static NEXT_HOP_LABELS: Array<NodeLabel> = Array::with_max_entries(MAX_NEXT_HOPS, 0);
#[map(name = "adit_nh_count")]
static NEXT_HOP_COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(MAX_NEXT_HOPS, 0);
#[map(name = "adit_groups")]
static GROUPS: Array<Group> = Array::with_max_entries(MAX_GROUPS, 0);
#[map(name = "adit_sources")]
static SOURCES: PerCpuHashMap<SourceKey, Counters> =
    PerCpuHashMap::with_max_entries(MAX_SOURCES, BPF_F_NO_PREALLOC);
#[map(name = "adit_egress_cnt")]
static EGRESS_COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(Verdict::COUNT, 0);
#[map(name = "adit_ingres_cnt")]
static INGRESS_COUNTERS: PerCpuArray<Counters> = PerCpuArray::with_max_entries(IngressVerdict::COUNT, 0);

/// Switches logging on. The value is constant after loading, so the verifier removes the code that it
/// disables.
#[unsafe(no_mangle)]
static LOG_ENABLED: Global<u8> = Global::new(0);

/// Whether the loader switched logging on.
#[inline(always)]
pub(super) fn log_enabled() -> bool {
    LOG_ENABLED.load() != 0
}

/// Refers to the map of labels, so that it stays in the object and the loader creates it. `#[used]` would
/// keep it in a second section of the same name, and the BTF of the object, in which names are unique, would
/// not load.
#[inline(always)]
pub(super) fn keep_labels() {
    core::hint::black_box(&NEXT_HOP_LABELS);
}

/// The BPF maps as tables for the decision.
pub(super) struct Maps;

impl Tables for Maps {
    #[inline(always)]
    fn prefix_v4(&self, address: [u8; 4]) -> Option<PrefixTarget> {
        #[repr(C, align(4))]
        struct Aligned(PrefixKeyV4);
        let key = Aligned(PrefixKeyV4 { length: 32, address });
        // SAFETY: one layout, and a packed type may lie anywhere.
        let key = unsafe { &*ptr::from_ref(&key).cast::<Key<[u8; 4]>>() };
        PREFIXES_V4.get(key).map(read_word)
    }

    #[inline(always)]
    fn prefix_v6(&self, address: [u8; 16]) -> Option<PrefixTarget> {
        #[repr(C, align(4))]
        struct Aligned(PrefixKeyV6);
        let key = Aligned(PrefixKeyV6 { length: 128, address });
        // SAFETY: one layout, and a packed type may lie anywhere.
        let key = unsafe { &*ptr::from_ref(&key).cast::<Key<[u8; 16]>>() };
        PREFIXES_V6.get(key).map(read_word)
    }

    #[inline(always)]
    fn group(&self, slot: u32) -> Option<&Group> {
        GROUPS.get(slot)
    }

    #[inline(always)]
    fn next_hop(&self, slot: u32) -> Option<&NextHop> {
        NEXT_HOPS.get(slot)
    }

    #[inline(always)]
    fn class(&self, slot: u32) -> Option<&Class> {
        CLASSES.get(slot)
    }

    #[inline(always)]
    fn state(&self, slot: u32) -> Option<NextHopState> {
        NEXT_HOP_STATES.get(slot).map(read_word)
    }
}

impl Sources for Maps {
    #[inline(always)]
    fn count(&self, key: &SourceKey, length: u32) -> bool {
        let Some(counters) = SOURCES.get_ptr_mut(key) else {
            return false;
        };
        add(counters, length);
        true
    }
}

/// Counts a packet at the egress.
#[inline(always)]
pub(super) fn count_egress(verdict: Verdict, length: u32) {
    count(&EGRESS_COUNTERS, verdict.index(), length);
}

/// Counts a packet that is sent to a next hop.
#[inline(always)]
pub(super) fn count_next_hop(slot: u32, length: u32) {
    count(&NEXT_HOP_COUNTERS, slot, length);
}

/// Counts a packet at the ingress.
#[inline(always)]
pub(super) fn count_ingress(verdict: IngressVerdict, length: u32) {
    count(&INGRESS_COUNTERS, verdict.index(), length);
}

#[inline(always)]
fn count(map: &PerCpuArray<Counters>, index: u32, length: u32) {
    if let Some(counters) = map.get_ptr_mut(index) {
        add(counters, length);
    }
}

/// Adds a packet. No atomic operation is needed: TC programs run with bottom halves disabled, so the value of
/// this CPU has only one writer.
#[inline(always)]
fn add(counters: *mut Counters, length: u32) {
    // SAFETY: the pointer is from a map, and nobody else writes to the value of this CPU.
    let counters = unsafe { &mut *counters };
    counters.packets += 1;
    counters.bytes += u64::from(length);
}

/// Reads a value that the agent may be writing. It is one aligned word, so a partial value is never read.
#[inline(always)]
fn read_word<T: Copy>(value: &T) -> T {
    const { assert!(size_of::<T>() == 4 && align_of::<T>() == 4) };
    // SAFETY: a reference is valid for reads.
    unsafe { ptr::read_volatile(value) }
}
