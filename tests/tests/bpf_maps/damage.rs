//! State left by a crashed process, and damage by others: it is detected and cleaned up.

use adit_tests::Bpffs;
use aya::maps::{Map, MapData, PerCpuHashMap};
use dataplane_ebpf::layout::{self, names};
use dataplane_user::kernel::bpf::LookupTarget;
use dataplane_user::model::KernelState;
use dataplane_user::model::change::{BpfChange, ClassChange, Existence, PrefixChange, SourceChange, Write};

use super::values::{
    class, difference, execute, link_of, maps, next_hop, observe, open, prefix, scribble, small_state, source,
};

#[test]
fn a_next_hop_without_its_label_is_rewritten() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    let wanted = small_state();
    execute(&mut bpf, &difference(&KernelState::default(), &wanted));
    let dump = bpf.dump().unwrap();
    let damaged = dump
        .next_hops
        .iter()
        .find(|entry| entry.next_hop == next_hop(1, class(6)))
        .unwrap();
    scribble(&bpffs.path(), names::NEXT_HOP_LABELS, damaged.slot, [0_u8; 64]);

    let found = observe(&mut bpf);
    // The group that refers to it and the prefixes of both are deleted, too.
    assert_eq!(found.next_hops.len(), 1);
    assert!(found.groups.is_empty());
    assert_eq!(
        found.prefixes.keys().copied().collect::<Vec<_>>(),
        [prefix("10.2.0.0/16")]
    );
    assert_eq!(bpf.leftovers(), 4);
    execute(&mut bpf, &difference(&found, &wanted));
    assert_eq!(observe(&mut bpf), wanted);
    assert_eq!(bpf.leftovers(), 0);
}

#[test]
fn a_key_that_belongs_to_no_source_is_removed() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    execute(
        &mut bpf,
        &[BpfChange::Source(SourceChange(source(1), Existence::Create))],
    );
    let data = MapData::from_pin(maps(&bpffs.path()).join(names::SOURCES)).unwrap();
    let mut sources = PerCpuHashMap::<_, [u8; 24], [u64; 2]>::try_from(Map::PerCpuHashMap(data)).unwrap();
    let zero = vec![[0_u64; 2]; aya::util::nr_cpus().unwrap()];
    sources.insert([0xff; 24], zero.try_into().unwrap(), 0).unwrap();
    assert_eq!(
        observe(&mut bpf).sources.into_iter().collect::<Vec<_>>(),
        [source(1)]
    );
    assert_eq!(bpf.leftovers(), 1);
    execute(&mut bpf, &[]);
    assert_eq!(observe(&mut bpf).sources.len(), 1);
    assert_eq!(bpf.leftovers(), 0);
    assert_eq!(sources.keys().count(), 1);
}

#[test]
fn a_prefix_without_a_valid_target_is_emptied_then_removed() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    let wanted = small_state();
    execute(&mut bpf, &difference(&KernelState::default(), &wanted));
    // An incomplete deletion: the next hop is deleted, but its prefix is not.
    let dump = bpf.dump().unwrap();
    let group = dump.groups[0].slots[0];
    scribble(&bpffs.path(), names::GROUPS, group, [0_u8; 64]);
    let mut without = observe(&mut bpf);
    assert_eq!(bpf.leftovers(), 1);
    assert!(!without.prefixes.contains_key(&prefix("fd00:1::/64")));
    // A longer prefix with an invalid target must not fall back to this one.
    execute(
        &mut bpf,
        &[BpfChange::Prefix(PrefixChange(
            prefix("fd00::/16"),
            Write::Put(dataplane_user::model::PrefixTarget::Local),
        ))],
    );
    let lookup = bpf.lookup("fd00:1::1".parse().unwrap()).unwrap();
    assert_eq!(lookup.target, LookupTarget::Broken);
    without
        .prefixes
        .insert(prefix("fd00::/16"), dataplane_user::model::PrefixTarget::Local);
    assert_eq!(observe(&mut bpf), without);
    assert_eq!(bpf.leftovers(), 1);
    execute(&mut bpf, &[]);
    assert_eq!(observe(&mut bpf), without);
    assert_eq!(bpf.leftovers(), 0);
    assert_eq!(
        bpf.lookup("fd00:1::1".parse().unwrap()).unwrap().target,
        LookupTarget::Local
    );
}

#[test]
fn damaged_entries_are_zeroed() {
    let bpffs = Bpffs::new();
    let path = bpffs.path();
    let mut bpf = open(&path);
    let wanted = small_state();
    execute(&mut bpf, &difference(&KernelState::default(), &wanted));
    scribble(&path, names::CLASSES, 0, [0xff_u8; size_of::<layout::Class>()]);
    scribble(&path, names::CLASSES, 77, [0xff_u8; size_of::<layout::Class>()]);
    scribble(
        &path,
        names::NEXT_HOPS,
        78,
        [0xff_u8; size_of::<layout::NextHop>()],
    );
    scribble(&path, names::GROUPS, 79, [0xff_u8; size_of::<layout::Group>()]);
    // A whole class, twice.
    let twin = layout::Class {
        ifindex: 1000,
        vni: 6,
        source_mac: [2, 0, 0, 0, 0, 1],
        encapsulation: layout::Class::GENEVE,
        ttl: 64,
        tos: 46 << 2,
        flags: layout::Class::INNER_ETHERNET | layout::Class::TUNNEL_KEY,
        ..layout::Class::default()
    };
    scribble::<32>(&path, names::CLASSES, 80, bytemuck::cast(twin));

    drop(bpf);
    let mut bpf = open(&path);
    assert_eq!(observe(&mut bpf), wanted);
    assert_eq!(bpf.leftovers(), 5);
    assert_eq!(bpf.dump().unwrap().unreadable_slots, 5);
    execute(&mut bpf, &[]);
    assert_eq!(observe(&mut bpf), wanted);
    assert_eq!(bpf.leftovers(), 0);
}

#[test]
fn a_class_of_a_recreated_device_is_updated_in_place() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    let wanted = small_state();
    execute(&mut bpf, &difference(&KernelState::default(), &wanted));
    let slot = bpf.dump().unwrap().classes[0].slot;
    let mut state = KernelState::default();
    let mut links = super::values::links();
    links.insert(link_of(&class(6)), 2000);
    bpf.observe(&links, &mut state).unwrap();
    assert_eq!(state.classes[&class(6)], None);
    let put = [BpfChange::Class(ClassChange(
        class(6),
        Write::Put(link_of(&class(6))),
    ))];
    assert!(bpf.execute(&links, &put)[0].is_ok());
    let dump = bpf.dump().unwrap();
    assert_eq!((dump.classes[0].slot, dump.classes[0].ifindex), (slot, 2000));
}
