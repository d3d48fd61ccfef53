//! Slots: they are reused only after their waiting time, are empty then, and are not freed while something refers to them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_tests::Bpffs;
use dataplane_ebpf::layout::{NextHopState, names};
use dataplane_user::kernel::bpf::{Bpf, BpfOptions, NextHopEntry};
use dataplane_user::model::change::{
    BpfChange, ClassChange, Existence, GroupChange, NextHopChange, NextHopOperation, PrefixChange, Write,
};
use dataplane_user::model::{Group, KernelState, NextHop, PrefixTarget};

use super::values::{
    class, difference, execute, links, next_hop, observe, open, prefix, scribble, small_state,
};

#[test]
fn a_freed_slot_waits_and_is_reused_empty() {
    const REST: Duration = Duration::from_secs(3);
    let bpffs = Bpffs::new();
    let options = BpfOptions {
        slot_rest: REST,
        ..BpfOptions::new(bpffs.path())
    };
    let mut bpf = Bpf::open(&options).unwrap();
    execute(&mut bpf, &difference(&KernelState::default(), &small_state()));
    let first = next_hop(10, class(6));
    execute(
        &mut bpf,
        &[BpfChange::NextHop(NextHopChange(
            Arc::clone(&first),
            NextHopOperation::Put,
        ))],
    );
    let old = entry(&bpf, &first);
    scribble(
        &bpffs.path(),
        names::NEXT_HOP_STATES,
        old.slot,
        1_u32.to_ne_bytes(),
    );

    let freed = Instant::now();
    execute(
        &mut bpf,
        &[BpfChange::NextHop(NextHopChange(first, NextHopOperation::Delete))],
    );
    let mut number = 11;
    let reused = loop {
        let next = next_hop(number, class(6));
        execute(
            &mut bpf,
            &[BpfChange::NextHop(NextHopChange(
                Arc::clone(&next),
                NextHopOperation::Put,
            ))],
        );
        let entry = entry(&bpf, &next);
        if entry.slot == old.slot {
            break entry;
        }
        // An observation meanwhile does not shorten the waiting time.
        observe(&mut bpf);
        number += 1;
        assert!(freed.elapsed() < REST * 20, "never reused");
        std::thread::sleep(Duration::from_millis(100));
    };
    assert!(freed.elapsed() >= REST);
    assert_eq!(reused.state, NextHopState::USABLE);
}

#[test]
fn an_entry_in_use_is_not_freed() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    let state = small_state();
    execute(&mut bpf, &difference(&KernelState::default(), &state));
    let hop = next_hop(1, class(6));
    let absent = Arc::new(Group {
        members: vec![(next_hop(1, class(6)), 1), (next_hop(3, class(6)), 1)],
    });
    let group = state.groups.first().unwrap();
    let changes = [
        BpfChange::Class(ClassChange(class(6), Write::Delete)),
        BpfChange::NextHop(NextHopChange(Arc::clone(&hop), NextHopOperation::Delete)),
        // Its next hop does not exist, so the prefix keeps its old target, which stays.
        BpfChange::Group(GroupChange(Arc::clone(&absent), Existence::Create)),
        BpfChange::Prefix(PrefixChange(
            prefix("fd00:1::/64"),
            Write::Put(PrefixTarget::Group(absent)),
        )),
        BpfChange::Group(GroupChange(Arc::clone(group), Existence::Delete)),
    ];
    let errors: Vec<_> = bpf
        .execute(&links(), &changes)
        .into_iter()
        .map(|result| result.unwrap_err().errno())
        .collect();
    let expected = [libc::EBUSY, libc::EBUSY, libc::ENOENT, libc::ENOENT, libc::EBUSY].map(Some);
    assert_eq!(errors, expected);
    assert_eq!(observe(&mut bpf), state);
    // An observation ends that: the next diff starts from the observed state.
    execute(
        &mut bpf,
        &[
            BpfChange::Prefix(PrefixChange(prefix("fd00:1::/64"), Write::Delete)),
            BpfChange::Group(GroupChange(Arc::clone(group), Existence::Delete)),
        ],
    );
}

#[test]
fn state_and_counters_outlive_the_process() {
    let bpffs = Bpffs::new();
    let mut bpf = open(&bpffs.path());
    execute(&mut bpf, &difference(&KernelState::default(), &small_state()));
    let hop = next_hop(2, class(6));
    let slot = entry(&bpf, &hop).slot;
    scribble(&bpffs.path(), names::NEXT_HOP_STATES, slot, 1_u32.to_ne_bytes());
    drop(bpf);
    let mut bpf = open(&bpffs.path());
    let state = observe(&mut bpf);
    execute(
        &mut bpf,
        &[BpfChange::NextHop(NextHopChange(
            Arc::clone(&hop),
            NextHopOperation::Put,
        ))],
    );
    assert_eq!(entry(&bpf, &hop).slot, slot);
    assert_eq!(entry(&bpf, &hop).state, NextHopState::DOWN);
    let mut expected = small_state();
    expected.down.insert(hop);
    assert_eq!(state, expected);
}

fn entry(bpf: &Bpf, next_hop: &NextHop) -> NextHopEntry {
    let all = bpf.dump().unwrap().next_hops;
    all.into_iter()
        .find(|entry| *entry.next_hop == *next_hop)
        .unwrap()
}
