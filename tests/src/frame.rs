//! Ethernet frames with an IP packet inside, put together from what a test wants to say about them.

use std::net::IpAddr;

/// Bytes of an Ethernet header.
pub const ETHERNET: usize = 14;

/// A UDP packet in a frame. Checksums are left at 0: nothing here looks at them.
#[derive(Clone, Copy, Debug)]
pub struct Udp {
    /// The sender; of the receiver's family.
    pub source: IpAddr,
    /// The receiver.
    pub destination: IpAddr,
    /// The sender's and the receiver's port.
    pub ports: (u16, u16),
    /// The TOS or traffic class byte.
    pub tos: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Bytes of payload.
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

    /// The frame, from a MAC of zeroes to a MAC of zeroes.
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
