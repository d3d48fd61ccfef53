//! Random classes, next hops and packets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use adit_tests::frame::Udp;
use dataplane_ebpf::layout::{Class, NextHop};

/// Numbers that are random enough and the same on every machine (Marsaglia's xorshift).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `end`.
    pub(crate) fn below(&mut self, end: u32) -> u32 {
        u32::try_from(self.next() >> 11 & 0xffff_ffff).unwrap() % end
    }

    pub(crate) fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.below(u32::try_from(from.len()).unwrap())).unwrap()]
    }
}

pub(crate) fn random_class(random: &mut Random) -> Class {
    let encapsulation = *random.pick(&[
        Class::GENEVE,
        Class::VXLAN,
        Class::IPIP,
        Class::IP6TNL,
        Class::WIREGUARD,
        Class::NONE,
    ]);
    let shape = match encapsulation {
        Class::GENEVE | Class::VXLAN => Class::INNER_ETHERNET | Class::TUNNEL_KEY,
        Class::WIREGUARD => 0,
        Class::NONE => Class::TO_NEIGHBOUR,
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

pub(crate) fn random_next_hop(random: &mut Random, class: u32) -> NextHop {
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
    // The neighbour's family is not the peer's.
    let length = if random.one_in(2) { 16 } else { 4 };
    for byte in &mut next_hop.gateway[..length] {
        *byte = random.next().to_ne_bytes()[3];
    }
    if length == 16 {
        next_hop.flags |= NextHop::GATEWAY_IPV6;
    }
    // In an IPv4 key the kernel refuses it.
    next_hop.flow_label = if random.one_in(6) { 0x54321 } else { 0 };
    next_hop
}

pub(crate) fn random_destination(random: &mut Random, v6: bool) -> IpAddr {
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

pub(crate) fn random_packet(random: &mut Random) -> Udp {
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
