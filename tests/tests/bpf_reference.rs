//! The egress program against a plain reference over random tables: where each packet goes, why it does not, and that
//! it counts once and in the right place.
//!
//! The reference is written from the layout's description and shares no code with the program: prefixes are searched
//! in a list, and the choice among members is made with floating-point logarithms.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use adit_tests::bpf::{Context, Programs, TC_ACT_REDIRECT, TC_ACT_SHOT, skipped};
use adit_tests::frame::{ETHERNET, Udp};
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{
    Class, Counters, Group, GroupMember, MAX_CLASSES, MAX_GROUPS, MAX_NEXT_HOPS, NextHop, NextHopState,
    Target, names,
};
use dataplane_ebpf::select::member_key;
use dataplane_ebpf::verdict::Verdict;

/// Numbers that are random enough and the same on every machine (Marsaglia's xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `end`.
    fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() >> 11 & 0xffff_ffff).unwrap() % end
    }

    fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(u32::try_from(from.len()).unwrap())).unwrap()]
    }
}

#[derive(Clone)]
struct Hop {
    slot: u32,
    next_hop: NextHop,
    down: bool,
}

struct Members {
    head: u32,
    /// Slot, remote, weight.
    members: Vec<(u32, [u8; 16], u32)>,
}

struct Prefix {
    address: u128,
    length: u32,
    v6: bool,
    target: TargetKind,
}

#[derive(Default)]
struct Reference {
    classes: Vec<(u32, Class)>,
    hops: Vec<Hop>,
    groups: Vec<Members>,
    prefixes: Vec<Prefix>,
}

#[derive(Debug)]
enum Expected {
    /// Any of these slots: more than one only where the logarithms are too near to each other to tell.
    Forwarded(Vec<u32>),
    Dropped(Verdict),
}

