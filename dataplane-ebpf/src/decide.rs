//! The decision about a packet to send: its headers and the tables yield a next hop, or the reason why there
//! is none.

use crate::flow;
use crate::layout::target::TargetKind;
use crate::layout::{Class, Group, NextHop, NextHopState, PrefixTarget};
use crate::packet::{Address, Family, Headers};
use crate::select;
use crate::verdict::Verdict;

/// The outer TTL for classes that specify none. Without it, the kernel would send 0 on GENEVE.
const DEFAULT_TTL: u8 = 64;

/// The tables: BPF maps, or memory in tests. A slot that is out of range yields `None`, a free slot its
/// zeroed value.
pub trait Tables {
    /// The target of the longest IPv4 prefix that matches.
    fn prefix_v4(&self, address: [u8; 4]) -> Option<PrefixTarget>;
    /// The target of the longest IPv6 prefix that matches.
    fn prefix_v6(&self, address: [u8; 16]) -> Option<PrefixTarget>;
    /// The group in a slot.
    fn group(&self, slot: u32) -> Option<&Group>;
    /// The next hop in a slot.
    fn next_hop(&self, slot: u32) -> Option<&NextHop>;
    /// The class in a slot.
    fn class(&self, slot: u32) -> Option<&Class>;
    /// The state of the next hop in a slot.
    fn state(&self, slot: u32) -> Option<NextHopState>;
}

/// The next hop of a packet, and the fields of the outer header that depend on the packet.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'t> {
    /// The slot of the next hop, which is also the index of its counters.
    pub slot: u32,
    /// The next hop.
    pub next_hop: &'t NextHop,
    /// The class of the next hop.
    pub class: &'t Class,
    /// The interface index of the class, read once; never 0.
    pub ifindex: u32,
    /// The outer DSCP. The two ECN bits are 0, because the kernel sets them.
    pub tos: u8,
    /// The outer TTL or hop limit, never 0.
    pub ttl: u8,
}

/// Decides where to send a packet. If a prefix covers a multicast or link-local destination, the packet is
/// forwarded. Otherwise such a packet has a verdict of its own, because nodes usually send such packets and
/// no prefix is missing.
///
/// # Errors
/// The reason why the packet is dropped, never [`Verdict::Forwarded`].
#[inline(always)]
pub fn decide<'t, T: Tables + ?Sized>(headers: &Headers, tables: &'t T) -> Result<Decision<'t>, Verdict> {
    if headers.hop_limit == 0 {
        return Err(Verdict::HopLimit);
    }
    let target = match headers.family {
        Family::Ipv4 => tables.prefix_v4(headers.destination.bytes_v4()),
        Family::Ipv6 => tables.prefix_v6(headers.destination.bytes()),
    };
    let Some(target) = target else {
        return Err(reason_without_prefix(headers));
    };
    let slot = match target.kind() {
        TargetKind::NextHop(slot) => match tables.state(slot) {
            Some(NextHopState::USABLE) => slot,
            Some(_) => return Err(Verdict::NoUsableNextHop),
            None => return Err(Verdict::NoNextHop),
        },
        TargetKind::Group(head) => select::choose(tables, head, flow::hash(headers))?,
        TargetKind::Local => return Err(Verdict::LocalPrefix),
        TargetKind::Empty => return Err(reason_without_prefix(headers)),
    };
    resolve(headers, tables, slot)
}

/// Resolves the slot of the chosen next hop to the next hop, its class and the outer header.
#[inline(always)]
fn resolve<'t, T: Tables + ?Sized>(
    headers: &Headers,
    tables: &'t T,
    slot: u32,
) -> Result<Decision<'t>, Verdict> {
    let next_hop = match tables.next_hop(slot) {
        Some(next_hop) if next_hop.is_used() => next_hop,
        _ => return Err(Verdict::NoNextHop),
    };
    let Some(class) = tables.class(next_hop.class) else {
        return Err(Verdict::NoClass);
    };
    let ifindex = class.ifindex;
    if ifindex == 0 || !class.is_used() {
        return Err(Verdict::NoClass);
    }
    if headers.family == Family::Ipv6 && !transports_ipv6(class, next_hop) {
        return Err(Verdict::InnerFamily);
    }
    let tos = if class.flags & Class::INHERIT_DSCP != 0 {
        headers.tos
    } else {
        class.tos
    };
    let ttl = if class.flags & Class::INHERIT_TTL != 0 {
        headers.hop_limit
    } else {
        class.ttl
    };
    Ok(Decision {
        slot,
        next_hop,
        class,
        ifindex,
        tos: tos & !ECN,
        ttl: if ttl == 0 { DEFAULT_TTL } else { ttl },
    })
}

/// Whether a next hop can transport IPv6. An ipip device only transports IPv4, and `bpf_redirect_neigh` can
/// send IPv6 packets only to IPv6 neighbours (it would read an IPv4 neighbour as the start of an IPv6
/// address).
#[inline(always)]
fn transports_ipv6(class: &Class, next_hop: &NextHop) -> bool {
    let to_ipv4_neighbour =
        class.flags & Class::TO_NEIGHBOUR != 0 && next_hop.flags & NextHop::GATEWAY_IPV6 == 0;
    class.encapsulation != Class::IPIP && !to_ipv4_neighbour
}

/// RFC 3168, the lower two bits of the TOS byte.
const ECN: u8 = 0b11;

#[inline(always)]
fn reason_without_prefix(headers: &Headers) -> Verdict {
    match headers.family {
        Family::Ipv4 => reason_v4(headers.destination),
        Family::Ipv6 => reason_v6(headers.destination),
    }
}

/// RFC 1112 and 919 (224.0.0.0/4 and 255.255.255.255), RFC 3927 (169.254.0.0/16).
#[inline(always)]
fn reason_v4(destination: Address) -> Verdict {
    let address = u32::from_be(destination.0[0]);
    if address >> 28 == 0xe || address == u32::MAX {
        Verdict::Multicast
    } else if address >> 16 == 0xa9fe {
        Verdict::LinkLocal
    } else {
        Verdict::NoPrefix
    }
}

/// RFC 4291: ff00::/8, fe80::/10.
#[inline(always)]
fn reason_v6(destination: Address) -> Verdict {
    let start = u32::from_be(destination.0[0]);
    if start >> 24 == 0xff {
        Verdict::Multicast
    } else if start >> 22 == 0x3fa {
        Verdict::LinkLocal
    } else {
        Verdict::NoPrefix
    }
}
