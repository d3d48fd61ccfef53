//! The programs `adit_in_…` count packets that arrive on tunnel devices, by verdict and by source, and accept
//! them.
//!
//! Each encapsulation has its own program, all with the same code: neither the packet nor its metadata tells
//! whether it arrived by GENEVE or VXLAN, and a program that knows its device does not have to look that up.

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
    // Not TC_ACT_OK, so that the kernel also runs the programs after this one.
    TC_ACT_UNSPEC
}
