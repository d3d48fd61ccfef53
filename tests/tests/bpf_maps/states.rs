//! Any state is observed as it was written, also by another process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use adit_tests::Bpffs;
use aya::maps::{Map, MapData, PerCpuHashMap};
use dataplane_ebpf::layout::names;
use dataplane_user::kernel::bpf::{Bpf, LookupTarget};
use dataplane_user::model::change::{BpfChange, Existence, SourceChange};
use dataplane_user::model::{Group, KernelState, PrefixTarget, Source};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, TestRunner};

use super::values::{
    class, difference, execute, link_of, maps, next_hop, observe, open, prefix, small_state, source,
};

/// States that are applied one after another to the same maps.
const STATES: usize = 24;

#[test]
fn any_state_is_observed_as_it_was_written() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    let mut runner = TestRunner::new_with_rng(
        Config::default(),
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let mut last = observe(&mut bpf);
    assert_eq!(last, KernelState::default());
    for step in 0..STATES {
        let wanted = states().new_tree(&mut runner).unwrap().current();
        execute(&mut bpf, &difference(&last, &wanted));
        if step % 8 == 7 {
            drop(bpf);
            bpf = open(&bpffs.path());
        }
        last = observe(&mut bpf);
        assert_eq!(last, wanted, "step {step}");
        assert_eq!(bpf.leftovers(), 0, "step {step}");
    }
}

#[test]
fn large_groups_span_slots_and_keep_their_order() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    let mut state = small_state();
    let hops: Vec<_> = (0..64).rev().map(|number| next_hop(number, class(6))).collect();
    state.next_hops.extend(hops.iter().cloned());
    for count in [4, 5, 63, 64] {
        let members = hops[..count].iter().cloned().zip(1..).collect();
        state.groups.insert(Arc::new(Group { members }));
    }
    execute(&mut bpf, &difference(&KernelState::default(), &state));
    assert_eq!(observe(&mut bpf), state);
    let slots: usize = bpf
        .dump()
        .unwrap()
        .groups
        .iter()
        .map(|group| group.slots.len())
        .sum();
    assert_eq!(slots, 1 + 1 + 2 + 16 + 16);
}

#[test]
fn a_source_that_stays_keeps_its_counters() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    let [stays, goes] = [source(6), source(7)];
    execute(
        &mut bpf,
        &[
            BpfChange::Source(SourceChange(stays, Existence::Create)),
            BpfChange::Source(SourceChange(goes, Existence::Create)),
        ],
    );
    let counted = count(&bpffs.path(), stays) + count(&bpffs.path(), goes);
    assert_eq!(counted, 0);
    receive(&bpffs.path(), 5);

    // By another process, which writes the same entries again.
    drop(bpf);
    let mut bpf = open(&bpffs.path());
    execute(
        &mut bpf,
        &[
            BpfChange::Source(SourceChange(stays, Existence::Create)),
            BpfChange::Source(SourceChange(goes, Existence::Delete)),
        ],
    );
    assert_eq!(
        count(&bpffs.path(), stays),
        5 * aya::util::nr_cpus().unwrap() as u64
    );
    assert_eq!(observe(&mut bpf).sources, BTreeSet::from([stays]));
    // Created again, it starts from zero; deleting a missing entry is no error.
    execute(
        &mut bpf,
        &[
            BpfChange::Source(SourceChange(goes, Existence::Create)),
            BpfChange::Source(SourceChange(source(8), Existence::Delete)),
        ],
    );
    assert_eq!(count(&bpffs.path(), goes), 0);
}

/// The counters of a source.
fn count(bpffs: &Path, source: Source) -> u64 {
    let report = Bpf::open_read_only(bpffs).unwrap().counters().unwrap();
    let mut entries = report.sources.iter();
    entries
        .find(|entry| entry.source == source)
        .expect("it is known")
        .counters
        .packets
}

