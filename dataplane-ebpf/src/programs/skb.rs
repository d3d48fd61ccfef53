//! The packet as the kernel passes it to programs. All unsafe accesses to it and all calls of packet helpers
//! are in this file.
#![expect(
    unsafe_code,
    reason = "reads packets by pointer and calls the kernel's helpers"
)]

use core::mem::MaybeUninit;
use core::ptr;

use aya_ebpf::bindings::{__sk_buff, BPF_F_TUNINFO_IPV6, bpf_redir_neigh, bpf_tunnel_key};
use aya_ebpf::helpers::generated::{
    bpf_redirect, bpf_redirect_neigh, bpf_skb_get_tunnel_key, bpf_skb_load_bytes, bpf_skb_pull_data,
    bpf_skb_set_tunnel_key, bpf_skb_store_bytes,
};
use bytemuck::AnyBitPattern;
use dataplane_ebpf::arrive::{Arriving, Outer};
use dataplane_ebpf::packet::headers::Ethernet;
use dataplane_ebpf::packet::{Address, Family, Packet};

/// `struct bpf_tunnel_key` including the local address; the kernel recognizes the version of the struct by
/// its size.
pub(super) type TunnelKey = bpf_tunnel_key;

#[expect(clippy::cast_possible_truncation, reason = "44")]
const TUNNEL_KEY_SIZE: u32 = {
    assert!(size_of::<TunnelKey>() == 44);
    size_of::<TunnelKey>() as u32
};

/// `struct bpf_redir_neigh`: the neighbour whose entry provides the Ethernet header.
pub(super) type Neighbour = bpf_redir_neigh;

#[expect(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "20")]
const NEIGHBOUR_SIZE: i32 = {
    assert!(size_of::<Neighbour>() == 20);
    size_of::<Neighbour>() as i32
};

/// A packet in a TC program.
pub(super) struct Skb {
    raw: *mut __sk_buff,
}

impl Skb {
    /// Wraps the context that the kernel passed to the program.
    #[inline(always)]
    pub(super) fn new(raw: *mut __sk_buff) -> Skb {
        Skb { raw }
    }

    /// The device that the program is attached to.
    #[inline(always)]
    pub(super) fn ifindex(&self) -> u32 {
        // SAFETY: the kernel's context is valid while the program runs; the verifier checks the field's
        // offset.
        unsafe { (*self.raw).ifindex }
    }

    /// The device on which the packet arrived; 0 for packets that the node itself sends.
    #[inline(always)]
    pub(super) fn ingress_ifindex(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.raw).ingress_ifindex }
    }

    /// Makes the first `length` bytes, or the whole packet if it is shorter, readable by [`Packet::fixed`].
    /// They nearly always are already; then this does nothing. If the kernel can't do it, the reads fail.
    #[inline(always)]
    pub(super) fn make_linear(&self, length: u32) {
        let linear = self.data_end() - self.data();
        let length = length.min(self.length());
        if linear < length as usize {
            // SAFETY: the context is valid; the program keeps no packet pointer over this call.
            let _ = unsafe { bpf_skb_pull_data(self.raw, length) };
        }
    }

    /// Writes the Ethernet header; false if the kernel has no memory for a private copy of it.
    #[inline(always)]
    pub(super) fn store_ethernet(&self, header: &Ethernet) -> bool {
        let from = ptr::from_ref(header).cast_mut().cast();
        // SAFETY: `from` is valid for the size of the header, and the helper checks the end of the packet.
        unsafe { bpf_skb_store_bytes(self.raw, 0, from, ETHERNET_SIZE, 0) == 0 }
    }

    /// Sets the tunnel metadata of the packet; false if the kernel refuses the key.
    #[inline(always)]
    pub(super) fn set_tunnel_key(&self, key: &TunnelKey, flags: u64) -> bool {
        let key = ptr::from_ref(key).cast_mut();
        // SAFETY: all bytes of the key are initialised, and its size is correct.
        unsafe { bpf_skb_set_tunnel_key(self.raw, key, TUNNEL_KEY_SIZE, flags) == 0 }
    }

    /// Redirects the packet to a device; returns the action with which the program must end.
    #[inline(always)]
    pub(super) fn redirect(&self, ifindex: u32) -> i32 {
        // SAFETY: takes no pointer.
        let action = unsafe { bpf_redirect(ifindex, 0) };
        #[expect(clippy::cast_possible_truncation, reason = "TC_ACT_REDIRECT or TC_ACT_SHOT")]
        let action = action as i32;
        action
    }

    /// Redirects the packet to a neighbour on a device, with the Ethernet header for that neighbour; returns
    /// the action with which the program must end.
    #[inline(always)]
    pub(super) fn redirect_to_neighbour(&self, ifindex: u32, neighbour: &Neighbour) -> i32 {
        let neighbour = ptr::from_ref(neighbour).cast_mut();
        // SAFETY: all bytes of the neighbour are initialised, its size is correct, and the kernel copies it.
        let action = unsafe { bpf_redirect_neigh(ifindex, neighbour, NEIGHBOUR_SIZE, 0) };
        #[expect(clippy::cast_possible_truncation, reason = "TC_ACT_REDIRECT or TC_ACT_SHOT")]
        let action = action as i32;
        action
    }

    #[inline(always)]
    fn data(&self) -> usize {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.raw).data as usize }
    }

    #[inline(always)]
    fn data_end(&self) -> usize {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.raw).data_end as usize }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "14")]
