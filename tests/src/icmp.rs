//! Echo requests (RFC 792 and RFC 4443). The kernel of the receiver answers.

use std::io;
use std::net::UdpSocket;

use dataplane_user::net::Family;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use crate::splitmix::fill;

/// The number of bytes after the header of a request.
pub const PAYLOAD: usize = 56;
const HEADER: usize = 8;

/// A raw socket, as a `UdpSocket`, whose methods work for it.
///
/// # Errors
/// The error of the kernel.
pub fn raw(family: Family) -> io::Result<UdpSocket> {
    let (family, protocol) = match family {
        Family::Ipv4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Family::Ipv6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    Ok(socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?.into())
}

/// Types of request and reply.
fn types(family: Family) -> (u8, u8) {
    match family {
        Family::Ipv4 => (8, 0),
        Family::Ipv6 => (128, 129),
    }
}

/// A request with this identifier and sequence number.
#[must_use]
pub fn request(family: Family, id: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![0; HEADER + PAYLOAD];
    packet[0] = types(family).0;
    packet[4..6].copy_from_slice(&id.to_be_bytes());
    packet[6..8].copy_from_slice(&sequence.to_be_bytes());
    fill(&mut packet[HEADER..], u64::from(sequence));
    // The kernel computes the checksum of ICMPv6, because it includes the IP addresses.
    if family == Family::Ipv4 {
        let sum = checksum(&packet);
        packet[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Whether the received packet is the reply to this request. Raw sockets of IPv4 also return the IP header.
#[must_use]
pub fn answers(packet: &[u8], family: Family, request: &[u8]) -> bool {
    let skipped = match (family, packet.first()) {
        (Family::Ipv4, Some(first)) => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    let Some(message) = packet.get(skipped..) else {
        return false;
    };
    message.len() == request.len() && message[0] == types(family).1 && message[4..] == request[4..]
}

/// The Internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_makes_the_sum_zero() {
        let packet = request(Family::Ipv4, 7, 1);
        assert_eq!(checksum(&packet), 0);
        // RFC 1071, section 3.
        assert_eq!(
            checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]),
            !0xddf2
        );
    }

    #[test]
    fn only_the_reply_to_this_request_counts() {
        let asked = request(Family::Ipv6, 7, 1);
        let mut reply = asked.clone();
        assert!(!answers(&reply, Family::Ipv6, &asked));
        reply[0] = 129;
        assert!(answers(&reply, Family::Ipv6, &asked));
        assert!(!answers(&reply, Family::Ipv6, &request(Family::Ipv6, 7, 2)));
        let mut whole = vec![0x45; 20];
        reply[0] = 0;
        whole.extend(&reply);
        assert!(answers(&whole, Family::Ipv4, &asked));
    }
}
