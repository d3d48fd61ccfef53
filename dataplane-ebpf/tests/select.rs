//! The choice among next hops is fair, respects weights, and moves no flow without need.
#![expect(clippy::unwrap_used, reason = "a test's helper that fails is a failed test")]

mod common;

use std::collections::BTreeMap;

use common::{Memory, headers};
use dataplane_ebpf::flow::hash;
use dataplane_ebpf::layout::{Group, NextHopState};
use dataplane_ebpf::packet::{Family, Headers, Ports};
use dataplane_ebpf::select::choose;
use dataplane_ebpf::verdict::Verdict;
use proptest::prelude::*;

const HEAD: u32 = 5;
const FLOWS: u32 = 65536;

/// Flows of a client: source ports that count up.
fn flows() -> Vec<u32> {
    let flow = |number: u32| {
        let source = u16::try_from(number % 65536).unwrap();
        hash(&Headers {
            ports: Some(Ports {
                source,
                destination: 443,
            }),
            ..headers(Family::Ipv4)
        })
    };
    (0..FLOWS).map(flow).collect()
}

fn group(members: &[(u32, u8, u32)]) -> Memory {
    let mut memory = Memory::default();
    memory.lay_group(HEAD, members);
    memory
}

/// Members in slots from 100 on, addresses from .1 on.
fn members(weights: &[u32]) -> Vec<(u32, u8, u32)> {
    let member = |(number, &weight): (u8, &u32)| (100 + u32::from(number), 1 + number, weight);
    (0..).zip(weights).map(member).collect()
}

fn shares(memory: &Memory) -> BTreeMap<u32, u32> {
    let mut shares = BTreeMap::new();
    for flow in flows() {
        *shares.entry(choose(memory, HEAD, flow).unwrap()).or_default() += 1;
    }
    shares
}

/// Asserts that each share is within five standard deviations, plus `extra`, of the expected value.
fn assert_fair(weights: &[u32], extra: f64) {
    let members = members(weights);
    let total: u32 = weights.iter().sum();
    let shares = shares(&group(&members));
    for (slot, _, weight) in members {
        let part = f64::from(weight) / f64::from(total);
        let due = part * f64::from(FLOWS);
        let deviation = (due * (1.0 - part)).sqrt();
        let got = f64::from(shares.get(&slot).copied().unwrap_or(0));
        assert!(
            (got - due).abs() <= 5.0 * deviation + extra * due,
            "{weights:?}: {slot} got {got}, due {due:.0}"
        );
    }
}

#[test]
fn equal_weights_are_fair() {
    for count in [2, 3, 4, 5, 8, 13, 64] {
        assert_fair(&vec![1; count], 0.0);
        assert_fair(&vec![200; count], 0.0);
    }
}

#[test]
fn weights_are_honoured() {
    for weights in [
        &[1, 2][..],
        &[1, 2, 3, 4],
        &[10, 1],
        &[255, 1],
        &[255, 255, 1, 1],
        &[1, 1, 1, 1, 1, 1, 1, 255],
        &[100, 50, 25, 12, 6, 3],
    ] {
        assert_fair(weights, 0.02);
    }
    let many: Vec<u32> = (1..=64).map(|number| number * 3).collect();
    assert_fair(&many, 0.03);
}

#[test]
fn a_member_that_leaves_takes_only_its_own_flows_along() {
    for weights in [&[1, 1, 1, 1][..], &[1, 2, 3, 4, 5, 6, 7], &[255, 3, 3]] {
        let all = members(weights);
        let before = group(&all);
        let gone = all[1].0;
        let rest: Vec<_> = all.iter().copied().filter(|member| member.0 != gone).collect();
        let removed = group(&rest);
        let mut down = group(&all);
        down.states.insert(gone, NextHopState::DOWN);
        let mut inherited = BTreeMap::<u32, u32>::new();
        for flow in flows() {
            let (was, is) = (
                choose(&before, HEAD, flow).unwrap(),
                choose(&removed, HEAD, flow).unwrap(),
            );
            assert_eq!(is, choose(&down, HEAD, flow).unwrap(), "down and removed are one");
            if was == gone {
                *inherited.entry(is).or_default() += 1;
            } else {
                assert_eq!(was, is, "a flow moved without need");
            }
        }
        let orphans: u32 = inherited.values().sum();
        let total: u32 = rest.iter().map(|member| member.2).sum();
        for (slot, _, weight) in rest {
            let due = f64::from(orphans) * f64::from(weight) / f64::from(total);
            let got = f64::from(inherited.get(&slot).copied().unwrap_or(0));
            assert!(
                (got - due).abs() <= 5.0 * due.sqrt() + 0.02 * due,
                "{slot} inherited {got}, due {due:.0}"
            );
        }
    }
}

#[test]
fn without_usable_members() {
    let mut memory = group(&members(&[1, 1, 1, 1, 1]));
    for slot in 100..105 {
        memory.states.insert(slot, NextHopState::DOWN);
    }
    assert_eq!(choose(&memory, HEAD, 7), Err(Verdict::NoUsableNextHop));
    memory.states.insert(104, NextHopState::USABLE);
    assert_eq!(choose(&memory, HEAD, 7), Ok(104), "in the second slot");
    memory.states.clear();
    assert_eq!(
        choose(&memory, HEAD, 7),
        Err(Verdict::NoUsableNextHop),
        "members that are not there"
    );
    assert_eq!(choose(&memory, 4, 7), Err(Verdict::NoGroup), "out of range");
    memory.groups.insert(4, Group::default());
    assert_eq!(choose(&memory, 4, 7), Err(Verdict::NoGroup), "free");
}

#[test]
fn a_ring_of_slots_ends() {
    let mut memory = group(&members(&[1; 8]));
    memory.groups.get_mut(&(HEAD + 1)).unwrap().next = HEAD;
    assert!(choose(&memory, HEAD, 7).is_ok());
}

proptest! {
    #[test]
    fn order_and_slots_do_not_matter(
        weights in prop::collection::vec(1_u32..=255, 1..=64),
        seed: u64,
        flow: u32,
    ) {
        let straight = members(&weights);
        // A permutation of positions, and slots that are independent of them.
        let mut shuffled: Vec<_> = straight.iter().map(|&(slot, byte, weight)| (9000 - slot * 7, byte, weight)).collect();
        shuffled.sort_by_key(|member| seed.wrapping_mul(u64::from(member.1) * 2 + 1) ^ (seed >> 7));
        let chosen = choose(&group(&straight), HEAD, flow).unwrap();
        let again = choose(&group(&shuffled), HEAD, flow).unwrap();
        prop_assert_eq!(9000 - chosen * 7, again);
    }
}
