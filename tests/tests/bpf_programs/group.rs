//! Groups: if a member is down, the best remaining one is used.

use adit_tests::bpf::{Context, Programs, skipped};
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{Group, GroupMember, MAX_NEXT_HOPS, NextHopState, names};
use dataplane_ebpf::select::member_key;
use dataplane_ebpf::verdict::Verdict;

use crate::setup::*;

/// Marks the members that flows use as down, one by one, until none is left.
#[test]
fn a_group_uses_its_remaining_members_until_none_is_left() {
    if skipped() {
        return;
    }
    for count in [1_u32, 2, 3, 4, 5, 9, 64] {
        let mut programs = with_next_hop(&outer_v4(), &geneve());
        let mut slots = Vec::new();
        for number in 0..count {
            // The last slot is among them.
            let slot = MAX_NEXT_HOPS - 1 - number * 100;
            slots.push(slot);
            programs
                .set_next_hop(slot, &next_hop(&format!("192.0.2.{}", number + 1), "192.0.2.200"))
                .unwrap();
        }
        lay_group(&mut programs, &slots);
        point(&mut programs, TargetKind::Group(20));
        let frame = inner_v6().frame();
        let mut left = slots.clone();
        while !left.is_empty() {
            run(&mut programs, &frame, Context::default(), Verdict::Forwarded);
            let took: Vec<u32> = slots
                .iter()
                .copied()
                .filter(|&slot| took_one(&programs, slot))
                .collect();
            let new: Vec<u32> = took.iter().copied().filter(|slot| left.contains(slot)).collect();
            let [chosen] = new[..] else {
                panic!("{count} members: {new:?} of {left:?} took the packet")
            };
            programs.set_state(chosen, NextHopState::DOWN).unwrap();
            left.retain(|&slot| slot != chosen);
        }
        assert_dropped(&mut programs, &frame, Verdict::NoUsableNextHop);
    }
}

fn took_one(programs: &Programs, slot: u32) -> bool {
    let counters = programs.counters(names::NEXT_HOP_COUNTERS, slot).unwrap();
    assert!(counters.packets <= 1);
    counters.packets == 1
}

/// From group slot 20 on, every second one.
fn lay_group(programs: &mut Programs, slots: &[u32]) {
    let chunks: Vec<_> = slots.chunks(Group::MEMBERS).collect();
    for (number, chunk) in (0..).zip(&chunks) {
        let more = usize::try_from(number).unwrap() + 1 < chunks.len();
        let mut group = Group {
            count: u32::try_from(chunk.len()).unwrap(),
            next: if more { 20 + 2 * (number + 1) } else { 0 },
            head: u32::from(number == 0),
            ..Group::default()
        };
        for (place, &slot) in group.members.iter_mut().zip(chunk.iter()) {
            let mut remote = [0; 16];
            remote[..4].copy_from_slice(&slot.to_be_bytes());
            *place = GroupMember {
                next_hop: slot,
                key: member_key(&remote),
                weight: 1,
            };
        }
        programs.set_group(20 + 2 * number, &group).unwrap();
    }
}
