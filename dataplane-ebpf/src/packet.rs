//! The header walk, which extracts from a frame or an IP packet the fields that the decision needs.
//!
//! As in a router, only a broken IP header causes a refusal. After the IP header the walk is best effort: a
//! packet whose transport ports are not known (a fragment, another protocol, a truncated packet) is forwarded
//! without them.

pub mod headers;

use bytemuck::AnyBitPattern;

use crate::verdict::Verdict;
use headers::{
    AUTHENTICATION, ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Extension, FRAGMENT, Fragment,
    Ipv4, Ipv6, is_extension, protocol_has_ports,
};

/// The number of extension headers that the walk skips. After more of them, the transport protocol stays
/// unknown.
pub const MAX_EXTENSIONS: usize = 6;

/// A packet that can be read. Each read is checked against the end of the packet.
pub trait Packet {
    /// The length in bytes, from the first header on.
    fn length(&self) -> u32;

    /// Reads a header at an offset that is a constant of the program; this is fast. `None` if the packet ends
    /// before the end of the header.
    fn fixed<T: AnyBitPattern>(&self, offset: usize) -> Option<T>;

    /// Reads a header at an offset that depends on the content of the packet.
    fn at<T: AnyBitPattern>(&self, offset: usize) -> Option<T>;
}

impl Packet for [u8] {
    fn length(&self) -> u32 {
        u32::try_from(self.len()).unwrap_or(u32::MAX)
    }

    fn fixed<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        self.at(offset)
    }

    fn at<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(size_of::<T>())?;
        self.get(offset..end).map(bytemuck::pod_read_unaligned)
    }
}

/// The family of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
}

/// An address in network byte order. IPv4 uses the first word; the others are 0.
///
/// The type has words instead of bytes, because BPF reads a word in one instruction. Their integer values
/// have no meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// From big-endian bytes.
    #[must_use]
    pub const fn v4(bytes: [u8; 4]) -> Address {
        Address([u32::from_ne_bytes(bytes), 0, 0, 0])
    }

    /// From big-endian bytes.
    #[must_use]
    pub fn v6(bytes: [u8; 16]) -> Address {
        Address(bytemuck::cast(bytes))
    }

    /// Big-endian bytes, of which IPv4 uses the first four.
    #[must_use]
    #[inline(always)]
    pub fn bytes(self) -> [u8; 16] {
        bytemuck::cast(self.0)
    }

    /// Big-endian bytes of an IPv4 address.
    #[must_use]
    #[inline(always)]
    pub fn bytes_v4(self) -> [u8; 4] {
        self.0[0].to_ne_bytes()
    }
}

/// Ports of TCP, UDP, UDP-Lite, DCCP or SCTP, in host byte order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The port of the sender.
    pub source: u16,
    /// The port of the receiver.
    pub destination: u16,
}

/// The result of the header walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The family of both addresses.
    pub family: Family,
    /// The sender.
    pub source: Address,
    /// The receiver.
    pub destination: Address,
    /// The protocol after the IP header and its extensions; for a fragment, the protocol that its fragment
    /// header names.
    pub protocol: u8,
    /// The TOS or traffic class byte: DSCP and ECN.
    pub tos: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// `None` for a fragment (also the first one, so that all fragments of a datagram use the same path), for
    /// protocols without ports, and if the packet ends before the ports.
    pub ports: Option<Ports>,
    /// Bytes from the IP header on.
    pub length: u32,
}

/// Walks a frame that starts with its Ethernet header.
///
/// # Errors
/// [`Verdict::NotIp`], [`Verdict::Truncated`], [`Verdict::BadHeader`].
#[inline(always)]
pub fn parse_ethernet<P: Packet + ?Sized>(packet: &P) -> Result<Headers, Verdict> {
    let Some(ethernet) = packet.fixed::<Ethernet>(0) else {
        return Err(Verdict::Truncated);
    };
    match u16::from_be(ethernet.ethertype) {
        ETHERTYPE_IPV4 => parse_ip(packet, ETHERNET_LENGTH, Family::Ipv4),
        ETHERTYPE_IPV6 => parse_ip(packet, ETHERNET_LENGTH, Family::Ipv6),
        _ => Err(Verdict::NotIp),
    }
}

