//! `adit_egress` sends each packet that leaves by `adit0` to the tunnel of its destination, or drops it with
//! a verdict.

use aya_ebpf::bindings::{
    BPF_F_DONT_FRAGMENT, BPF_F_TUNINFO_IPV6, BPF_F_ZERO_CSUM_TX, TC_ACT_REDIRECT, TC_ACT_SHOT,
    bpf_redir_neigh__bindgen_ty_1, bpf_tunnel_key__bindgen_ty_1, bpf_tunnel_key__bindgen_ty_2,
    bpf_tunnel_key__bindgen_ty_3,
};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use dataplane_ebpf::decide::{Decision, decide};
use dataplane_ebpf::layout::{Class, NextHop};
use dataplane_ebpf::packet::headers::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Ipv6};
use dataplane_ebpf::packet::{Family, Packet, parse_ethernet};
use dataplane_ebpf::verdict::Verdict;

use super::log;
use super::maps::{Maps, count_egress, count_next_hop, log_enabled};
use super::skb::{Neighbour, Skb, TunnelKey};

#[expect(clippy::cast_possible_truncation, reason = "14")]
const ETHERNET: u32 = ETHERNET_LENGTH as u32;
/// Bytes that the program reads from the packet without a helper: the headers up to the ports.
#[expect(clippy::cast_possible_truncation, reason = "58")]
const LINEAR: u32 = (ETHERNET_LENGTH + size_of::<Ipv6>() + 4) as u32;
/// `AF_INET` and `AF_INET6` (linux/socket.h).
const AF_INET: u32 = 2;
const AF_INET6: u32 = 10;
const REDIRECT: i32 = TC_ACT_REDIRECT;
const DROP: i32 = TC_ACT_SHOT;

#[classifier]
fn adit_egress(context: TcContext) -> i32 {
    let skb = Skb::new(context.skb.skb);
    let length = skb.length().saturating_sub(ETHERNET);
    match forward(&skb) {
        Ok(slot) => {
            count_next_hop(slot, length);
            count_egress(Verdict::Forwarded, length);
            if log_enabled() {
                log::forwarded(&skb, slot);
            }
            REDIRECT
        }
        Err(verdict) => {
            count_egress(verdict, length);
            if log_enabled() {
                log::dropped(&skb, verdict);
            }
            DROP
        }
    }
}

/// Does everything except counting; returns the slot of the next hop to whose device the packet is
/// redirected.
#[inline(always)]
fn forward(skb: &Skb) -> Result<u32, Verdict> {
    if skb.ingress_ifindex() == skb.ifindex() {
        return Err(Verdict::Looped);
    }
    skb.make_linear(LINEAR);
    let headers = parse_ethernet(skb)?;
    let decision = decide(&headers, &Maps)?;
    if decision.class.flags & Class::TUNNEL_KEY != 0 {
        set_tunnel_key(skb, &decision)?;
    }
    if decision.class.flags & Class::INNER_ETHERNET != 0 {
        store_ethernet(skb, &decision, headers.family)?;
    }
    let action = if decision.class.flags & Class::TO_NEIGHBOUR != 0 {
        forget_route(skb)?;
        skb.redirect_to_neighbour(decision.ifindex, &neighbour(decision.next_hop))
    } else {
        skb.redirect(decision.ifindex)
    };
    if action != REDIRECT {
        return Err(Verdict::RedirectFailed);
    }
    Ok(decision.slot)
}

/// Detaches the anchor route from the packet. If the packet had to wait for the resolution of the neighbour,
/// the kernel would otherwise send it to the gateway of that route, and it would be lost. Tunnel metadata
/// replaces the route and has no other effect; no other helper does that.
#[inline(always)]
fn forget_route(skb: &Skb) -> Result<(), Verdict> {
    let nothing = TunnelKey {
        tunnel_id: 0,
        __bindgen_anon_1: bpf_tunnel_key__bindgen_ty_1 { remote_ipv6: [0; 4] },
        tunnel_tos: 0,
        tunnel_ttl: 0,
        __bindgen_anon_2: bpf_tunnel_key__bindgen_ty_2 { tunnel_ext: 0 },
        tunnel_label: 0,
        __bindgen_anon_3: bpf_tunnel_key__bindgen_ty_3 { local_ipv6: [0; 4] },
    };
    if skb.set_tunnel_key(&nothing, 0) {
        Ok(())
    } else {
        Err(Verdict::TunnelKeyRejected)
    }
}

/// The neighbour of a next hop without encapsulation. All addresses are in network byte order.
#[inline(always)]
fn neighbour(next_hop: &NextHop) -> Neighbour {
    let family = if next_hop.flags & NextHop::GATEWAY_IPV6 != 0 {
        AF_INET6
    } else {
        AF_INET
    };
    Neighbour {
        nh_family: family,
        // An IPv4 address occupies the first word.
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 {
            ipv6_nh: words(&next_hop.gateway),
        },
    }
}

/// Sets the tunnel metadata. The kernel expects IPv4 addresses in host byte order, IPv6 addresses in network
/// byte order, and the outer family as a flag.
#[inline(always)]
fn set_tunnel_key(skb: &Skb, decision: &Decision<'_>) -> Result<(), Verdict> {
    let next_hop = decision.next_hop;
    let (remote, local): ([u32; 4], [u32; 4]) = (words(&next_hop.remote), words(&next_hop.local));
    let outer_ipv6 = next_hop.flags & NextHop::OUTER_IPV6 != 0;
    let mut key = TunnelKey {
        tunnel_id: decision.class.vni,
        __bindgen_anon_1: bpf_tunnel_key__bindgen_ty_1 { remote_ipv6: remote },
        tunnel_tos: decision.tos,
        tunnel_ttl: decision.ttl,
        __bindgen_anon_2: bpf_tunnel_key__bindgen_ty_2 { tunnel_ext: 0 },
        tunnel_label: next_hop.flow_label,
        __bindgen_anon_3: bpf_tunnel_key__bindgen_ty_3 { local_ipv6: local },
    };
    let mut flags = 0;
    if outer_ipv6 {
        flags |= u64::from(BPF_F_TUNINFO_IPV6);
    } else {
        key.__bindgen_anon_1.remote_ipv4 = u32::from_be(remote[0]);
        key.__bindgen_anon_3.local_ipv4 = u32::from_be(local[0]);
    }
    if decision.class.flags & Class::DONT_FRAGMENT != 0 {
        flags |= u64::from(BPF_F_DONT_FRAGMENT);
    }
    if decision.class.flags & Class::ZERO_CHECKSUM != 0 {
        flags |= u64::from(BPF_F_ZERO_CSUM_TX);
    }
    if skb.set_tunnel_key(&key, flags) {
        Ok(())
    } else {
        Err(Verdict::TunnelKeyRejected)
    }
}

#[inline(always)]
fn store_ethernet(skb: &Skb, decision: &Decision<'_>, family: Family) -> Result<(), Verdict> {
    let ethertype = match family {
        Family::Ipv4 => ETHERTYPE_IPV4,
        Family::Ipv6 => ETHERTYPE_IPV6,
    };
    let header = Ethernet {
        destination: decision.next_hop.destination_mac,
        source: decision.class.source_mac,
        ethertype: ethertype.to_be(),
    };
    if skb.store_ethernet(&header) {
        Ok(())
    } else {
        Err(Verdict::StoreFailed)
    }
}

/// The words of an address in memory order. The fields have word-aligned offsets in the value of the map.
#[inline(always)]
fn words(address: &[u8; 16]) -> [u32; 4] {
    bytemuck::cast(*address)
}
