//! Compares the egress program with a plain reference over random tables: where each packet goes, why it is refused, and
//! that it is counted once under the right counter.
//!
//! The reference is written from the description of the layout and shares no code with the program: it searches prefixes
//! in a list and chooses group members with floating-point logarithms.

mod judge;
mod random;
mod tables;

use std::collections::BTreeMap;

use adit_tests::bpf::{Context, Programs, TC_ACT_REDIRECT, TC_ACT_SHOT, skipped};
use adit_tests::frame::{ETHERNET, Udp};
use dataplane_ebpf::layout::{Class, Counters, names};
use dataplane_ebpf::verdict::Verdict;

use judge::Expected;
use random::{Random, random_packet};
use tables::{Hop, Reference};

#[test]
fn agrees_with_the_reference() {
    if skipped() {
        return;
    }
    let mut seen = BTreeMap::<Verdict, u32>::new();
    for seed in 1..=6_u64 {
        let mut random = Random(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let reference = Reference::random(&mut random);
        let mut programs = Programs::load(false).unwrap();
        reference.write(&mut programs);
        let mut ledger = Ledger {
            verdicts: vec![Counters::default(); Verdict::ALL.len()],
            hops: vec![Counters::default(); reference.hops.len()],
        };
        for _ in 0..300 {
            let packet = random_packet(&mut random);
            *seen
                .entry(compare(&mut programs, &reference, &mut ledger, &packet))
                .or_default() += 1;
        }
        ledger.check(&programs, &reference);
    }
    println!("{seen:?}");
    for verdict in [
        Verdict::Forwarded,
        Verdict::NoPrefix,
        Verdict::LocalPrefix,
        Verdict::NoGroup,
        Verdict::NoNextHop,
        Verdict::NoUsableNextHop,
        Verdict::NoClass,
        Verdict::InnerFamily,
        Verdict::TunnelKeyRejected,
    ] {
        assert!(seen.contains_key(&verdict), "no packet met {}", verdict.name());
    }
}

/// The expected counters so far.
struct Ledger {
    verdicts: Vec<Counters>,
    hops: Vec<Counters>,
}

impl Ledger {
    fn check(&self, programs: &Programs, reference: &Reference) {
        for (verdict, expected) in Verdict::ALL.iter().zip(&self.verdicts) {
            let counted = programs
                .counters(names::EGRESS_COUNTERS, verdict.index())
                .unwrap();
            assert_eq!(counted, *expected, "{}", verdict.name());
        }
        for (hop, expected) in reference.hops.iter().zip(&self.hops) {
            let counted = programs.counters(names::NEXT_HOP_COUNTERS, hop.slot).unwrap();
            assert_eq!(counted, *expected, "next hop {}", hop.slot);
        }
    }
}

fn add(counters: &mut Counters, frame: &[u8]) {
    counters.packets += 1;
    counters.bytes += (frame.len() - ETHERNET) as u64;
}

/// Runs a packet, asserts its result and adds it to the expected counters. Returns its verdict.
fn compare(programs: &mut Programs, reference: &Reference, ledger: &mut Ledger, packet: &Udp) -> Verdict {
    let frame = packet.frame();
    let before: Vec<u64> = reference
        .hops
        .iter()
        .map(|hop| hop_packets(programs, hop))
        .collect();
    let outcome = programs
        .run(names::EGRESS_PROGRAM, &frame, Context::default())
        .unwrap();
    let verdict = match reference.expect(packet) {
        Expected::Dropped(verdict) => {
            assert_eq!(
                outcome.action,
                TC_ACT_SHOT,
                "{packet:?}: {} expected",
                verdict.name()
            );
            verdict
        }
        Expected::Forwarded(slots) => {
            assert_eq!(
                outcome.action, TC_ACT_REDIRECT,
                "{packet:?}: any of {slots:?} expected"
            );
            let counts = |&(index, hop): &(usize, &Hop)| hop_packets(programs, hop) != before[index];
            let took = reference.hops.iter().enumerate().find(counts);
            let (index, hop) = took.unwrap_or_else(|| panic!("{packet:?} counts for no next hop"));
            assert!(
                slots.contains(&hop.slot),
                "{packet:?}: {} took it, not one of {slots:?}",
                hop.slot
            );
            add(&mut ledger.hops[index], &frame);
            assert_eq!(
                outcome.packet,
                rewritten(&frame, hop, reference.class(hop.next_hop.class).unwrap())
            );
            Verdict::Forwarded
        }
    };
    add(
        &mut ledger.verdicts[usize::try_from(verdict.index()).unwrap()],
        &frame,
    );
    verdict
}

fn hop_packets(programs: &Programs, hop: &Hop) -> u64 {
    programs
        .counters(names::NEXT_HOP_COUNTERS, hop.slot)
        .unwrap()
        .packets
}

fn rewritten(frame: &[u8], hop: &Hop, class: &Class) -> Vec<u8> {
    if class.flags & Class::INNER_ETHERNET == 0 {
        return frame.to_vec();
    }
    [&hop.next_hop.destination_mac[..], &class.source_mac, &frame[12..]].concat()
}