/// An address in the upper bits, so that both families' prefixes are compared alike.
fn upper_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Reference {
    fn random(random: &mut Random) -> Reference {
        let mut reference = Reference::default();
        for number in 0..8 {
            reference.classes.push((1 + number * 36, random_class(random)));
        }
        for number in 0..60 {
            // Spread over the whole table, its last slot included.
            let slot = MAX_NEXT_HOPS - 1 - number * (MAX_NEXT_HOPS / 61);
            let class = reference.classes[usize::try_from(random.below(8)).unwrap()].0;
            let class = if random.one_in(20) { 250 } else { class };
            reference.hops.push(Hop {
                slot,
                next_hop: random_next_hop(random, class),
                down: random.one_in(4),
            });
        }
        for number in 0..12_u32 {
            let equal = random.one_in(2);
            let count = *random.pick(&[1, 2, 3, 4, 4, 5, 8, 13]);
            let members = (0..count).map(|_| {
                let hop = random.pick(&reference.hops).clone();
                (
                    hop.slot,
                    hop.next_hop.remote,
                    if equal { 7 } else { 1 + random.below(255) },
                )
            });
            let mut members: Vec<_> = members.collect();
            members.sort_unstable();
            members.dedup_by_key(|member| member.0);
            reference.groups.push(Members {
                head: MAX_GROUPS - 1 - number * 10,
                members,
            });
        }
        for number in 0..80 {
            let prefix = reference.random_prefix(random, number % 2 == 0);
            let known = |other: &Prefix| {
                (other.address, other.length, other.v6) == (prefix.address, prefix.length, prefix.v6)
            };
            if !reference.prefixes.iter().any(known) {
                reference.prefixes.push(prefix);
            }
        }
        reference
    }

    /// Within 10.0.0.0/8 or fd00::/8, close enough together that many lie in others.
    fn random_prefix(&self, random: &mut Random, v6: bool) -> Prefix {
        let length = if v6 {
            *random.pick(&[16, 32, 48, 64, 64, 65, 128])
        } else {
            9 + random.below(24)
        };
        let address = upper_bits(random_destination(random, v6)) & (u128::MAX << (128 - length));
        let target = match random.below(20) {
            0 => TargetKind::Local,
            1 => TargetKind::Empty,
            2 => TargetKind::NextHop(2),
            3 => TargetKind::Group(3),
            4..=11 => TargetKind::Group(random.pick(&self.groups).head),
            _ => TargetKind::NextHop(random.pick(&self.hops).slot),
        };
        Prefix {
            address,
            length,
            v6,
            target,
        }
    }

    fn write(&self, programs: &mut Programs) {
        for (slot, class) in &self.classes {
            programs.set_class(*slot, class).unwrap();
        }
        for hop in &self.hops {
            programs.set_next_hop(hop.slot, &hop.next_hop).unwrap();
            let state = if hop.down {
                NextHopState::DOWN
            } else {
                NextHopState::USABLE
            };
            programs.set_state(hop.slot, state).unwrap();
        }
        for group in &self.groups {
            let chunks: Vec<_> = group.members.chunks(Group::MEMBERS).collect();
            for (number, chunk) in (0..).zip(&chunks) {
                let last = usize::try_from(number).unwrap() + 1 == chunks.len();
                let mut value = Group {
                    count: u32::try_from(chunk.len()).unwrap(),
                    next: if last { 0 } else { group.head - number - 1 },
                    head: u32::from(number == 0),
                    ..Group::default()
                };
                for (place, &(next_hop, remote, weight)) in value.members.iter_mut().zip(chunk.iter()) {
                    *place = GroupMember {
                        next_hop,
                        key: member_key(&remote),
                        weight,
                    };
                }
                programs.set_group(group.head - number, &value).unwrap();
            }
        }
        for prefix in &self.prefixes {
            let bytes = prefix.address.to_be_bytes();
            let target = Target::new(prefix.target);
            if prefix.v6 {
                programs.set_prefix_v6(bytes, prefix.length, target).unwrap();
            } else {
                let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
                programs.set_prefix_v4(bytes, prefix.length, target).unwrap();
            }
        }
    }

    fn class(&self, slot: u32) -> Option<&Class> {
        self.classes
            .iter()
            .find(|class| class.0 == slot)
            .map(|class| &class.1)
    }

    fn hop(&self, slot: u32) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.slot == slot)
    }

    fn expect(&self, packet: &Udp) -> Expected {
        let (destination, v6) = (upper_bits(packet.destination), packet.destination.is_ipv6());
        let covers = |prefix: &&Prefix| {
            prefix.v6 == v6 && (prefix.address ^ destination).leading_zeros() >= prefix.length
        };
        let best = self
            .prefixes
            .iter()
            .filter(covers)
            .max_by_key(|prefix| prefix.length);
        let slots = match best.map(|prefix| prefix.target) {
            None | Some(TargetKind::Empty) => return Expected::Dropped(Verdict::NoPrefix),
            Some(TargetKind::Local) => return Expected::Dropped(Verdict::LocalPrefix),
            Some(TargetKind::NextHop(slot)) => vec![slot],
            Some(TargetKind::Group(head)) => match self.groups.iter().find(|group| group.head == head) {
                None => return Expected::Dropped(Verdict::NoGroup),
                Some(group) => self.best_members(group, packet),
            },
        };
        let verdicts: Vec<Verdict> = slots.iter().map(|&slot| self.behind(slot, v6)).collect();
        match verdicts[..] {
            [] => Expected::Dropped(Verdict::NoUsableNextHop),
            [Verdict::Forwarded, ..] => Expected::Forwarded(slots),
            [verdict, ..] => Expected::Dropped(verdict),
        }
    }

    fn behind(&self, slot: u32, v6: bool) -> Verdict {
        let Some(hop) = self.hop(slot) else {
            return Verdict::NoNextHop;
        };
        if hop.down {
            return Verdict::NoUsableNextHop;
        }
        let Some(class) = self.class(hop.next_hop.class) else {
            return Verdict::NoClass;
        };
        let outer_v4 = hop.next_hop.flags & NextHop::OUTER_IPV6 == 0;
        if class.encapsulation == Class::IPIP && v6 {
            Verdict::InnerFamily
        } else if class.flags & Class::TUNNEL_KEY != 0 && outer_v4 && hop.next_hop.flow_label != 0 {
            Verdict::TunnelKeyRejected
        } else {
            Verdict::Forwarded
        }
    }

    /// The usable member of the greatest `weight / -ln(draw)`, and those that come within two percent of it.
    fn best_members(&self, group: &Members, packet: &Udp) -> Vec<u32> {
        let flow = flow_hash(packet);
        let usable = group
            .members
            .iter()
            .filter(|member| self.hop(member.0).is_some_and(|hop| !hop.down));
        let scored = usable.map(|&(slot, remote, weight)| {
            let draw = mix(
                &[u64::from(member_key(&remote)) << 32 | u64::from(flow)],
                KEY_SEED,
            );
            let unit = (f64::from(draw) + 1.0) / 4_294_967_296.0;
            (f64::from(weight) / -unit.ln(), slot)
        });
        let mut scored: Vec<(f64, u32)> = scored.collect();
        scored.sort_by(|one, other| other.0.total_cmp(&one.0));
        let equal = group.members.iter().all(|member| member.2 == group.members[0].2);
        let slack = if equal { 1.0 } else { 0.98 };
        let best = scored.first().map_or(0.0, |best| best.0);
        scored
            .into_iter()
            .take_while(|member| member.0 >= best * slack)
            .map(|member| member.1)
            .collect()
    }
}

