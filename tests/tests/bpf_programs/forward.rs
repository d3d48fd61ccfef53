//! Packets that are forwarded by a next hop.

use adit_tests::bpf::{Context, Programs, skipped};
use adit_tests::frame::Udp;
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{Class, NextHop, names};
use dataplane_ebpf::verdict::Verdict;

use crate::setup::*;

/// Each inner family over each outer family, also an IPv6 prefix with one next hop over an IPv4 underlay.
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
fn the_kernel_accepts_every_flag() {
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
    // Only an IPv6 outer header can have a flow label.
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

#[test]
fn devices_without_ethernet_get_the_unchanged_packet() {
    if skipped() {
        return;
    }
    for encapsulation in [Class::WIREGUARD, Class::IP6TNL] {
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

/// Without encapsulation: to a neighbour of either family; only an IPv6 neighbour is used for IPv6.
#[test]
fn neighbours_get_the_unchanged_packet() {
    if skipped() {
        return;
    }
    for outer in [outer_v4(), outer_v6()] {
        for (gateway, families) in [("192.0.2.254", 1), ("2001:db8::fe", 2), ("fe80::1", 2)] {
            let mut programs = with_next_hop(&via(gateway, &outer), &bare(1));
            for inner in &inners()[..families] {
                let frame = inner.frame();
                let outcome = run(&mut programs, &frame, Context::default(), Verdict::Forwarded);
                assert_eq!(outcome.packet, frame);
            }
            for inner in &inners()[families..] {
                assert_dropped(&mut programs, &inner.frame(), Verdict::InnerFamily);
            }
        }
    }
}

/// For ipip and ip6tnl: with a tunnel key without VNI, and without an inner Ethernet header.
#[test]
fn ip_tunnels_get_a_tunnel_key_and_no_ethernet_header() {
    if skipped() {
        return;
    }
    for (encapsulation, outer, inners) in [
        (Class::IPIP, outer_v4(), vec![inner_v4()]),
        (Class::IP6TNL, outer_v6(), inners().to_vec()),
    ] {
        let class = Class {
            encapsulation,
            vni: 0,
            source_mac: [0; 6],
            flags: Class::TUNNEL_KEY | Class::INHERIT_DSCP,
            ..geneve()
        };
        let outer = NextHop {
            destination_mac: [0; 6],
            ..outer
        };
        let mut programs = with_next_hop(&outer, &class);
        for inner in inners {
            let frame = inner.frame();
            let outcome = run(&mut programs, &frame, Context::default(), Verdict::Forwarded);
            assert_eq!(outcome.packet, frame);
        }
        if encapsulation == Class::IPIP {
            assert_dropped(&mut programs, &inner_v6().frame(), Verdict::InnerFamily);
        }
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
