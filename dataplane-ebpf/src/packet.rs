//! The header walk: from a frame or an IP packet to what the decision needs to know of it.
//!
//! A router's view: only a broken IP header refuses a packet. Behind it the walk is best effort, and a packet whose
//! transport ports can't be told (a fragment, a foreign protocol, an end too early) goes on without them.

pub mod headers;

use bytemuck::AnyBitPattern;

use crate::verdict::Verdict;
use headers::{
    AUTHENTICATION, ETHERNET_LENGTH, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ethernet, Extension, FRAGMENT, Fragment,
    Ipv4, Ipv6, is_extension, protocol_has_ports,
};

/// Extension headers that the walk passes over; the transport behind more of them stays unknown.
pub const MAX_EXTENSIONS: usize = 6;

/// Bytes that can be read, each read checked against the packet's end.
pub trait Packet {
    /// Bytes in the packet, from its first header on.
    fn length(&self) -> u32;

    /// Reads a header at an offset that is known when the program is compiled, the quick way; none where the packet
    /// ends before the header does.
    fn fixed<T: AnyBitPattern>(&self, offset: usize) -> Option<T>;

    /// Reads a header at an offset that the packet itself decides.
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

/// The inner packet's family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// RFC 791.
    Ipv4,
    /// RFC 8200.
    Ipv6,
}

/// An address as it lies on the wire; IPv4 in the first word, the others 0.
///
/// Words and not bytes, because BPF reads a word in one instruction. Their value in the host's order means nothing.
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

/// Ports of TCP, UDP, UDP-Lite, DCCP or SCTP, in the host's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The sender's.
    pub source: u16,
    /// The receiver's.
    pub destination: u16,
}

/// What the walk found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The family of both addresses.
    pub family: Family,
    /// The sender.
    pub source: Address,
    /// The receiver.
    pub destination: Address,
    /// The protocol behind the IP header and its extensions; of a fragment, what its fragment header names.
    pub protocol: u8,
    /// The TOS or traffic class byte: DSCP and ECN.
    pub tos: u8,
    /// TTL or hop limit.
    pub hop_limit: u8,
    /// None for a fragment (the first one too, so that all of a datagram's take one way), for protocols without
    /// ports, and where the packet ends before them.
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

/// Walks from the IP header at `start`, a constant.
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
    let behind = start + size_of::<Ipv6>();
    let (protocol, ports) = if is_extension(header.next_header) {
        walk_extensions(packet, behind, header.next_header)
    } else if protocol_has_ports(header.next_header) {
        (header.next_header, packet.fixed::<[u16; 2]>(behind))
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

/// Passes over extension headers; returns the protocol behind them and its ports. Rare, so it may cost.
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
            // RFC 4302 counts in words and leaves out two of them, everything else in eight bytes without the first.
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
