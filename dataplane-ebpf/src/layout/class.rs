//! Classes: the device and the fixed part of the outer header, which many next hops share.

use super::assert_layout;

/// The device by which packets of this class leave, and the fixed part of their outer header. 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Class {
    /// The interface index of the device to redirect to; 0 in a free slot. It is the only field that is
    /// rewritten in place, when the device was recreated.
    pub ifindex: u32,
    /// The VNI of GENEVE and VXLAN; 0 for other encapsulations.
    pub vni: u32,
    /// The inner Ethernet source address, which is the MAC address of the local tunnel device. Zero for
    /// devices without link-layer header.
    pub source_mac: [u8; 6],
    /// The encapsulation: one of the constants [`Class::GENEVE`] to [`Class::NONE`].
    pub encapsulation: u8,
    /// The number of the device among those of this encapsulation; 0 if there is only one.
    pub unit: u8,
    /// The outer TTL or hop limit. It is 0 only without an outer header, because GENEVE would send a TTL of
    /// 0.
    pub ttl: u8,
    /// The outer DSCP and ECN byte; the lower two bits are 0 (for ipip, bit 0 means "inherit"). Ignored with
    /// [`Class::INHERIT_DSCP`].
    pub tos: u8,
    /// A combination of the flags [`Class::INNER_ETHERNET`] to [`Class::TO_NEIGHBOUR`].
    pub flags: u16,
    /// With [`Class::TO_NEIGHBOUR`] a hash of the name of the device, so that each such device has its own
    /// class; else zero. The programs don't read it.
    pub underlay: [u8; 8],
    /// Zero.
    pub reserved: [u8; 4],
}

impl Class {
    /// GENEVE, RFC 8926.
    pub const GENEVE: u8 = 1;
    /// VXLAN, RFC 7348.
    pub const VXLAN: u8 = 2;
    /// IPv4 in IPv4, RFC 2003.
    pub const IPIP: u8 = 3;
    /// IPv4 or IPv6 in IPv6, RFC 2473.
    pub const IP6TNL: u8 = 4;
    /// WireGuard.
    pub const WIREGUARD: u8 = 5;
    /// No encapsulation.
    pub const NONE: u8 = 6;

    /// The frame has an inner Ethernet header, whose MAC addresses the program writes.
    pub const INNER_ETHERNET: u16 = 1 << 0;
    /// The device builds the outer header from a tunnel key.
    pub const TUNNEL_KEY: u16 = 1 << 1;
    /// The outer DSCP is copied from the inner header.
    pub const INHERIT_DSCP: u16 = 1 << 2;
    /// The outer IPv4 header has DF set.
    pub const DONT_FRAGMENT: u16 = 1 << 3;
    /// The outer UDP checksum is zero.
    pub const ZERO_CHECKSUM: u16 = 1 << 4;
    /// The outer TTL is copied from the inner header. The programs implement it, but no manifest field
    /// requests it yet, so the agent does not set it.
    pub const INHERIT_TTL: u16 = 1 << 5;
    /// Packets leave unchanged by a device that Adit does not manage, to the neighbour in
    /// [`super::NextHop::gateway`].
    pub const TO_NEIGHBOUR: u16 = 1 << 6;

    /// Whether the slot holds a class.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.encapsulation != 0
    }
}

assert_layout!(
    Class,
    size = 32,
    ifindex = 0,
    vni = 4,
    source_mac = 8,
    encapsulation = 14,
    flags = 18,
    underlay = 20
);