/// Adds a number of packets per CPU to every known source.
fn receive(bpffs: &Path, packets: u64) {
    let data = MapData::from_pin(maps(bpffs).join(names::SOURCES)).unwrap();
    let mut sources = PerCpuHashMap::<_, [u32; 6], [u64; 2]>::try_from(Map::PerCpuHashMap(data)).unwrap();
    let keys = sources.keys().collect::<Result<Vec<_>, _>>().unwrap();
    for key in keys {
        let values = vec![[packets, packets * 100]; aya::util::nr_cpus().unwrap()];
        sources.insert(key, values.try_into().unwrap(), 0).unwrap();
    }
}

#[test]
fn lookups_use_the_lookup_of_the_kernel() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    execute(&mut bpf, &difference(&KernelState::default(), &small_state()));
    let reader = Bpf::open_read_only(bpffs.path()).unwrap();
    let lookup = |address: &str| reader.lookup(address.parse().unwrap()).unwrap();

    let one = lookup("10.1.2.3");
    assert_eq!(one.prefix, Some(prefix("10.1.0.0/16")));
    let LookupTarget::NextHop(entry) = one.target else {
        panic!("{:?}", one.target);
    };
    assert_eq!(entry.next_hop, next_hop(1, class(6)));
    assert_eq!(lookup("10.2.0.1").target, LookupTarget::Local);
    assert_eq!(lookup("10.3.0.1").target, LookupTarget::NoPrefix);
    let LookupTarget::Group { members, .. } = lookup("fd00:1::1").target else {
        panic!("a group");
    };
    let weights: Vec<_> = members
        .iter()
        .map(|entry| (&entry.next_hop.node, entry.weight))
        .collect();
    assert_eq!(weights.len(), 2);
    assert_eq!(weights[0].0.as_str(), "node-2");
    assert_eq!(weights[0].1, Some(3));

    let dump = reader.dump().unwrap();
    assert_eq!(dump.prefixes.len(), 3);
    assert_eq!(dump.classes[0].ifindex, 1000);
    assert_eq!(reader.counters().unwrap().next_hops.len(), 2);
}

prop_compose! {
    /// One class per VNI, next hops of any class, groups of any next hops, prefixes with any target.
    fn states()(
        vnis in btree_set(0_u32..40, 1..8),
        hops in btree_set(any::<u8>(), 2..40),
        groups in vec(vec((any::<Index>(), 1_u8..), 2..20), 0..12),
        v4 in vec((any::<u32>(), 0_u8..=32, any::<Index>()), 0..150),
        v6 in vec((any::<u128>(), 0_u8..=128, any::<Index>()), 0..150),
        sources in btree_set(any::<u8>(), 0..100),
    ) -> KernelState {
        let classes: Vec<_> = vnis.into_iter().map(class).collect();
        let hops: Vec<_> = hops
            .into_iter()
            .map(|number| next_hop(number, classes[usize::from(number) % classes.len()]))
            .collect();
        let groups: BTreeSet<_> = groups
            .into_iter()
            .map(|members| {
                let members = members.iter().map(|(hop, weight)| (Arc::clone(hop.get(&hops)), *weight)).collect();
                Arc::new(Group { members })
            })
            .collect();
        let targets: Vec<_> = [PrefixTarget::Local]
            .into_iter()
            .chain(hops.iter().cloned().map(PrefixTarget::NextHop))
            .chain(groups.iter().cloned().map(PrefixTarget::Group))
            .collect();
        let v4 = v4.into_iter().map(|(address, length, target)| {
            (IpNet::V4(Ipv4Net::new(address.into(), length).unwrap().trunc()), target.get(&targets).clone())
        });
        let v6 = v6.into_iter().map(|(address, length, target)| {
            (IpNet::V6(Ipv6Net::new(address.into(), length).unwrap().trunc()), target.get(&targets).clone())
        });
        KernelState {
            prefixes: v4.chain(v6).collect(),
            classes: classes.iter().map(|class| (*class, Some(link_of(class)))).collect::<BTreeMap<_, _>>(),
            next_hops: hops.into_iter().collect(),
            groups,
            sources: sources.into_iter().map(source).collect(),
            ..KernelState::default()
        }
    }
}
