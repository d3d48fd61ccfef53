//! Headers as on the wire. Fields of more than a byte are in network byte order.
//!
//! Words are `u32` although the IP header of a frame is at offset 14: the kernel aligns frames two bytes
//! after a word boundary, and where it does not (`NET_IP_ALIGN` 0) the processor does not need alignment.

use bytemuck::{Pod, Zeroable};

/// The length of [`Ethernet`] in bytes.
pub const ETHERNET_LENGTH: usize = size_of::<Ethernet>();
/// IEEE 802 number of IPv4.
pub const ETHERTYPE_IPV4: u16 = 0x0800;
/// IEEE 802 number of IPv6.
pub const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Protocol number of the fragment header, RFC 8200 section 4.5.
pub const FRAGMENT: u8 = 44;
/// Protocol number of the authentication header, RFC 4302.
pub const AUTHENTICATION: u8 = 51;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;
const HOST_IDENTITY: u8 = 139;
const SHIM6: u8 = 140;

const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;

/// Ethernet II.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ethernet {
    /// The receiver.
    pub destination: [u8; 6],
    /// The sender.
    pub source: [u8; 6],
    /// The ethertype, for example [`ETHERTYPE_IPV4`].
    pub ethertype: u16,
}

/// RFC 791, without options.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ipv4 {
    /// Version, and the header's length in words.
    pub version_and_words: u8,
    /// DSCP and ECN.
    pub tos: u8,
    /// The length of the whole packet in bytes.
    pub total_length: u16,
    /// The identification of the datagram that a fragment belongs to.
    pub identification: u16,
    /// Three flags, and the offset of the fragment in units of eight bytes.
    pub fragment: u16,
    /// Time to live.
    pub ttl: u8,
    /// The protocol of the payload.
    pub protocol: u8,
    /// The checksum of the header.
    pub checksum: u16,
    /// The sender.
    pub source: u32,
    /// The receiver.
    pub destination: u32,
}

impl Ipv4 {
    /// The length of the header in bytes, including options; below 20 in a broken header.
    #[must_use]
    #[inline(always)]
    pub fn header_length(&self) -> usize {
        usize::from(self.version_and_words & 0xf) * 4
    }

    /// Whether this is a fragment, including the first one: it has an offset, or more fragments follow.
    #[must_use]
    #[inline(always)]
    pub fn is_fragment(&self) -> bool {
        self.fragment & 0x3fff_u16.to_be() != 0
    }
}

/// RFC 8200.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Ipv6 {
    /// Version, and the upper half of the traffic class.
    pub version_and_class: u8,
    /// The lower half of the traffic class, and the start of the flow label.
    pub class_and_label: u8,
    /// The rest of the flow label.
    pub label: u16,
    /// The length of everything after this header, in bytes.
    pub payload_length: u16,
    /// The protocol of the header after this one.
    pub next_header: u8,
    /// The hop limit.
    pub hop_limit: u8,
    /// The sender.
    pub source: [u32; 4],
    /// The receiver.
    pub destination: [u32; 4],
}

impl Ipv6 {
    /// The traffic class: DSCP and ECN.
    #[must_use]
    #[inline(always)]
    pub fn traffic_class(&self) -> u8 {
        (self.version_and_class << 4) | (self.class_and_label >> 4)
    }
}

/// The first two bytes, which are the same in all extension headers.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Extension {
    /// The protocol of the header after this one.
    pub next_header: u8,
    /// The length, in a unit that depends on the header.
    pub length: u8,
}

/// RFC 8200 section 4.5.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub struct Fragment {
    /// The protocol of the first header in the fragmented part, the same in every fragment.
    pub next_header: u8,
    /// Zero.
    pub reserved: u8,
    /// The offset in units of eight bytes, two reserved bits, and one bit that is set if more fragments
    /// follow.
    pub offset_and_more: u16,
    /// The identification of the datagram.
    pub identification: u32,
}

impl Fragment {
    /// Whether this is an atomic fragment (RFC 6946), which is a whole datagram although it has a fragment
    /// header.
    #[must_use]
    #[inline(always)]
    pub fn is_whole(&self) -> bool {
        self.offset_and_more & 0xfff9_u16.to_be() == 0
    }
}

/// Whether the protocol's header starts with a source and a destination port.
#[must_use]
#[inline(always)]
pub fn protocol_has_ports(protocol: u8) -> bool {
    matches!(protocol, TCP | UDP | SCTP | UDP_LITE | DCCP)
}

/// Whether the protocol is an IPv6 extension header that contains its own length.
#[must_use]
#[inline(always)]
pub fn is_extension(protocol: u8) -> bool {
    matches!(
        protocol,
        HOP_BY_HOP
            | ROUTING
            | FRAGMENT
            | AUTHENTICATION
            | DESTINATION_OPTIONS
            | MOBILITY
            | HOST_IDENTITY
            | SHIM6
    )
}