/// Walks from the IP header at `start`, which must be a constant.
///
/// # Errors
/// [`Verdict::Truncated`], [`Verdict::BadHeader`].
#[inline(always)]
pub fn parse_ip<P: Packet + ?Sized>(packet: &P, start: usize, family: Family) -> Result<Headers, Verdict> {
    match family {
        Family::Ipv4 => parse_v4(packet, start),
        Family::Ipv6 => parse_v6(packet, start),
    }
}

#[inline(always)]
fn parse_v4<P: Packet + ?Sized>(packet: &P, start: usize) -> Result<Headers, Verdict> {
    let Some(header) = packet.fixed::<Ipv4>(start) else {
        return Err(Verdict::Truncated);
    };
    if header.version_and_words >> 4 != 4 || header.header_length() < size_of::<Ipv4>() {
        return Err(Verdict::BadHeader);
    }
    let ports = if header.is_fragment() || !protocol_has_ports(header.protocol) {
        None
    } else if header.header_length() == size_of::<Ipv4>() {
        packet.fixed::<[u16; 2]>(start + size_of::<Ipv4>())
    } else {
        packet.at::<[u16; 2]>(start + header.header_length())
    };
    Ok(Headers {
        family: Family::Ipv4,
        source: Address([header.source, 0, 0, 0]),
        destination: Address([header.destination, 0, 0, 0]),
        protocol: header.protocol,
        tos: header.tos,
        hop_limit: header.ttl,
        ports: ports.map(to_ports),
        length: length_from(packet, start),
    })
}

#[inline(always)]
fn parse_v6<P: Packet + ?Sized>(packet: &P, start: usize) -> Result<Headers, Verdict> {
    let Some(header) = packet.fixed::<Ipv6>(start) else {
        return Err(Verdict::Truncated);
    };
    if header.version_and_class >> 4 != 6 {
        return Err(Verdict::BadHeader);
    }
    let payload = start + size_of::<Ipv6>();
    let (protocol, ports) = if is_extension(header.next_header) {
        walk_extensions(packet, payload, header.next_header)
    } else if protocol_has_ports(header.next_header) {
        (header.next_header, packet.fixed::<[u16; 2]>(payload))
    } else {
        (header.next_header, None)
    };
    Ok(Headers {
        family: Family::Ipv6,
        source: Address(header.source),
        destination: Address(header.destination),
        protocol,
        tos: header.traffic_class(),
        hop_limit: header.hop_limit,
        ports: ports.map(to_ports),
        length: length_from(packet, start),
    })
}

/// Skips extension headers and returns the protocol after them and its ports. This is rare, so it may be
/// slow.
#[inline(always)]
fn walk_extensions<P: Packet + ?Sized>(packet: &P, start: usize, first: u8) -> (u8, Option<[u16; 2]>) {
    let mut offset = start;
    let mut protocol = first;
    for _ in 0..MAX_EXTENSIONS {
        if protocol == FRAGMENT {
            let Some(fragment) = packet.at::<Fragment>(offset) else {
                return (protocol, None);
            };
            protocol = fragment.next_header;
            if !fragment.is_whole() {
                return (protocol, None);
            }
            offset += size_of::<Fragment>();
        } else {
            let Some(extension) = packet.at::<Extension>(offset) else {
                return (protocol, None);
            };
            // The length in RFC 4302 is in words, minus two; in all other headers in units of eight bytes,
            // minus one.
            offset += if protocol == AUTHENTICATION {
                (usize::from(extension.length) + 2) * 4
            } else {
                (usize::from(extension.length) + 1) * 8
            };
            protocol = extension.next_header;
        }
        if !is_extension(protocol) {
            break;
        }
    }
    if protocol_has_ports(protocol) {
        (protocol, packet.at::<[u16; 2]>(offset))
    } else {
        (protocol, None)
    }
}

#[inline(always)]
fn to_ports(raw: [u16; 2]) -> Ports {
    Ports {
        source: u16::from_be(raw[0]),
        destination: u16::from_be(raw[1]),
    }
}

#[inline(always)]
fn length_from<P: Packet + ?Sized>(packet: &P, start: usize) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a header's offset, 0 or 14")]
    packet.length().saturating_sub(start as u32)
}
