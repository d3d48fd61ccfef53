//! A real VXLAN device: the outer header that the tunnel key produces, captured on the wire, and what the ingress program
//! reads at the other end.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::Command;

use adit_tests::bpf::{Programs, ingress_program, skipped};
use adit_tests::frame::{ETHERNET, Udp};
use adit_tests::wire::Wire;
use dataplane_ebpf::layout::{Class, Counters, NextHop, SourceKey, names};
use dataplane_ebpf::verdict::{IngressVerdict, Verdict};
use nix::sched::{CloneFlags, setns, unshare};

use crate::setup::*;

/// Two namespaces joined by a veth pair, u0 and u1, with a VXLAN device t0 in each; the first has an anchor a0 too.
/// Lives as long as its thread, which must not do anything else.
struct Underlay {
    here: File,
    there: File,
}

impl Underlay {
    fn new() -> Underlay {
        let there = new_namespace();
        let here = new_namespace();
        let path = format!("/proc/{}/fd/{}", std::process::id(), there.as_raw_fd());
        ip("link add a0 type veth peer a1");
        ip("link set a0 addrgenmode none up");
        ip("link set a1 addrgenmode none up");
        ip(&format!(
            "link add u0 address 02:00:00:00:00:01 type veth peer u1 address 02:00:00:00:00:02 netns {path}"
        ));
        let underlay = Underlay { here, there };
        set_up_side("u0", 1, 2);
        underlay.enter_there();
        set_up_side("u1", 2, 1);
        underlay.enter_here();
        underlay
    }

    fn enter_here(&self) {
        setns(&self.here, CloneFlags::CLONE_NEWNET).unwrap();
    }

    fn enter_there(&self) {
        setns(&self.there, CloneFlags::CLONE_NEWNET).unwrap();
    }
}

fn new_namespace() -> File {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip("link set lo up");
    File::open("/proc/thread-self/ns/net").unwrap()
}

