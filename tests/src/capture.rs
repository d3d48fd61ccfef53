//! Captures all IP packets of the devices of a namespace, by a packet socket.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};

use dataplane_user::net::Family;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};

use crate::NetNs;
use crate::socket::set_option;
use crate::topology::is_overlay;

/// The size of the socket buffer: room for about ten thousand packets, because an emulated machine reads slowly.
const BUFFER: usize = 256 << 20;
const UDP: u8 = 17;
/// The Fragment header of IPv6 (RFC 8200, section 4.5).
const FRAGMENT: u8 = 44;
const ETHERNET: usize = 14;
/// The port of GENEVE (RFC 8926).
const GENEVE: u16 = 6081;

/// A capture, which starts when it is created.
pub struct Capture {
    socket: OwnedFd,
    /// How many bytes of a packet are read.
    snap: usize,
}

/// An IP packet as it was on the wire.
#[derive(Clone, PartialEq, Eq)]
pub struct Packet {
    /// The outermost source.
    pub source: IpAddr,
    /// The outermost destination.
    pub destination: IpAddr,
    /// The protocol after the IP header, and after an IPv6 Fragment header.
    pub protocol: u8,
    /// The fragment offset, in units of eight bytes; `None` if the packet is not a fragment.
    pub fragment: Option<u16>,
    /// The length in bytes, including the IP header.
    pub length: usize,
    /// The payload after the header that `protocol` describes.
    pub payload: Vec<u8>,
}

impl Capture {
    /// Starts a capture in a namespace.
    ///
    /// # Panics
    /// If the socket cannot be created.
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
        Capture {
            socket,
            snap: 1 << 17,
        }
    }

    /// As [`Capture::new`], but only of incoming packets and only of the headers of encapsulated packets: for much traffic.
    ///
    /// # Panics
    /// As [`Capture::new`].
    #[must_use]
    pub fn of_headers(netns: &NetNs) -> Capture {
        let capture = Capture::new(netns);
        set_option(&capture, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1).expect("Linux has it");
        Capture { snap: 256, ..capture }
    }

    /// The packets since the start or the last call. They include every packet that any socket has received, because the kernel
    /// delivers it here first.
    ///
    /// # Panics
    /// If the socket fails.
    #[must_use]
    pub fn packets(&self) -> Vec<Packet> {
        let mut packets = Vec::new();
        self.each(|packet| packets.push(packet));
        packets
    }

    /// Calls a function for each packet since the start or the last call.
    ///
    /// # Panics
    /// If the socket fails.
    pub fn each(&self, mut take: impl FnMut(Packet)) {
        let mut buffer = vec![0; self.snap];
        loop {
            // With MSG_TRUNC, recv returns the length of the packet even if that is more than fits.
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_TRUNC) {
                Ok(length) => {
                    if let Some(packet) = Packet::of_frame(&buffer[..length.min(self.snap)]) {
                        let length = length - ETHERNET;
                        take(Packet { length, ..packet });
                    }
                }
                Err(Errno::EAGAIN) => return,
                // A device that goes down does not end the capture.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(error) => panic!("receiving packets: {error}"),
            }
        }
    }

    /// How many packets did not fit into the buffer (packet(7), `PACKET_STATISTICS`).
    ///
    /// # Panics
    /// If the kernel does not report it.
    #[must_use]
    pub fn missed(&self) -> u32 {
        // struct tpacket_stats: tp_packets, tp_drops.
        let mut figures = [0_u32; 2];
        let mut length = libc::socklen_t::try_from(size_of_val(&figures)).expect("eight fits");
        #[expect(unsafe_code, reason = "nothing safe at hand reads this option")]
        // SAFETY: both pointers are to live values, and `length` is the size of the first.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                figures.as_mut_ptr().cast(),
                &raw mut length,
            )
        };
        Errno::result(result).expect("packet sockets count");
        figures[1]
    }
}

