//! Builds Ethernet frames with an IP packet from the fields that a test sets.

use std::net::IpAddr;

/// The length of an Ethernet header in bytes.
pub const ETHERNET: usize = 14;

/// A UDP packet in a frame. Checksums are 0, because nothing verifies them.
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// The source address; of the same family as the destination.
    pub source: IpAddr,
    /// The destination address.
    pub destination: IpAddr,
    /// The source and destination ports.
    pub ports: (u16, u16),
    /// The byte of TOS or traffic class.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The length of the payload in bytes.
    pub payload: u16,
}

impl Udp {
    /// An ordinary packet.
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr) -> Udp {
        Udp {
            source,
            destination,
            ports: (40_000, 53),
            tos: 0,
            ttl: 64,
            payload: 32,
        }
    }

    /// The frame, with MAC addresses of zeros.
    ///
    /// # Panics
    /// If the addresses are of two families.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        let udp_length = 8 + self.payload;
        let mut frame = vec![0; 12];
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                frame.extend([0x08, 0x00, 0x45, self.tos]);
                frame.extend((20 + udp_length).to_be_bytes());
                frame.extend([0, 0, 0x40, 0, self.ttl, 17, 0, 0]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                frame.extend([0x86, 0xdd, 0x60 | (self.tos >> 4), self.tos << 4, 0, 0]);
                frame.extend(udp_length.to_be_bytes());
                frame.extend([17, self.ttl]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
            }
            _ => panic!("{} and {} are of two families", self.source, self.destination),
        }
        frame.extend(self.ports.0.to_be_bytes());
        frame.extend(self.ports.1.to_be_bytes());
        frame.extend(udp_length.to_be_bytes());
        frame.extend([0, 0]);
        frame.resize(frame.len() + usize::from(self.payload), 0xa5);
        frame
    }
}
