//! All IP packets that a namespace's devices see, by a packet socket.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};

use dataplane_user::net::Family;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

use crate::NetNs;

/// Room for some ten thousand packets.
const BUFFER: usize = 64 << 20;
const UDP: u8 = 17;

/// Gathers packets from its making on.
pub struct Capture(OwnedFd);

/// An IP packet as it was on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// The outermost source.
    pub source: IpAddr,
    /// The outermost destination.
    pub destination: IpAddr,
    /// The protocol behind the IP header.
    pub protocol: u8,
    /// What is behind the IP header.
    pub payload: Vec<u8>,
}

impl Capture {
    /// Begins in a namespace.
    ///
    /// # Panics
    /// When there is no socket.
    #[must_use]
    pub fn new(netns: &NetNs) -> Capture {
        let open = || {
            socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
                SockProtocol::EthAll,
            )
        };
        let socket = netns.enter(open).expect("root opens packet sockets");
        setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).expect("root sets its size");
        Capture(socket)
    }

    /// What has come since it began, or since the last call. A packet that has been received by anyone is among it:
    /// the kernel puts it here on its way.
    ///
    /// # Panics
    /// When the socket fails.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        let mut packets = Vec::new();
        let mut buffer = vec![0; 1 << 17];
        loop {
            match recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => packets.extend(Packet::of_frame(&buffer[..length])),
                Err(Errno::EAGAIN) => return packets,
                Err(Errno::EINTR) => {}
                Err(error) => panic!("receiving packets: {error}"),
            }
        }
    }
}

impl Packet {
    /// Reads an Ethernet frame; nothing for what is no IP.
    fn of_frame(frame: &[u8]) -> Option<Packet> {
        match frame.get(12..14)? {
            [0x08, 0x00] | [0x86, 0xdd] => Packet::of_ip(frame.get(14..)?),
            _ => None,
        }
    }

    /// Reads an IP packet.
    fn of_ip(ip: &[u8]) -> Option<Packet> {
        match ip.first()? >> 4 {
            4 => {
                let header = usize::from(ip.first()? & 0x0f) * 4;
                let address = |at: usize| <[u8; 4]>::try_from(ip.get(at..at + 4)?).ok().map(Ipv4Addr::from);
                Some(Packet {
                    source: address(12)?.into(),
                    destination: address(16)?.into(),
                    protocol: *ip.get(9)?,
                    payload: ip.get(header..)?.to_vec(),
                })
            }
            6 => {
                let address = |at: usize| {
                    <[u8; 16]>::try_from(ip.get(at..at + 16)?)
                        .ok()
                        .map(Ipv6Addr::from)
                };
                Some(Packet {
                    source: address(8)?.into(),
                    destination: address(24)?.into(),
                    protocol: *ip.get(6)?,
                    payload: ip.get(40..)?.to_vec(),
                })
            }
            _ => None,
        }
    }

    /// Whether an address of the overlay is to be seen outside.
    #[must_use]
    pub fn is_in_clear(&self) -> bool {
        [self.source, self.destination].into_iter().any(is_overlay)
    }

    /// Whether both its addresses are the overlay's.
    #[must_use]
    pub fn is_of_the_overlay(&self) -> bool {
        [self.source, self.destination].into_iter().all(is_overlay)
    }

    /// The family of the outer header.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// UDP's destination port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        let port = self.payload.get(2..4).filter(|_| self.protocol == UDP)?;
        Some(u16::from_be_bytes([port[0], port[1]]))
    }

    /// The VNI of a GENEVE or VXLAN packet: both have it in the same place.
    #[must_use]
    pub fn vni(&self) -> Option<u32> {
        let vni = self.payload.get(12..15).filter(|_| self.protocol == UDP)?;
        Some(u32::from_be_bytes([0, vni[0], vni[1], vni[2]]))
    }

    /// The inner packet of a GENEVE packet without options, of a VXLAN packet, or of an IP packet in IP.
    #[must_use]
    pub fn inner(&self) -> Option<Packet> {
        match self.protocol {
            UDP => Packet::of_frame(self.payload.get(16..)?),
            4 | 41 => Packet::of_ip(&self.payload),
            _ => None,
        }
    }
}

fn is_overlay(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.octets()[0] == 10,
        IpAddr::V6(address) => address.segments()[0] == 0xfd00,
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} to {}, protocol {}",
            self.source, self.destination, self.protocol
        )?;
        if let (Some(port), Some(vni)) = (self.port(), self.vni()) {
            write!(f, ", port {port}, VNI {vni}?")?;
        }
        Ok(())
    }
}