impl AsFd for Capture {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Packet {
    /// Parses an Ethernet frame; `None` if it is not IP or truncated.
    #[must_use]
    pub fn of_frame(frame: &[u8]) -> Option<Packet> {
        match frame.get(12..ETHERNET)? {
            [0x08, 0x00] | [0x86, 0xdd] => Packet::of_ip(frame.get(ETHERNET..)?),
            _ => None,
        }
    }

    /// Parses an IP packet.
    fn of_ip(ip: &[u8]) -> Option<Packet> {
        match ip.first()? >> 4 {
            4 => Packet::of_ipv4(ip),
            6 => Packet::of_ipv6(ip),
            _ => None,
        }
    }

    fn of_ipv4(ip: &[u8]) -> Option<Packet> {
        let address = |at| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
        let word = u16_at(ip, 6)?;
        let (more, offset) = (word & 0x2000 != 0, word & 0x1fff);
        Some(Packet {
            source: address(12)?,
            destination: address(16)?,
            protocol: *ip.get(9)?,
            fragment: (more || offset != 0).then_some(offset),
            length: ip.len(),
            payload: ip.get(usize::from(ip[0] & 0x0f) * 4..)?.to_vec(),
        })
    }

    fn of_ipv6(ip: &[u8]) -> Option<Packet> {
        let address = |at| Some(Ipv6Addr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?).into());
        let (next, behind) = (*ip.get(6)?, ip.get(40..)?);
        let (protocol, fragment, payload) = match next {
            FRAGMENT => (*behind.first()?, Some(u16_at(behind, 2)? >> 3), behind.get(8..)?),
            _ => (next, None, behind),
        };
        Some(Packet {
            source: address(8)?,
            destination: address(24)?,
            protocol,
            fragment,
            length: ip.len(),
            payload: payload.to_vec(),
        })
    }

    /// Whether one of the outer addresses is an overlay address.
    #[must_use]
    pub fn is_in_clear(&self) -> bool {
        [self.source, self.destination].into_iter().any(is_overlay)
    }

    /// Whether both outer addresses are overlay addresses.
    #[must_use]
    pub fn is_of_the_overlay(&self) -> bool {
        [self.source, self.destination].into_iter().all(is_overlay)
    }

    /// The family of the outer header.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// The UDP source and destination ports.
    #[must_use]
    pub fn ports(&self) -> Option<[u16; 2]> {
        let is_first = self.fragment.is_none_or(|offset| offset == 0);
        let ports = Some([u16_at(&self.payload, 0)?, u16_at(&self.payload, 2)?]);
        ports.filter(|_| self.protocol == UDP && is_first)
    }

