//! `adit_ingress`: looks at what comes out of a tunnel device, counts it and lets it pass.

use aya_ebpf::bindings::{BPF_F_TUNINFO_IPV6, TC_ACT_UNSPEC};
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use dataplane_ebpf::packet::Packet;
use dataplane_ebpf::packet::headers::{ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6};
use dataplane_ebpf::verdict::IngressVerdict;

use super::maps::{count_ingress, keep_labels};
use super::skb::Skb;

#[classifier]
fn adit_ingress(context: TcContext) -> i32 {
    let skb = Skb::new(context.skb.skb);
    let (verdict, start) = look(&skb);
    keep_labels();
    count_ingress(verdict, skb.length().saturating_sub(start));
    // Not TC_ACT_OK: programs behind this one are asked too.
    TC_ACT_UNSPEC
}

/// The verdict, and where the IP header starts.
#[inline(always)]
fn look(skb: &Skb) -> (IngressVerdict, u32) {
    let (version, accepted) = match skb.protocol() {
        ETHERTYPE_IPV4 => (4, IngressVerdict::AcceptedIpv4),
        ETHERTYPE_IPV6 => (6, IngressVerdict::AcceptedIpv6),
        _ => return (IngressVerdict::NotIp, 0),
    };
    let Some(start) = find_ip_header(skb, version) else {
        return (IngressVerdict::BadHeader, 0);
    };
    if skb.has_tunnel_key(0) || skb.has_tunnel_key(u64::from(BPF_F_TUNINFO_IPV6)) {
        (accepted, start)
    } else {
        (IngressVerdict::NoTunnelKey, start)
    }
}

/// GENEVE and VXLAN hand over a frame, ipip and ip6tnl an IP packet. The frames are addressed to our own devices, whose
/// addresses start with 02 and never with a nibble that reads as an IP version.
#[inline(always)]
fn find_ip_header(skb: &Skb, version: u8) -> Option<u32> {
    if skb.at::<u8>(0)? >> 4 == version {
        return Some(0);
    }
    #[expect(clippy::cast_possible_truncation, reason = "14")]
    let behind_ethernet = ETHERNET_LENGTH as u32;
    (skb.at::<u8>(ETHERNET_LENGTH)? >> 4 == version).then_some(behind_ethernet)
}
