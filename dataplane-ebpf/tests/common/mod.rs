//! Constructed frames, and tables in memory.
#![expect(clippy::unwrap_used, reason = "a test's helper that fails is a failed test")]
#![expect(dead_code, reason = "each test file takes what it needs")]

use std::collections::BTreeMap;

use dataplane_ebpf::decide::Tables;
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{Class, Group, GroupMember, NextHop, NextHopState, PrefixTarget, UNUSED_SLOT};
use dataplane_ebpf::packet::{Address, Family, Headers, Ports};
use dataplane_ebpf::select::member_key;

pub(crate) const V4_SOURCE: [u8; 4] = [10, 1, 0, 9];
pub(crate) const V4_DESTINATION: [u8; 4] = [10, 2, 3, 4];
pub(crate) const V6_SOURCE: [u8; 16] = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
pub(crate) const V6_DESTINATION: [u8; 16] = [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 4];
/// Ports 4660 and 22136.
pub(crate) const PORTS: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// An IPv4 frame with these options, fragment field, protocol and payload.
pub(crate) fn frame_v4(options: &[u8], fragment: u16, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];
    let words = u8::try_from(5 + options.len() / 4).unwrap();
    let total = u16::try_from(20 + options.len() + payload.len()).unwrap();
    frame.extend([0x40 | words, 0xb9]);
    frame.extend(total.to_be_bytes());
    frame.extend([0, 1]);
    frame.extend(fragment.to_be_bytes());
    frame.extend([63, protocol, 0, 0]);
    frame.extend(V4_SOURCE);
    frame.extend(V4_DESTINATION);
    frame.extend(options);
    frame.extend(payload);
    frame
}

/// An IPv6 frame with this next header and payload.
pub(crate) fn frame_v6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd];
    frame.extend([0x6b, 0x91, 0x23, 0x45]);
    frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend([next_header, 62]);
    frame.extend(V6_SOURCE);
    frame.extend(V6_DESTINATION);
    frame.extend(payload);
    frame
}

/// The headers of a UDP packet to the usual destination.
pub(crate) fn headers(family: Family) -> Headers {
    let (source, destination) = match family {
        Family::Ipv4 => (Address::v4(V4_SOURCE), Address::v4(V4_DESTINATION)),
        Family::Ipv6 => (Address::v6(V6_SOURCE), Address::v6(V6_DESTINATION)),
    };
    Headers {
        family,
        source,
        destination,
        protocol: 17,
        tos: 0xb9,
        hop_limit: 63,
        ports: Some(Ports {
            source: 4660,
            destination: 22136,
        }),
        length: 100,
    }
}

/// Tables whose prefixes are single addresses.
#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) v4: BTreeMap<[u8; 4], PrefixTarget>,
    pub(crate) v6: BTreeMap<[u8; 16], PrefixTarget>,
    pub(crate) groups: BTreeMap<u32, Group>,
    pub(crate) next_hops: BTreeMap<u32, NextHop>,
    pub(crate) classes: BTreeMap<u32, Class>,
    pub(crate) states: BTreeMap<u32, NextHopState>,
}

impl Tables for Memory {
    fn prefix_v4(&self, address: [u8; 4]) -> Option<PrefixTarget> {
        self.v4.get(&address).copied()
    }
    fn prefix_v6(&self, address: [u8; 16]) -> Option<PrefixTarget> {
        self.v6.get(&address).copied()
    }
    fn group(&self, slot: u32) -> Option<&Group> {
        self.groups.get(&slot)
    }
    fn next_hop(&self, slot: u32) -> Option<&NextHop> {
        self.next_hops.get(&slot)
    }
    fn class(&self, slot: u32) -> Option<&Class> {
        self.classes.get(&slot)
    }
    fn state(&self, slot: u32) -> Option<NextHopState> {
        self.states.get(&slot).copied()
    }
}

impl Memory {
    /// Sets the target of both usual destinations.
    pub(crate) fn point(&mut self, kind: TargetKind) {
        self.v4.insert(V4_DESTINATION, PrefixTarget::new(kind));
        self.v6.insert(V6_DESTINATION, PrefixTarget::new(kind));
    }

    /// Stores a group of (slot, last byte of the address, weight) in the slots from `head` on, and marks all
    /// members as usable.
    pub(crate) fn lay_group(&mut self, head: u32, members: &[(u32, u8, u32)]) {
        let chunks: Vec<_> = members.chunks(Group::MEMBERS).collect();
        for (number, chunk) in (0..).zip(&chunks) {
            let mut group = Group {
                count: u32::try_from(chunk.len()).unwrap(),
                ..Group::default()
            };
            group.head = u32::from(number == 0);
            let last = usize::try_from(number).unwrap() + 1 == chunks.len();
            group.next = if last { UNUSED_SLOT } else { head + number + 1 };
            for (place, &(next_hop, last_byte, weight)) in group.members.iter_mut().zip(chunk.iter()) {
                *place = GroupMember {
                    next_hop,
                    key: member_key(&remote(last_byte)),
                    weight,
                };
                self.states.insert(next_hop, NextHopState::USABLE);
            }
            self.groups.insert(head + number, group);
        }
    }
}

/// 192.0.2.x.
pub(crate) fn remote(last_byte: u8) -> [u8; 16] {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[192, 0, 2, last_byte]);
    address
}
