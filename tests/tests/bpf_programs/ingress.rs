//! The ingress programs. In a test run no packet comes from a tunnel; `wire.rs` tests those that do.

use std::collections::BTreeMap;

use adit_tests::bpf::{Context, Outcome, Programs, TC_ACT_UNSPEC, skipped};
use adit_tests::frame::ETHERNET;
use dataplane_ebpf::layout::names;
use dataplane_ebpf::verdict::IngressVerdict;

use crate::setup::*;

#[test]
fn ingress_counts_and_passes() {
    if skipped() {
        return;
    }
    let mut programs = Programs::load(false).unwrap();
    let frame = inner_v4().frame();
    let mut arp = frame.clone();
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    let mut bad = frame.clone();
    bad[ETHERNET] = 0x60;
    let frames = [
        (frame, IngressVerdict::NoTunnelKey, 60),
        (inner_v6().frame(), IngressVerdict::NoTunnelKey, 80),
        (arp, IngressVerdict::NotIp, 74),
        (bad, IngressVerdict::BadHeader, 74),
    ];
    for (_, program) in names::INGRESS_PROGRAMS {
        for (frame, verdict, bytes) in &frames {
            let mut expected = all_counters(&programs, names::INGRESS_COUNTERS, IngressVerdict::COUNT);
            let outcome = programs.run(program, frame, Context::default()).unwrap();
            assert_eq!(
                outcome,
                Outcome {
                    action: TC_ACT_UNSPEC,
                    packet: frame.clone()
                }
            );
            let counter = &mut expected[usize::try_from(verdict.index()).unwrap()];
            counter.packets += 1;
            counter.bytes += bytes;
            let counted = all_counters(&programs, names::INGRESS_COUNTERS, IngressVerdict::COUNT);
            assert_eq!(counted, expected, "{} by {program}", verdict.name());
        }
    }
    assert_eq!(programs.sources().unwrap(), BTreeMap::new());
}
