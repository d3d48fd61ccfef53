//! Packets that are refused, each with its reason.

use adit_tests::bpf::{Context, skipped};
use adit_tests::frame::{ETHERNET, Udp};
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{Class, MAX_GROUPS, MAX_NEXT_HOPS, NextHop, NextHopState};
use dataplane_ebpf::verdict::Verdict;

use crate::setup::*;

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
fn every_refused_packet_has_a_reason() {
    if skipped() {
        return;
    }
    let mut programs = with_next_hop(&outer_v4(), &geneve());
    for inner in inners() {
        let frame = inner.frame();
        let header = if inner.source.is_ipv4() { 20 } else { 40 };
        // Ports are no condition. (A test run takes no packet that ends within its IP header; `wire.rs` sends some.)
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
fn destinations_without_a_prefix_are_refused() {
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
fn prefixes_with_each_kind_of_target() {
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
fn next_hops_that_cannot_forward_are_refused() {
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
