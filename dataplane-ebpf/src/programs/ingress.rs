//! `adit_in_…`: look at what comes out of the tunnel devices, count it by verdict and by source, and let it pass.
//!
//! One program an encapsulation, all of the same code: neither the packet nor its metadata says whether GENEVE or VXLAN
//! brought it, and a program that knows its device need not look that up.

use aya_ebpf::bindings::TC_ACT_UNSPEC;
use aya_ebpf::macros::classifier;
use aya_ebpf::programs::TcContext;
use dataplane_ebpf::arrive::arrive;
use dataplane_ebpf::layout::Class;

use super::maps::{Maps, count_ingress, keep_labels};
use super::skb::Skb;

#[classifier]
fn adit_in_geneve(context: TcContext) -> i32 {
    ingress(&context, Class::GENEVE)
}

#[classifier]
fn adit_in_vxlan(context: TcContext) -> i32 {
    ingress(&context, Class::VXLAN)
}

#[classifier]
fn adit_in_ipip(context: TcContext) -> i32 {
    ingress(&context, Class::IPIP)
}

#[classifier]
fn adit_in_ip6tnl(context: TcContext) -> i32 {
    ingress(&context, Class::IP6TNL)
}

#[inline(always)]
fn ingress(context: &TcContext, encapsulation: u8) -> i32 {
    let skb = Skb::new(context.skb.skb);
    let (verdict, length) = arrive(&skb, encapsulation, &Maps);
    keep_labels();
    count_ingress(verdict, length);
    // Not TC_ACT_OK: programs behind this one are asked too.
    TC_ACT_UNSPEC
}
