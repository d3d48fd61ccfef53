//! What many next hops share: the device and the outer header's fixed part.

use super::assert_layout;

/// How packets of this class leave: a device and the outer header's fixed part. 32 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
pub struct Class {
    /// The device to redirect to; 0 in a free slot. The one field that is rewritten in place, when the device was
    /// made anew.
    pub ifindex: u32,
    /// VNI of GENEVE and VXLAN, 0 for the others.
    pub vni: u32,
    /// The inner Ethernet source, our device's own MAC. Zero for devices without link-layer header.
    pub source_mac: [u8; 6],
    /// One of [`Class::GENEVE`] and its fellows.
    pub encapsulation: u8,
    /// Which device of that encapsulation, 0 for the only one.
    pub unit: u8,
    /// Outer TTL or hop limit, never 0 (GENEVE would send it) but where there is no outer header.
    pub ttl: u8,
    /// Outer DSCP and ECN byte; the lower two bits are 0 (ipip takes bit 0 as "inherit"). Ignored with
    /// [`Class::INHERIT_DSCP`].
    pub tos: u8,
    /// [`Class::INHERIT_DSCP`] and its fellows.
    pub flags: u16,
    /// With [`Class::TO_NEIGHBOUR`] a hash of the device's name, so that each such device has a class of its own; else
    /// zero. The programs don't read it.
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

    /// The frame carries an inner Ethernet header whose MACs the program writes.
    pub const INNER_ETHERNET: u16 = 1 << 0;
    /// The device takes its outer header from a tunnel key.
    pub const TUNNEL_KEY: u16 = 1 << 1;
    /// The outer DSCP is copied from the inner header.
    pub const INHERIT_DSCP: u16 = 1 << 2;
    /// The outer IPv4 header has DF set.
    pub const DONT_FRAGMENT: u16 = 1 << 3;
    /// The outer UDP checksum is zero.
    pub const ZERO_CHECKSUM: u16 = 1 << 4;
    /// The outer TTL is copied from the inner header. The programs heed it; no manifest asks for it yet, and the agent does
    /// not set it.
    pub const INHERIT_TTL: u16 = 1 << 5;
    /// Packets leave as they are, to the next hop's neighbour on a device that is not ours: [`super::NextHop::gateway`].
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
