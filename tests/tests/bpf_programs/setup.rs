//! One next hop behind two prefixes, and the expected effects of a packet to it.

use std::net::IpAddr;

use adit_tests::bpf::{Context, Outcome, Programs, TC_ACT_REDIRECT, TC_ACT_SHOT};
use adit_tests::frame::{ETHERNET, Udp};
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{Class, Counters, NextHop, PrefixTarget, names};
use dataplane_ebpf::verdict::Verdict;

/// The slot of the next hop.
pub(crate) const SLOT: u32 = 1234;
/// The slot of its class.
pub(crate) const CLASS: u32 = 77;
const SOURCE_MAC: [u8; 6] = [2, 0xa, 0xb, 0xc, 0xd, 0xe];
const DESTINATION_MAC: [u8; 6] = [2, 1, 2, 3, 4, 5];

/// One next hop behind both prefixes.
pub(crate) fn with_next_hop(next_hop: &NextHop, class: &Class) -> Programs {
    let mut programs = Programs::load(false).unwrap();
    programs.set_class(CLASS, class).unwrap();
    programs.set_next_hop(SLOT, next_hop).unwrap();
    point(&mut programs, TargetKind::NextHop(SLOT));
    programs
}

/// Sets the target of both prefixes.
pub(crate) fn point(programs: &mut Programs, kind: TargetKind) {
    programs
        .set_prefix_v4([10, 2, 0, 0], 16, PrefixTarget::new(kind))
        .unwrap();
    programs
        .set_prefix_v6(
            [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            32,
            PrefixTarget::new(kind),
        )
        .unwrap();
}

/// Runs one packet and asserts that it is counted once, under this verdict and with its bytes from the IP header on.
pub(crate) fn run(programs: &mut Programs, frame: &[u8], context: Context, verdict: Verdict) -> Outcome {
    let mut expected = all_counters(programs, names::EGRESS_COUNTERS, Verdict::COUNT);
    let outcome = programs.run(names::EGRESS_PROGRAM, frame, context).unwrap();
    let counter = &mut expected[usize::try_from(verdict.index()).unwrap()];
    counter.packets += 1;
    counter.bytes += (frame.len() - ETHERNET) as u64;
    let counted = all_counters(programs, names::EGRESS_COUNTERS, Verdict::COUNT);
    assert_eq!(counted, expected, "{} expected", verdict.name());
    let action = if verdict == Verdict::Forwarded {
        TC_ACT_REDIRECT
    } else {
        TC_ACT_SHOT
    };
    assert_eq!(outcome.action, action, "{}", verdict.name());
    outcome
}

/// Asserts that the packet is dropped for this reason, unchanged, and counted for no next hop.
pub(crate) fn assert_dropped(programs: &mut Programs, frame: &[u8], verdict: Verdict) {
    let before = programs.counters(names::NEXT_HOP_COUNTERS, SLOT).unwrap();
    let outcome = run(programs, frame, Context::default(), verdict);
    assert_eq!(outcome.packet, frame);
    assert_eq!(programs.counters(names::NEXT_HOP_COUNTERS, SLOT).unwrap(), before);
}

/// The frame with the Ethernet header of the tunnel.
pub(crate) fn rewritten(frame: &[u8]) -> Vec<u8> {
    [&DESTINATION_MAC[..], &SOURCE_MAC, &frame[12..]].concat()
}

pub(crate) fn all_counters(programs: &Programs, map: &str, count: u32) -> Vec<Counters> {
    (0..count)
        .map(|index| programs.counters(map, index).unwrap())
        .collect()
}

pub(crate) fn inners() -> [Udp; 2] {
    [inner_v4(), inner_v6()]
}

/// 10.1.0.1 → 10.2.0.9, covered by 10.2.0.0/16.
pub(crate) fn inner_v4() -> Udp {
    Udp::new(address("10.1.0.1"), address("10.2.0.9"))
}

/// fd00:1::1 → fd00:2::9, covered by fd00:2::/32.
pub(crate) fn inner_v6() -> Udp {
    Udp::new(address("fd00:1::1"), address("fd00:2::9"))
}

pub(crate) fn geneve() -> Class {
    Class {
        ifindex: 1,
        vni: 173,
        source_mac: SOURCE_MAC,
        encapsulation: Class::GENEVE,
        ttl: 64,
        flags: Class::INNER_ETHERNET | Class::TUNNEL_KEY,
        ..Class::default()
    }
}

/// A class without encapsulation that sends by this device.
pub(crate) fn bare(ifindex: u32) -> Class {
    Class {
        ifindex,
        encapsulation: Class::NONE,
        flags: Class::TO_NEIGHBOUR,
        ..Class::default()
    }
}

/// The next hop by this neighbour.
pub(crate) fn via(gateway: &str, next_hop: &NextHop) -> NextHop {
    let mut next_hop = NextHop {
        destination_mac: [0; 6],
        ..*next_hop
    };
    match address(gateway) {
        IpAddr::V4(address) => next_hop.gateway[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => {
            next_hop.gateway = address.octets();
            next_hop.flags |= NextHop::GATEWAY_IPV6;
        }
    }
    next_hop
}

pub(crate) fn outer_v4() -> NextHop {
    next_hop("192.0.2.2", "192.0.2.1")
}

pub(crate) fn outer_v6() -> NextHop {
    next_hop("2001:db8::2", "2001:db8::1")
}

pub(crate) fn next_hop(remote: &str, local: &str) -> NextHop {
    let mut next_hop = NextHop {
        destination_mac: DESTINATION_MAC,
        class: CLASS,
        ..NextHop::default()
    };
    for (place, text) in [(&mut next_hop.remote, remote), (&mut next_hop.local, local)] {
        match address(text) {
            IpAddr::V4(address) => place[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => *place = address.octets(),
        }
    }
    if address(remote).is_ipv6() {
        next_hop.flags |= NextHop::OUTER_IPV6;
    }
    next_hop
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