const ETHERNET_SIZE: u32 = size_of::<Ethernet>() as u32;

impl Packet for Skb {
    #[inline(always)]
    fn length(&self) -> u32 {
        // SAFETY: as in `ifindex`.
        unsafe { (*self.raw).len }
    }

    /// Reads from the linear part of the packet, see [`Skb::make_linear`].
    #[inline(always)]
    fn fixed<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        let start = self.data() + offset;
        if start + size_of::<T>() > self.data_end() {
            return None;
        }
        // SAFETY: checked against the end of the packet, as the verifier proves; any bits are a valid `T`.
        // BPF loads from packets need no alignment; on processors that need it, the verifier proves it.
        Some(unsafe { ptr::read(start as *const T) })
    }

    /// Reads with a helper, because the verifier can't follow a pointer with an offset from the packet
    /// through the code that the compiler generates.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "offsets and headers are small")]
    fn at<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        let mut value = MaybeUninit::<T>::uninit();
        let to = value.as_mut_ptr().cast();
        // SAFETY: `to` is valid for the size of a `T`, and the helper checks the end of the packet.
        let status = unsafe { bpf_skb_load_bytes(self.raw.cast(), offset as u32, to, size_of::<T>() as u32) };
        if status != 0 {
            return None;
        }
        // SAFETY: the helper filled it, and any bits are a valid `T`.
        Some(unsafe { value.assume_init() })
    }
}

impl Arriving for Skb {
    #[inline(always)]
    fn protocol(&self) -> u16 {
        // SAFETY: as in `ifindex`.
        let protocol = unsafe { (*self.raw).protocol };
        #[expect(clippy::cast_possible_truncation, reason = "a __be16 in a wider field")]
        u16::from_be(protocol as u16)
    }

    #[inline(always)]
    fn outer(&self, family: Family) -> Option<Outer> {
        let flags = match family {
            Family::Ipv4 => 0,
            Family::Ipv6 => u64::from(BPF_F_TUNINFO_IPV6),
        };
        let mut key = MaybeUninit::<TunnelKey>::uninit();
        // SAFETY: the helper fills all bytes of the key, also when it fails.
        let status = unsafe { bpf_skb_get_tunnel_key(self.raw, key.as_mut_ptr(), TUNNEL_KEY_SIZE, flags) };
        if status != 0 {
            return None;
        }
        // SAFETY: the key is filled, and any bits are a valid key.
        let key = unsafe { key.assume_init() };
        let source = match family {
            // The kernel returns IPv4 addresses in host byte order and IPv6 addresses in network byte order.
            // SAFETY: any bits are a valid address.
            Family::Ipv4 => Address([unsafe { key.__bindgen_anon_1.remote_ipv4 }.to_be(), 0, 0, 0]),
            // SAFETY: as above.
            Family::Ipv6 => Address(unsafe { key.__bindgen_anon_1.remote_ipv6 }),
        };
        Some(Outer {
            source,
            vni: key.tunnel_id,
        })
    }
}