const FLOW_SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const KEY_SEED: u64 = 0xc2b2_ae3d_27d4_eb4f;

/// The hash's definition, written down a second time: it must not change unnoticed, for flows would move.
fn mix(words: &[u64], seed: u64) -> u32 {
    let mut state = u128::from(seed);
    for &word in words {
        state = ((state ^ u128::from(word)) * 0xd6e8_feb8_6659_fd93) & u128::from(u64::MAX);
        state ^= state >> 32;
    }
    let product = (state * 0xff51_afd7_ed55_8ccd) & u128::from(u64::MAX);
    u32::try_from(product >> 32).unwrap()
}

fn flow_hash(packet: &Udp) -> u32 {
    let last = 17_u64 << 32 | u64::from(packet.ports.0) << 16 | u64::from(packet.ports.1);
    let word = |bits: u128| u64::try_from(bits & u128::from(u64::MAX)).unwrap();
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => mix(
            &[
                u64::from(u32::from(source)) << 32 | u64::from(u32::from(destination)),
                last,
            ],
            FLOW_SEED,
        ),
        (source, destination) => {
            let (source, destination) = (upper_bits(source), upper_bits(destination));
            mix(
                &[
                    word(source >> 64),
                    word(source),
                    word(destination >> 64),
                    word(destination),
                    last,
                ],
                FLOW_SEED,
            )
        }
    }
}

fn random_class(random: &mut Random) -> Class {
    let encapsulation = *random.pick(&[
        Class::GENEVE,
        Class::VXLAN,
        Class::IPIP,
        Class::IP6TNL,
        Class::WIREGUARD,
    ]);
    let shape = match encapsulation {
        Class::GENEVE | Class::VXLAN => Class::INNER_ETHERNET | Class::TUNNEL_KEY,
        Class::WIREGUARD => 0,
        _ => Class::TUNNEL_KEY,
    };
    let options = [
        0,
        Class::DONT_FRAGMENT,
        Class::ZERO_CHECKSUM,
        Class::INHERIT_DSCP,
        Class::INHERIT_TTL,
        Class::DONT_FRAGMENT,
    ];
    Class {
        ifindex: 1 + random.below(1000),
        vni: random.below(1 << 24),
        source_mac: [2, 0xaa, random.next().to_ne_bytes()[0], 0, 0, encapsulation],
        encapsulation,
        ttl: 64,
        flags: shape | random.pick(&options) | random.pick(&options),
        ..Class::default()
    }
}

fn random_next_hop(random: &mut Random, class: u32) -> NextHop {
    let mut next_hop = NextHop {
        class,
        ..NextHop::default()
    };
    let [first, second, ..] = random.next().to_ne_bytes();
    next_hop.destination_mac = [2, 0xbb, first, second, 0, 1];
    let length = if random.one_in(2) { 16 } else { 4 };
    for byte in next_hop.remote[..length]
        .iter_mut()
        .chain(&mut next_hop.local[..length])
    {
        *byte = random.next().to_ne_bytes()[3];
    }
    if length == 16 {
        next_hop.flags |= NextHop::OUTER_IPV6;
    }
    // In an IPv4 key the kernel refuses it.
    next_hop.flow_label = if random.one_in(6) { 0x54321 } else { 0 };
    next_hop
}

fn random_destination(random: &mut Random, v6: bool) -> IpAddr {
    let small = |random: &mut Random| u16::try_from(random.below(4)).unwrap();
    if v6 {
        let words = [
            0xfd00,
            small(random),
            small(random),
            small(random),
            small(random) << 15,
            0,
            0,
            small(random),
        ];
        IpAddr::V6(Ipv6Addr::from(words))
    } else {
        let byte = |random: &mut Random| u8::try_from(random.below(3) * 85).unwrap();
        IpAddr::V4(Ipv4Addr::new(10, byte(random), byte(random), byte(random)))
    }
}

fn random_packet(random: &mut Random) -> Udp {
    let v6 = random.one_in(2);
    let port = |random: &mut Random| u16::try_from(random.below(65_536)).unwrap();
    Udp {
        ports: (port(random), port(random)),
        ttl: u8::try_from(1 + random.below(255)).unwrap(),
        tos: u8::try_from(random.below(256)).unwrap(),
        payload: u16::try_from(random.below(1000)).unwrap(),
        ..Udp::new(random_destination(random, v6), random_destination(random, v6))
    }
}

/// What the kernel must have counted so far.
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

/// Runs a packet, asserts what became of it and writes it down. Returns its verdict.
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

#[test]
fn agrees_with_the_reference() {
    if skipped() {
        return;
    }
    assert!(MAX_CLASSES > 253);
    let mut seen = std::collections::BTreeMap::<Verdict, u32>::new();
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
