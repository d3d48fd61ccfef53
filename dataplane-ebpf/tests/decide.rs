//! The decision: each verdict, and the fields of the outer header.

mod common;

use common::{Memory, headers};
use dataplane_ebpf::decide::decide;
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{Class, MAX_NEXT_HOPS, NextHop, NextHopState};
use dataplane_ebpf::packet::{Address, Family, Headers};
use dataplane_ebpf::verdict::{IngressVerdict, Verdict};

const FAMILIES: [Family; 2] = [Family::Ipv4, Family::Ipv6];
const SLOT: u32 = 9;

/// Tables with one next hop in this class.
fn memory(class: Class) -> Memory {
    let mut memory = Memory::default();
    memory.point(TargetKind::NextHop(SLOT));
    memory.next_hops.insert(
        SLOT,
        NextHop {
            class: 3,
            ..NextHop::default()
        },
    );
    memory.states.insert(SLOT, NextHopState::USABLE);
    memory.classes.insert(3, class);
    memory
}

fn geneve() -> Class {
    Class {
        ifindex: 7,
        encapsulation: Class::GENEVE,
        ttl: 50,
        tos: 0x23,
        ..Class::default()
    }
}

fn verdict(memory: &Memory, family: Family) -> Verdict {
    verdict_of(memory, &headers(family))
}

fn verdict_of(memory: &Memory, headers: &Headers) -> Verdict {
    decide(headers, memory).err().unwrap_or(Verdict::Forwarded)
}

#[test]
fn forwards_with_the_outer_header_of_the_class() {
    for family in FAMILIES {
        let memory = memory(geneve());
        let decision = decide(&headers(family), &memory).unwrap();
        assert_eq!(
            (decision.slot, decision.ifindex, decision.next_hop.class),
            (SLOT, 7, 3)
        );
        assert_eq!((decision.ttl, decision.tos), (50, 0x20), "without the ECN bits");
    }
}

#[test]
fn inherits_what_the_class_says() {
    let inherit = Class {
        flags: Class::INHERIT_DSCP | Class::INHERIT_TTL,
        ..geneve()
    };
    let memory = memory(inherit);
    let decision = decide(&headers(Family::Ipv6), &memory).unwrap();
    assert_eq!((decision.ttl, decision.tos), (63, 0xb8));
}

#[test]
fn never_sends_ttl_0() {
    let unset = memory(Class { ttl: 0, ..geneve() });
    assert_eq!(decide(&headers(Family::Ipv4), &unset).unwrap().ttl, 64);
    let spent = Headers {
        hop_limit: 0,
        ..headers(Family::Ipv4)
    };
    assert_eq!(verdict_of(&unset, &spent), Verdict::HopLimit);
}

#[test]
fn targets() {
    for family in FAMILIES {
        let mut memory = memory(geneve());
        for (kind, expected) in [
            (TargetKind::NextHop(SLOT), Verdict::Forwarded),
            (TargetKind::NextHop(SLOT + 1), Verdict::NoNextHop),
            (TargetKind::NextHop(MAX_NEXT_HOPS), Verdict::NoNextHop),
            (TargetKind::Group(1), Verdict::NoGroup),
            (TargetKind::Local, Verdict::LocalPrefix),
            (TargetKind::Empty, Verdict::NoPrefix),
        ] {
            memory.point(kind);
            assert_eq!(verdict(&memory, family), expected, "{kind:?}");
        }
    }
}

#[test]
fn next_hops_and_classes() {
    let family = Family::Ipv4;
    let mut down = memory(geneve());
    down.states.insert(SLOT, NextHopState::DOWN);
    assert_eq!(verdict(&down, family), Verdict::NoUsableNextHop);
    let mut free = memory(geneve());
    free.next_hops.insert(SLOT, NextHop::default());
    assert_eq!(verdict(&free, family), Verdict::NoNextHop);
    assert_eq!(verdict(&memory(Class::default()), family), Verdict::NoClass);
    assert_eq!(
        verdict(
            &memory(Class {
                ifindex: 0,
                ..geneve()
            }),
            family
        ),
        Verdict::NoClass
    );
    let mut gone = memory(geneve());
    gone.classes.clear();
    assert_eq!(verdict(&gone, family), Verdict::NoClass);
}

