//! The BPF programs on the running kernel, packet by packet: each verdict, and every effect that a packet has.
//!
//! `bpf_reference.rs` does the same over random tables.

use std::net::IpAddr;

use adit_tests::bpf::{Context, Outcome, Programs, TC_ACT_REDIRECT, TC_ACT_SHOT, TC_ACT_UNSPEC, skipped};
use adit_tests::frame::{ETHERNET, Udp};
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{
    Class, Counters, Group, GroupMember, MAX_CLASSES, MAX_GROUPS, MAX_NEXT_HOPS, NextHop, NextHopState,
    Target, names,
};
use dataplane_ebpf::layout::{MAX_PREFIXES_V4, MAX_PREFIXES_V6};
use dataplane_ebpf::select::member_key;
use dataplane_ebpf::verdict::{IngressVerdict, Verdict};

const SLOT: u32 = 1234;
const CLASS: u32 = 77;
const SOURCE_MAC: [u8; 6] = [2, 0xa, 0xb, 0xc, 0xd, 0xe];
const DESTINATION_MAC: [u8; 6] = [2, 1, 2, 3, 4, 5];

fn address(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// 10.1.0.1 → 10.2.0.9, covered by 10.2.0.0/16.
fn inner_v4() -> Udp {
    Udp::new(address("10.1.0.1"), address("10.2.0.9"))
}

/// fd00:1::1 → fd00:2::9, covered by fd00:2::/32.
fn inner_v6() -> Udp {
    Udp::new(address("fd00:1::1"), address("fd00:2::9"))
}

fn inners() -> [Udp; 2] {
    [inner_v4(), inner_v6()]
}

fn geneve() -> Class {
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

fn next_hop(remote: &str, local: &str) -> NextHop {
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

fn outer_v4() -> NextHop {
    next_hop("192.0.2.2", "192.0.2.1")
}

fn outer_v6() -> NextHop {
    next_hop("2001:db8::2", "2001:db8::1")
}

/// Both prefixes point there.
fn point(programs: &mut Programs, kind: TargetKind) {
    programs
        .set_prefix_v4([10, 2, 0, 0], 16, Target::new(kind))
        .unwrap();
    programs
        .set_prefix_v6(
            [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            32,
            Target::new(kind),
        )
        .unwrap();
}

/// One next hop behind both prefixes.
fn with_next_hop(next_hop: &NextHop, class: &Class) -> Programs {
    let mut programs = Programs::load(false).unwrap();
    programs.set_class(CLASS, class).unwrap();
    programs.set_next_hop(SLOT, next_hop).unwrap();
    point(&mut programs, TargetKind::NextHop(SLOT));
    programs
}

fn all_counters(programs: &Programs, map: &str, count: u32) -> Vec<Counters> {
    (0..count)
        .map(|index| programs.counters(map, index).unwrap())
        .collect()
}

/// Runs one packet and asserts that it counts once, under this verdict and with its bytes from the IP header on.
fn run(programs: &mut Programs, frame: &[u8], context: Context, verdict: Verdict) -> Outcome {
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

/// Asserts that the packet is dropped for this reason, untouched, and counts for no next hop.
fn assert_dropped(programs: &mut Programs, frame: &[u8], verdict: Verdict) {
    let before = programs.counters(names::NEXT_HOP_COUNTERS, SLOT).unwrap();
    let outcome = run(programs, frame, Context::default(), verdict);
    assert_eq!(outcome.packet, frame);
    assert_eq!(programs.counters(names::NEXT_HOP_COUNTERS, SLOT).unwrap(), before);
}

/// The frame with the tunnel's Ethernet header.
fn rewritten(frame: &[u8]) -> Vec<u8> {
    [&DESTINATION_MAC[..], &SOURCE_MAC, &frame[12..]].concat()
}

#[test]
fn loads_within_bounds() {
    if skipped() {
        return;
    }
    for log in [false, true] {
        let mut programs = Programs::load(log).unwrap();
        for name in [names::EGRESS_PROGRAM, names::INGRESS_PROGRAM] {
            let info = programs.info(name).unwrap();
            let (verified, translated) = (info.verified_instruction_count(), info.size_translated());
            println!(
                "{name}, log {log}: {verified:?} instructions verified, {translated:?} bytes translated"
            );
            // A fifth of what the kernel walks at most, so that a new kernel's verifier may be worse at it.
            assert!(verified.is_none_or(|verified| verified < 200_000));
            // The packet path alone: what logging adds is cut out when it is off.
            assert!(log || translated.is_none_or(|bytes| bytes < 2_000 * 8));
        }
    }
}

#[test]
fn maps_are_the_layout_s() {
    if skipped() {
        return;
    }
    const NO_PREALLOC: u32 = 1;
    let programs = Programs::load(false).unwrap();
    for (name, key, value, entries, flags) in [
        (names::PREFIXES_V4, 8, 4, MAX_PREFIXES_V4, NO_PREALLOC),
        (names::PREFIXES_V6, 20, 4, MAX_PREFIXES_V6, NO_PREALLOC),
        (names::CLASSES, 4, 32, MAX_CLASSES, 0),
        (names::NEXT_HOPS, 4, 64, MAX_NEXT_HOPS, 0),
        (names::NEXT_HOP_STATES, 4, 4, MAX_NEXT_HOPS, 0),
        (names::NEXT_HOP_LABELS, 4, 64, MAX_NEXT_HOPS, 0),
        (names::NEXT_HOP_COUNTERS, 4, 16, MAX_NEXT_HOPS, 0),
        (names::GROUPS, 4, 64, MAX_GROUPS, 0),
        (names::EGRESS_COUNTERS, 4, 16, Verdict::COUNT, 0),
        (names::INGRESS_COUNTERS, 4, 16, IngressVerdict::COUNT, 0),
    ] {
        assert!(names::PINNED_MAPS.contains(&name));
        let info = programs
            .map_info(name)
            .unwrap()
            .unwrap_or_else(|| panic!("the object has no {name}"));
        let seen = (
            info.key_size(),
            info.value_size(),
            info.max_entries(),
            info.map_flags(),
        );
        assert_eq!(seen, (key, value, entries, flags), "{name}");
        assert_eq!(info.name_as_str(), Some(name));
    }
}

/// Any inner over any outer family; an IPv6 prefix with one next hop over an IPv4 underlay is among them.
#[test]
fn forwards_every_family_over_every_family() {
    if skipped() {
        return;
    }
    for outer in [outer_v4(), outer_v6()] {
        let mut programs = with_next_hop(&outer, &geneve());
        for (number, inner) in (1..).zip(inners()) {
            let frame = inner.frame();
            let outcome = run(&mut programs, &frame, Context::default(), Verdict::Forwarded);
            assert_eq!(outcome.packet, rewritten(&frame));
            let counters = programs.counters(names::NEXT_HOP_COUNTERS, SLOT).unwrap();
            assert_eq!(counters.packets, number);
        }
        let counters = programs.counters(names::NEXT_HOP_COUNTERS, SLOT).unwrap();
        assert_eq!(counters.bytes, 60 + 80);
    }
}

#[test]
fn the_kernel_takes_every_flag() {
    if skipped() {
        return;
    }
    for flags in [
        Class::DONT_FRAGMENT,
        Class::ZERO_CHECKSUM,
        Class::DONT_FRAGMENT | Class::ZERO_CHECKSUM | Class::INHERIT_DSCP | Class::INHERIT_TTL,
    ] {
        for outer in [outer_v4(), outer_v6()] {
            let class = Class {
                flags: geneve().flags | flags,
                tos: 0xff,
                ..geneve()
            };
            let mut programs = with_next_hop(&outer, &class);
            for inner in inners() {
                run(
                    &mut programs,
                    &inner.frame(),
                    Context::default(),
                    Verdict::Forwarded,
                );
            }
        }
    }
    // A flow label is what an IPv6 outer header may bear.
    let mut programs = with_next_hop(
        &NextHop {
            flow_label: 0x12345,
            ..outer_v6()
        },
        &geneve(),
    );
    run(
        &mut programs,
        &inner_v4().frame(),
        Context::default(),
        Verdict::Forwarded,
    );
}

/// The kernel refuses an IPv4 key with a flow label. Without metadata the packet must not reach the device.
#[test]
fn a_refused_tunnel_key_is_a_drop() {
    if skipped() {
        return;
    }
    let mut programs = with_next_hop(
        &NextHop {
            flow_label: 1,
            ..outer_v4()
        },
        &geneve(),
    );
    for inner in inners() {
        assert_dropped(&mut programs, &inner.frame(), Verdict::TunnelKeyRejected);
    }
    // The program sets no key here, so none is refused.
    programs
        .set_class(
            CLASS,
            &Class {
                flags: Class::INNER_ETHERNET,
                ..geneve()
            },
        )
        .unwrap();
    run(
        &mut programs,
        &inner_v4().frame(),
        Context::default(),
        Verdict::Forwarded,
    );
}

#[test]
fn devices_without_ethernet_get_the_packet_as_it_is() {
    if skipped() {
        return;
    }
    for encapsulation in [Class::WIREGUARD, Class::IP6TNL, Class::NONE] {
        let mut programs = with_next_hop(
            &outer_v6(),
            &Class {
                encapsulation,
                flags: 0,
                ..geneve()
            },
        );
        for inner in inners() {
            let frame = inner.frame();
            assert_eq!(
                run(&mut programs, &frame, Context::default(), Verdict::Forwarded).packet,
                frame
            );
        }
    }
}

#[test]
fn every_packet_that_is_no_good_has_a_reason() {
    if skipped() {
        return;
    }
    let mut programs = with_next_hop(&outer_v4(), &geneve());
    for inner in inners() {
        let frame = inner.frame();
        let header = if inner.source.is_ipv4() { 20 } else { 40 };
        // Newer kernels make no such packet: their test run refuses it before the program sees it.
        if programs
            .run(
                names::EGRESS_PROGRAM,
                &frame[..ETHERNET + header - 1],
                Context::default(),
            )
            .is_ok()
        {
            for length in ETHERNET + 1..ETHERNET + header {
                assert_dropped(&mut programs, &frame[..length], Verdict::Truncated);
            }
        } else {
            println!("skipped: this kernel makes no packets that end within their IP header");
        }
        // Ports are no condition.
        for length in ETHERNET + header..frame.len() {
            let outcome = run(
                &mut programs,
                &frame[..length],
                Context::default(),
                Verdict::Forwarded,
            );
            assert_eq!(outcome.packet, rewritten(&frame[..length]));
        }
        let mut bad = frame.clone();
        bad[ETHERNET] = 0x50;
        assert_dropped(&mut programs, &bad, Verdict::BadHeader);
        let mut arp = frame.clone();
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_dropped(&mut programs, &arp, Verdict::NotIp);
        assert_dropped(&mut programs, &Udp { ttl: 0, ..inner }.frame(), Verdict::HopLimit);
    }
}

#[test]
fn destinations_without_a_prefix() {
    if skipped() {
        return;
    }
    let mut programs = with_next_hop(&outer_v4(), &geneve());
    for (destination, verdict) in [
        ("10.3.0.1", Verdict::NoPrefix),
        ("224.0.0.22", Verdict::Multicast),
        ("255.255.255.255", Verdict::Multicast),
        ("169.254.1.1", Verdict::LinkLocal),
        ("fd00:3::1", Verdict::NoPrefix),
        ("ff02::2", Verdict::Multicast),
        ("fe80::1", Verdict::LinkLocal),
    ] {
        let destination = address(destination);
        let source = if destination.is_ipv4() {
            inner_v4().source
        } else {
            inner_v6().source
        };
        assert_dropped(&mut programs, &Udp::new(source, destination).frame(), verdict);
    }
}

#[test]
fn what_a_prefix_points_at() {
    if skipped() {
        return;
    }
    let mut programs = with_next_hop(&outer_v4(), &geneve());
    for (kind, verdict) in [
        (TargetKind::Empty, Verdict::NoPrefix),
        (TargetKind::Local, Verdict::LocalPrefix),
        (TargetKind::NextHop(SLOT + 1), Verdict::NoNextHop),
        (TargetKind::NextHop(MAX_NEXT_HOPS), Verdict::NoNextHop),
        (TargetKind::Group(9), Verdict::NoGroup),
        (TargetKind::Group(MAX_GROUPS), Verdict::NoGroup),
    ] {
        point(&mut programs, kind);
        for inner in inners() {
            assert_dropped(&mut programs, &inner.frame(), verdict);
        }
    }
}

#[test]
fn next_hops_that_can_t_take_it() {
    if skipped() {
        return;
    }
    let mut programs = with_next_hop(&outer_v4(), &geneve());
    programs.set_state(SLOT, NextHopState::DOWN).unwrap();
    assert_dropped(&mut programs, &inner_v4().frame(), Verdict::NoUsableNextHop);
    programs.set_state(SLOT, NextHopState::USABLE).unwrap();
    run(
        &mut programs,
        &inner_v4().frame(),
        Context::default(),
        Verdict::Forwarded,
    );
    for class in [
        Class::default(),
        Class {
            ifindex: 0,
            ..geneve()
        },
    ] {
        programs.set_class(CLASS, &class).unwrap();
        assert_dropped(&mut programs, &inner_v4().frame(), Verdict::NoClass);
    }
    programs
        .set_class(
            CLASS,
            &Class {
                encapsulation: Class::IPIP,
                flags: Class::TUNNEL_KEY,
                ..geneve()
            },
        )
        .unwrap();
    assert_dropped(&mut programs, &inner_v6().frame(), Verdict::InnerFamily);
    run(
        &mut programs,
        &inner_v4().frame(),
        Context::default(),
        Verdict::Forwarded,
    );
}

#[test]
fn a_packet_that_comes_back_is_dropped() {
    if skipped() {
        return;
    }
    let mut programs = with_next_hop(&outer_v4(), &geneve());
    let loopback = Context {
        ingress_ifindex: 1,
        ifindex: 1,
    };
    let frame = inner_v4().frame();
    assert_eq!(
        run(&mut programs, &frame, loopback, Verdict::Looped).packet,
        frame
    );
}

/// Member by member, the ones that flows use are marked as down, until none is left.
#[test]
fn a_group_falls_back_to_the_next_best() {
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

/// In a test run no packet comes out of a tunnel; the lab shows those that do.
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
    for (frame, verdict, bytes) in [
        (frame, IngressVerdict::NoTunnelKey, 60),
        (inner_v6().frame(), IngressVerdict::NoTunnelKey, 80),
        (arp, IngressVerdict::NotIp, 74),
        (bad, IngressVerdict::BadHeader, 74),
    ] {
        let mut expected = all_counters(&programs, names::INGRESS_COUNTERS, IngressVerdict::COUNT);
        let outcome = programs
            .run(names::INGRESS_PROGRAM, &frame, Context::default())
            .unwrap();
        assert_eq!(
            outcome,
            Outcome {
                action: TC_ACT_UNSPEC,
                packet: frame
            }
        );
        let counter = &mut expected[usize::try_from(verdict.index()).unwrap()];
        counter.packets += 1;
        counter.bytes += bytes;
        let counted = all_counters(&programs, names::INGRESS_COUNTERS, IngressVerdict::COUNT);
        assert_eq!(counted, expected, "{}", verdict.name());
    }
}

#[test]
fn logging_changes_nothing() {
    if skipped() {
        return;
    }
    let mut programs = Programs::load(true).unwrap();
    programs.set_class(CLASS, &geneve()).unwrap();
    programs.set_next_hop(SLOT, &outer_v4()).unwrap();
    point(&mut programs, TargetKind::NextHop(SLOT));
    for inner in inners() {
        let frame = inner.frame();
        let outcome = run(&mut programs, &frame, Context::default(), Verdict::Forwarded);
        assert_eq!(outcome.packet, rewritten(&frame));
        assert_dropped(&mut programs, &Udp { ttl: 0, ..inner }.frame(), Verdict::HopLimit);
    }
}
