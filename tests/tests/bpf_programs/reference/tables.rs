//! Random tables, and their layout in the maps.

use std::net::IpAddr;

use adit_tests::bpf::Programs;
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{
    Class, Group, GroupMember, MAX_GROUPS, MAX_NEXT_HOPS, NextHop, NextHopState, PrefixTarget,
};
use dataplane_ebpf::select::member_key;

use super::random::{Random, random_class, random_destination, random_next_hop};

#[derive(Clone)]
pub(crate) struct Hop {
    pub(crate) slot: u32,
    pub(crate) next_hop: NextHop,
    pub(crate) down: bool,
}

pub(crate) struct Members {
    pub(crate) head: u32,
    /// Slot, remote, weight.
    pub(crate) members: Vec<(u32, [u8; 16], u32)>,
}

pub(crate) struct Prefix {
    pub(crate) address: u128,
    pub(crate) length: u32,
    pub(crate) v6: bool,
    pub(crate) target: TargetKind,
}

/// The tables as lists.
#[derive(Default)]
pub(crate) struct Reference {
    pub(crate) classes: Vec<(u32, Class)>,
    pub(crate) hops: Vec<Hop>,
    pub(crate) groups: Vec<Members>,
    pub(crate) prefixes: Vec<Prefix>,
}

impl Reference {
    pub(crate) fn random(random: &mut Random) -> Reference {
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

    /// A prefix in 10.0.0.0/8 or fd00::/8, so that many contain others.
    pub(crate) fn random_prefix(&self, random: &mut Random, v6: bool) -> Prefix {
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

    pub(crate) fn write(&self, programs: &mut Programs) {
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
            let target = PrefixTarget::new(prefix.target);
            if prefix.v6 {
                programs.set_prefix_v6(bytes, prefix.length, target).unwrap();
            } else {
                let bytes = [bytes[0], bytes[1], bytes[2], bytes[3]];
                programs.set_prefix_v4(bytes, prefix.length, target).unwrap();
            }
        }
    }
}

/// An address in the upper bits, so that prefixes of both families are compared in the same way.
pub(crate) fn upper_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)) << 96,
        IpAddr::V6(address) => u128::from(address),
    }
}