fn set_up_side(device: &str, own: u8, other: u8) {
    ip(&format!("link set {device} up"));
    ip(&format!("address add 192.0.2.{own}/24 dev {device}"));
    ip(&format!("address add 2001:db8::{own}/64 dev {device} nodad"));
    for address in [format!("192.0.2.{other}"), format!("2001:db8::{other}")] {
        ip(&format!(
            "neighbour replace {address} lladdr 02:00:00:00:00:0{other} nud permanent dev {device}"
        ));
    }
    ip("link add t0 type vxlan external dstport 4789 nolearning udp6zerocsumrx");
    ip("link set t0 addrgenmode none up");
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn ifindex(device: &str) -> u32 {
    nix::net::if_::if_nametoindex(device).unwrap()
}

/// Runs in a separate thread, because a thread cannot cleanly leave its namespace.
fn in_new_namespaces(test: fn(&Underlay)) {
    if !skipped() {
        std::thread::spawn(move || test(&Underlay::new())).join().unwrap();
    }
}

/// The fields of an outer header and its VXLAN header that tests check.
#[derive(Debug, PartialEq, Eq)]
struct Outer {
    source: Vec<u8>,
    destination: Vec<u8>,
    tos: u8,
    ttl: u8,
    flow_label: u32,
    dont_fragment: bool,
    zero_checksum: bool,
    vni: u32,
    inner: Vec<u8>,
}

/// Parses a frame with the outer UDP port of VXLAN.
fn outer(frame: &[u8]) -> Option<Outer> {
    let word = |bytes: &[u8]| u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let packet = frame.get(ETHERNET..)?;
    let v4 = frame[12..14] == [0x08, 0x00];
    if !v4 && frame[12..14] != [0x86, 0xdd] {
        return None;
    }
    let udp = packet.get(if v4 { 20 } else { 40 }..)?;
    if packet[if v4 { 9 } else { 6 }] != 17 || udp.get(2..4)? != 4789_u16.to_be_bytes() {
        return None;
    }
    let (tos, ttl, addresses) = if v4 {
        (packet[1], packet[8], &packet[12..20])
    } else {
        ((packet[0] << 4) | (packet[1] >> 4), packet[7], &packet[8..40])
    };
    let (source, destination) = addresses.split_at(addresses.len() / 2);
    Some(Outer {
        source: source.to_vec(),
        destination: destination.to_vec(),
        tos,
        ttl,
        flow_label: if v4 { 0 } else { word(packet) & 0xf_ffff },
        dont_fragment: v4 && packet[6] & 0x40 != 0,
        zero_checksum: udp[6..8] == [0, 0],
        vni: word(&udp[12..16]) >> 8,
        inner: udp[16..].to_vec(),
    })
}

fn used(address: &[u8; 16], next_hop: &NextHop) -> Vec<u8> {
    address[..if next_hop.flags & NextHop::OUTER_IPV6 != 0 {
        16
    } else {
        4
    }]
        .to_vec()
}

#[test]
fn the_tunnel_key_reaches_the_wire() {
    in_new_namespaces(|underlay| {
        underlay.enter_there();
        let wire = Wire::open("u1").unwrap();
        let mut far = Programs::load(false).unwrap();
        far.attach(ingress_program(Class::VXLAN), "t0").unwrap();
        let known = [
            source(&outer_v4(), Class::VXLAN),
            source(&outer_v6(), Class::VXLAN),
        ];
        for key in known {
            far.add_source(key).unwrap();
        }
        underlay.enter_here();
        let plain = Class {
            ifindex: ifindex("t0"),
            encapsulation: Class::VXLAN,
            ttl: 77,
            tos: 0x2b,
            ..geneve()
        };
        let mut near = with_next_hop(&outer_v4(), &plain);
        near.attach(names::EGRESS_PROGRAM, "a0").unwrap();
        let labelled = NextHop {
            flow_label: 0x12345,
            ..outer_v6()
        };
        for next_hop in [outer_v4(), outer_v6(), labelled] {
            near.set_next_hop(SLOT, &next_hop).unwrap();
            for options in [
                0,
                Class::DONT_FRAGMENT | Class::INHERIT_DSCP,
                Class::ZERO_CHECKSUM | Class::INHERIT_TTL,
            ] {
                near.set_class(
                    CLASS,
                    &Class {
                        flags: plain.flags | options,
                        ..plain
                    },
                )
                .unwrap();
                for inner in inners() {
                    // DSCP 46, and ECT(0), which the kernel carries over.
                    let inner = Udp {
                        tos: 0xba,
                        ttl: 33,
                        ..inner
                    };
                    Wire::send("a0", &inner.frame()).unwrap();
                    let frame = wire.receive(|frame| outer(frame).is_some()).unwrap();
                    let has = |flag| options & flag != 0;
                    let v6 = next_hop.flags & NextHop::OUTER_IPV6 != 0;
                    let expected = Outer {
                        source: used(&next_hop.local, &next_hop),
                        destination: used(&next_hop.remote, &next_hop),
                        tos: if has(Class::INHERIT_DSCP) { 0xba } else { 0x2a },
                        ttl: if has(Class::INHERIT_TTL) { 33 } else { 77 },
                        flow_label: next_hop.flow_label,
                        dont_fragment: has(Class::DONT_FRAGMENT) && !v6,
                        zero_checksum: has(Class::ZERO_CHECKSUM),
                        vni: 173,
                        inner: rewritten(&inner.frame()),
                    };
                    assert_eq!(outer(&frame), Some(expected));
                }
            }
        }
        // Three next hops, three sets of flags, one packet a family of 60 and of 80 bytes.
        let expected = [
            (IngressVerdict::AcceptedIpv4, 60),
            (IngressVerdict::AcceptedIpv6, 80),
        ];
        for (verdict, length) in expected {
            let counters = Counters {
                packets: 9,
                bytes: 9 * length,
            };
            let arrived = || far.counters(names::INGRESS_COUNTERS, verdict.index()).unwrap();
            eventually(|| arrived().packets >= 9);
            assert_eq!(arrived(), counters, "{}", verdict.name());
        }
        // One next hop over IPv4, two over IPv6.
        let of = |packets| Counters {
            packets,
            bytes: packets / 2 * (60 + 80),
        };
        assert_eq!(
            far.sources().unwrap(),
            known.into_iter().zip([of(6), of(12)]).collect()
        );
    });
}

/// A source that is known with another VNI, encapsulation or address is unknown. Its packets are counted and passed to the
/// next program, which here is that of the encapsulation by which they are known.
#[test]
fn packets_of_unknown_sources_are_counted_and_pass() {
    in_new_namespaces(|underlay| {
        underlay.enter_there();
        let mut far = Programs::load(false).unwrap();
        far.attach(ingress_program(Class::VXLAN), "t0").unwrap();
        far.attach(ingress_program(Class::GENEVE), "t0").unwrap();
        let hops = [outer_v4(), outer_v6()];
        let known = hops.map(|next_hop| source(&next_hop, Class::GENEVE));
        for next_hop in hops {
            let key = source(&next_hop, Class::VXLAN);
            let elsewhere = NextHop {
                local: next_hop.remote,
                ..next_hop
            };
            for other in [
                SourceKey {
                    vni: key.vni + 1,
                    ..key
                },
                SourceKey {
                    version: key.version ^ 2,
                    ..key
                },
                source(&next_hop, Class::GENEVE),
                source(&elsewhere, Class::VXLAN),
            ] {
                far.add_source(other).unwrap();
            }
        }
        underlay.enter_here();
        let class = Class {
            ifindex: ifindex("t0"),
            encapsulation: Class::VXLAN,
            ..geneve()
        };
        let mut near = with_next_hop(&outer_v4(), &class);
        near.attach(names::EGRESS_PROGRAM, "a0").unwrap();
        for next_hop in hops {
            near.set_next_hop(SLOT, &next_hop).unwrap();
            for inner in inners() {
                Wire::send("a0", &inner.frame()).unwrap();
            }
        }
        let both = |bytes| Counters { packets: 2, bytes };
        for (verdict, expected) in [
            (IngressVerdict::AcceptedIpv4, both(2 * 60)),
            (IngressVerdict::AcceptedIpv6, both(2 * 80)),
            (
                IngressVerdict::UnknownSource,
                Counters {
                    packets: 4,
                    bytes: 2 * (60 + 80),
                },
            ),
        ] {
            let count = || far.counters(names::INGRESS_COUNTERS, verdict.index()).unwrap();
            eventually(|| count() == expected);
            assert_eq!(count(), expected, "{}", verdict.name());
        }
        for (key, counters) in far.sources().unwrap() {
            let expected = if known.contains(&key) {
                both(60 + 80)
            } else {
                Counters::default()
            };
            assert_eq!(counters, expected, "{key:?}");
        }
    });
}

/// The packet that the other end receives by this next hop.
fn source(next_hop: &NextHop, encapsulation: u8) -> SourceKey {
    SourceKey {
        address: next_hop.local,
        vni: geneve().vni,
        encapsulation,
        version: if next_hop.flags & NextHop::OUTER_IPV6 != 0 {
            6
        } else {
            4
        },
        reserved: [0; 2],
    }
}

/// Without encapsulation only the Ethernet header changes, to that of the neighbour; no route is looked up.
#[test]
fn the_header_of_the_neighbour_reaches_the_wire() {
    const NEIGHBOURS: [(&str, u8); 4] = [
        ("192.0.2.77", 0x77),
        ("2001:db8::78", 0x78),
        ("fe80::79", 0x79),
        // The peer itself.
        ("2001:db8::2", 2),
    ];
    in_new_namespaces(|underlay| {
        underlay.enter_there();
        let wire = Wire::open("u1").unwrap();
        underlay.enter_here();
        for (address, mac) in NEIGHBOURS {
            ip(&format!(
                "neighbour replace {address} lladdr 02:00:00:00:00:{mac:02x} nud permanent dev u0"
            ));
        }
        let mut near = with_next_hop(&outer_v4(), &bare(ifindex("u0")));
        near.attach(names::EGRESS_PROGRAM, "a0").unwrap();
        for (gateway, mac) in NEIGHBOURS {
            near.set_next_hop(SLOT, &via(gateway, &outer_v4())).unwrap();
            for inner in inners() {
                let inner = Udp {
                    tos: 0xba,
                    ttl: 33,
                    ..inner
                };
                let sent = inner.frame();
                if inner.source.is_ipv6() && gateway == "192.0.2.77" {
                    assert!(Wire::send("a0", &sent).is_err(), "IPv6 to an IPv4 neighbour");
                    continue;
                }
                Wire::send("a0", &sent).unwrap();
                let expected = [&[2, 0, 0, 0, 0, mac, 2, 0, 0, 0, 0, 1][..], &sent[12..]].concat();
                let frame = wire
                    .receive(|frame| frame.get(12..) == Some(&sent[12..]))
                    .unwrap();
                assert_eq!(frame, expected, "{gateway}");
            }
        }
        let refused = near
            .counters(names::EGRESS_COUNTERS, Verdict::InnerFamily.index())
            .unwrap();
        assert_eq!(refused.packets, 1);
    });
}

/// A test run accepts no such packet, but a packet socket does.
#[test]
fn truncated_packets_are_refused() {
    in_new_namespaces(|_| {
        let mut programs = with_next_hop(
            &outer_v4(),
            &Class {
                ifindex: ifindex("t0"),
                ..geneve()
            },
        );
        programs.attach(names::EGRESS_PROGRAM, "a0").unwrap();
        let mut expected = Counters::default();
        for inner in inners() {
            let frame = inner.frame();
            let header = if inner.source.is_ipv4() { 20 } else { 40 };
            for length in [0, 1, header - 1] {
                // ENOBUFS, as the program drops it.
                assert!(
                    Wire::send("a0", &frame[..ETHERNET + length]).is_err(),
                    "{length} bytes were sent"
                );
                expected.packets += 1;
                expected.bytes += length as u64;
            }
        }
        let counted = programs
            .counters(names::EGRESS_COUNTERS, Verdict::Truncated.index())
            .unwrap();
        assert_eq!(counted, expected);
    });
}

fn eventually(condition: impl Fn() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !condition() && std::time::Instant::now() < deadline {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
