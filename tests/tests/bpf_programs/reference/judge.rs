//! The expected result for a packet, computed without the code of the program.

use std::net::IpAddr;

use adit_tests::frame::Udp;
use dataplane_ebpf::layout::target::TargetKind;
use dataplane_ebpf::layout::{Class, NextHop};
use dataplane_ebpf::select::member_key;
use dataplane_ebpf::verdict::Verdict;

use super::tables::{Hop, Members, Prefix, Reference, upper_bits};

#[derive(Debug)]
pub(crate) enum Expected {
    /// One of these slots; more than one only if the logarithms are too close to decide.
    Forwarded(Vec<u32>),
    Dropped(Verdict),
}

impl Reference {
    pub(crate) fn class(&self, slot: u32) -> Option<&Class> {
        self.classes
            .iter()
            .find(|class| class.0 == slot)
            .map(|class| &class.1)
    }

    pub(crate) fn hop(&self, slot: u32) -> Option<&Hop> {
        self.hops.iter().find(|hop| hop.slot == slot)
    }

    pub(crate) fn expect(&self, packet: &Udp) -> Expected {
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

    pub(crate) fn behind(&self, slot: u32, v6: bool) -> Verdict {
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
        let bare = class.encapsulation == Class::NONE;
        let gateway_v4 = hop.next_hop.flags & NextHop::GATEWAY_IPV6 == 0;
        if v6 && (class.encapsulation == Class::IPIP || bare && gateway_v4) {
            Verdict::InnerFamily
        } else if class.flags & Class::TUNNEL_KEY != 0 && outer_v4 && hop.next_hop.flow_label != 0 {
            Verdict::TunnelKeyRejected
        } else {
            Verdict::Forwarded
        }
    }

    /// The usable member with the greatest `weight / -ln(draw)`, and those within two percent of it.
    pub(crate) fn best_members(&self, group: &Members, packet: &Udp) -> Vec<u32> {
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

/// A second definition of the hash, so that a change is noticed: it would move flows.
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