#[test]
fn ipip_transports_ipv4_only() {
    let memory = memory(Class {
        encapsulation: Class::IPIP,
        ..geneve()
    });
    assert_eq!(verdict(&memory, Family::Ipv4), Verdict::Forwarded);
    assert_eq!(verdict(&memory, Family::Ipv6), Verdict::InnerFamily);
}

#[test]
fn an_ipv4_neighbour_takes_ipv4_only() {
    let mut memory = memory(Class {
        ifindex: 7,
        encapsulation: Class::NONE,
        flags: Class::TO_NEIGHBOUR,
        ..Class::default()
    });
    assert_eq!(verdict(&memory, Family::Ipv4), Verdict::Forwarded);
    assert_eq!(verdict(&memory, Family::Ipv6), Verdict::InnerFamily);
    // The family of the neighbour matters, not that of the underlay address of the peer.
    for (flags, ipv6) in [
        (NextHop::OUTER_IPV6, Verdict::InnerFamily),
        (NextHop::GATEWAY_IPV6, Verdict::Forwarded),
        (NextHop::OUTER_IPV6 | NextHop::GATEWAY_IPV6, Verdict::Forwarded),
    ] {
        memory.next_hops.get_mut(&SLOT).unwrap().flags = flags;
        assert_eq!(verdict(&memory, Family::Ipv4), Verdict::Forwarded);
        assert_eq!(verdict(&memory, Family::Ipv6), ipv6, "{flags:#b}");
    }
}

#[test]
fn chatter_without_a_prefix_has_reasons_of_its_own() {
    let v4 = [
        ([10, 9, 9, 9], Verdict::NoPrefix),
        ([223, 255, 255, 255], Verdict::NoPrefix),
        ([224, 0, 0, 0], Verdict::Multicast),
        ([239, 255, 255, 255], Verdict::Multicast),
        ([240, 0, 0, 0], Verdict::NoPrefix),
        ([255, 255, 255, 255], Verdict::Multicast),
        ([169, 254, 0, 1], Verdict::LinkLocal),
        ([169, 253, 255, 255], Verdict::NoPrefix),
    ];
    for (address, expected) in v4 {
        let headers = Headers {
            destination: Address::v4(address),
            ..headers(Family::Ipv4)
        };
        assert_eq!(verdict_of(&Memory::default(), &headers), expected, "{address:?}");
    }
    let v6 = [
        ([0xff, 0x02], Verdict::Multicast),
        ([0xfe, 0x80], Verdict::LinkLocal),
        ([0xfe, 0xbf], Verdict::LinkLocal),
        ([0xfe, 0xc0], Verdict::NoPrefix),
        ([0xfd, 0x00], Verdict::NoPrefix),
    ];
    for (start, expected) in v6 {
        let mut address = [0; 16];
        address[..2].copy_from_slice(&start);
        let headers = Headers {
            destination: Address::v6(address),
            ..headers(Family::Ipv6)
        };
        assert_eq!(verdict_of(&Memory::default(), &headers), expected, "{start:?}");
    }
}

#[test]
fn a_prefix_covers_chatter_too() {
    let mut memory = memory(geneve());
    let multicast = [239, 1, 2, 3];
    let target = memory.v4[&common::V4_DESTINATION];
    memory.v4.insert(multicast, target);
    let headers = Headers {
        destination: Address::v4(multicast),
        ..headers(Family::Ipv4)
    };
    assert_eq!(verdict_of(&memory, &headers), Verdict::Forwarded);
}

#[test]
fn verdicts_are_distinguished() {
    let mut names: Vec<_> = Verdict::ALL.iter().map(|verdict| verdict.name()).collect();
    let mut ingress: Vec<_> = IngressVerdict::ALL.iter().map(|verdict| verdict.name()).collect();
    for (index, verdict) in (0..).zip(Verdict::ALL) {
        assert_eq!(
            (verdict.index(), Verdict::from_index(index)),
            (index, Some(*verdict))
        );
        assert!(verdict.explanation().ends_with('.'));
    }
    assert_eq!(Verdict::from_index(Verdict::COUNT), None);
    for names in [&mut names, &mut ingress] {
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