    /// The UDP destination port.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.ports().map(|[_, port]| port)
    }

    /// The VNI of a GENEVE (RFC 8926, section 3.4) or VXLAN packet (RFC 7348, section 5), at the same offset in both.
    #[must_use]
    pub fn vni(&self) -> Option<u32> {
        let vni = self.payload.get(12..15).filter(|_| self.port().is_some())?;
        Some(u32::from_be_bytes([0, vni[0], vni[1], vni[2]]))
    }

    /// The inner packet of a GENEVE, VXLAN or IP-in-IP packet.
    #[must_use]
    pub fn inner(&self) -> Option<Packet> {
        match self.protocol {
            UDP => {
                let options = match self.port()? {
                    GENEVE => usize::from(self.payload.get(8)? & 0x3f) * 4,
                    _ => 0,
                };
                Packet::of_frame(self.payload.get(16 + options..)?)
            }
            4 | 41 if self.fragment.is_none_or(|offset| offset == 0) => Packet::of_ip(&self.payload),
            _ => None,
        }
    }

    /// The type of a WireGuard message between two of these ports: one of four, followed by three zero bytes (`struct
    /// message_header` of drivers/net/wireguard/messages.h).
    #[must_use]
    pub fn wireguard(&self, is_port: impl Fn(u16) -> bool) -> Option<u8> {
        let kind = match self.payload.get(8..12)? {
            [kind @ 1..=4, 0, 0, 0] => *kind,
            _ => return None,
        };
        self.ports()?.into_iter().all(is_port).then_some(kind)
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; ETHERNET + 20];
        frame[12..14].copy_from_slice(&[0x08, 0x00]);
        frame[14] = 0x45;
        frame[14 + 9] = protocol;
        frame[14 + 12..14 + 16].copy_from_slice(&source);
        frame[14 + 16..14 + 20].copy_from_slice(&destination);
        frame.extend(payload);
        frame
    }

    fn tunnelled(port: u16, header: &[u8]) -> Vec<u8> {
        let inside = v4([10, 1, 0, 1], [10, 2, 0, 1], 1, &[]);
        let payload = [&[0, 0], &port.to_be_bytes()[..], &[0; 4], header, &inside].concat();
        v4([192, 0, 2, 18], [192, 0, 2, 34], UDP, &payload)
    }

    fn inside(packet: &Packet) -> Option<[IpAddr; 2]> {
        packet.inner().map(|inner| [inner.source, inner.destination])
    }

    #[test]
    fn inner_packets_of_geneve_and_vxlan_are_parsed() {
        let geneve = [2, 0, 0x65, 0x58, 0, 1, 2, 0, 9, 9, 9, 9, 9, 9, 9, 9];
        for (port, header) in [(6081, &geneve[..]), (4789, &[8, 0, 0, 0, 0, 1, 2, 0])] {
            let packet = Packet::of_frame(&tunnelled(port, header)).unwrap();
            assert_eq!((packet.port(), packet.vni()), (Some(port), Some(258)));
            assert_eq!(
                inside(&packet),
                Some([[10, 1, 0, 1], [10, 2, 0, 1]].map(IpAddr::from))
            );
            assert_eq!(packet.fragment, None);
        }
    }

    #[test]
    fn inner_packets_of_ip_in_ip_are_parsed() {
        let inner = v4([10, 1, 0, 1], [10, 2, 0, 1], 1, &[]);
        let frame = v4([192, 0, 2, 18], [192, 0, 2, 34], 4, &inner[ETHERNET..]);
        let packet = Packet::of_frame(&frame).unwrap();
        assert_eq!((packet.protocol, packet.port()), (4, None));
        assert_eq!(
            inside(&packet),
            Some([[10, 1, 0, 1], [10, 2, 0, 1]].map(IpAddr::from))
        );
    }

    #[test]
    fn wireguard_is_known_by_ports_and_type() {
        let kind = |ports: [u16; 2], header: [u8; 4]| {
            let [source, destination] = ports.map(u16::to_be_bytes);
            let payload = [&source[..], &destination, &[0; 4], &header, &[9; 28]].concat();
            let packet = Packet::of_frame(&v4([192, 0, 2, 18], [192, 0, 2, 34], UDP, &payload)).unwrap();
            packet.wireguard(|port| (51820..51822).contains(&port))
        };
        assert_eq!(kind([51820, 51820], [4, 0, 0, 0]), Some(4));
        assert_eq!(kind([51821, 51821], [1, 0, 0, 0]), Some(1));
        for (ports, header) in [
            ([51820, 51820], [5, 0, 0, 0]),
            ([51820, 51820], [4, 0, 1, 0]),
            ([40000, 51820], [4, 0, 0, 0]),
            ([51820, 51820], [0x45, 0, 0, 0]),
        ] {
            assert_eq!(kind(ports, header), None);
        }
    }

    #[test]
    fn a_later_fragment_has_no_port() {
        let mut frame = tunnelled(6081, &[0; 8]);
        frame[14 + 6..14 + 8].copy_from_slice(&185_u16.to_be_bytes());
        let packet = Packet::of_frame(&frame).unwrap();
        assert_eq!(
            (packet.fragment, packet.port(), packet.inner()),
            (Some(185), None, None)
        );
    }

    #[test]
    fn truncated_packets_are_rejected() {
        let frame = tunnelled(6081, &[0; 8]);
        assert_eq!(Packet::of_frame(&frame[..30]), None);
        let packet = Packet::of_frame(&frame[..14 + 20 + 8 + 8]).unwrap();
        assert_eq!((packet.vni(), packet.inner()), (Some(0), None));
    }
}
