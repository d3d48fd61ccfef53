//! Listens on the router's wires and sums up what crosses them.
//!
//! One thread reads the packet socket; it waits on that alone, in slices, and ends with [`Capture::finish`].
mod frame;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::{Context as _, Result, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::sockopt::RcvBufForce;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket};

pub(super) use self::frame::{Outer, protocol_name};
use super::netns::NetNs;
use super::socket::set_option;
use super::topology::is_overlay;

/// A phase's packets are some ten MiB, and the reader may be behind on an emulated machine.
const BUFFER_BYTES: usize = 256 << 20;
/// All headers of an encapsulated packet, and more.
const SNAP: usize = 256;
const POLL_MS: u16 = 50;

/// Source and destination.
pub(super) type Way = (IpAddr, IpAddr);

/// Packets of one sort.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) packets: u64,
    /// With all headers from IP's on.
    pub(super) bytes: u64,
}

/// What crossed the underlay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Summary {
    /// Packets by their outer headers.
    pub(super) outer: BTreeMap<(Way, Outer), Count>,
    /// Where encapsulated packets went, outside and inside.
    pub(super) inside: BTreeSet<(Way, Way)>,
    /// Overlay packets that went bare, by their protocol.
    pub(super) bare: BTreeMap<(Way, u8), u64>,
    /// Outer packets that were fragments.
    pub(super) fragments: u64,
    /// Packets that this machine was too slow to look at.
    pub(super) missed: u32,
}

impl Summary {
    fn add(&mut self, packet: &frame::Packet, bytes: u64) {
        let way = (packet.source, packet.destination);
        if is_overlay(packet.source) || is_overlay(packet.destination) {
            *self.bare.entry((way, packet.outer.protocol)).or_default() += 1;
            return;
        }
        let count = self.outer.entry((way, packet.outer)).or_default();
        count.packets += 1;
        count.bytes += bytes;
        self.fragments += u64::from(packet.fragment);
        self.inside.extend(packet.inner.map(|inner| (way, inner)));
    }
}

/// A capture under way.
pub(super) struct Capture {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Result<Summary>>,
}

impl Capture {
    /// Listens on all wires of a namespace, to what comes in.
    pub(super) fn start(namespace: &NetNs) -> Result<Self> {
        let socket = namespace.within(|| {
            let flags = SockFlag::SOCK_CLOEXEC;
            socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll)
                .context("a packet socket")
        })?;
        setsockopt(&socket, RcvBufForce, &BUFFER_BYTES).context("the packet socket's buffer")?;
        set_option(&socket, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)
            .context("PACKET_IGNORE_OUTGOING")?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let reader = thread::spawn(move || read(&socket, &told));
        Ok(Self { stop, reader })
    }

    /// Reads what is still queued, and sums up. What crossed a wire before this is called is in it.
    pub(super) fn finish(self) -> Result<Summary> {
        self.stop.store(true, Ordering::Release);
        self.reader.join().map_err(|_| anyhow!("the capture panicked"))?
    }
}

fn read(socket: &OwnedFd, stop: &AtomicBool) -> Result<Summary> {
    let mut summary = Summary::default();
    let mut buffer = [0; SNAP];
    loop {
        // Looked at before the queue is: what came before the stop is read.
        let last = stop.load(Ordering::Acquire);
        loop {
            // With MSG_TRUNC it says how long the packet is, also where that is more than fits.
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            match recv(socket.as_raw_fd(), &mut buffer, flags) {
                Ok(length) => {
                    if let Some(packet) = frame::parse(&buffer[..length.min(SNAP)]) {
                        let bytes = length.saturating_sub(frame::ETHERNET);
                        summary.add(&packet, u64::try_from(bytes)?);
                    }
                }
                Err(Errno::EAGAIN) => break,
                // A device went down: it is not the socket's end.
                Err(Errno::EINTR | Errno::ENETDOWN) => {}
                Err(error) => return Err(error).context("reading the packet socket"),
            }
        }
        if last {
            summary.missed = missed(socket)?;
            return Ok(summary);
        }
        let mut waited = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited, PollTimeout::from(POLL_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for packets"),
        }
    }
}

/// How many packets found no place in the buffer (packet(7), `PACKET_STATISTICS`).
fn missed(socket: &OwnedFd) -> Result<u32> {
    // struct tpacket_stats: tp_packets, tp_drops.
    let mut figures = [0_u32; 2];
    let mut length = libc::socklen_t::try_from(size_of_val(&figures))?;
    let descriptor = socket.as_raw_fd();
    #[expect(unsafe_code, reason = "nothing safe at hand reads this option")]
    // SAFETY: both pointers are to live values, and `length` is the first one's.
    let result = unsafe {
        libc::getsockopt(
            descriptor,
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            figures.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    Errno::result(result).context("PACKET_STATISTICS")?;
    Ok(figures[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_overlay_packet_is_not_an_outer_one() {
        let outer = Outer {
            family: super::super::family::Family::Ipv4,
            protocol: 17,
            port: Some(6081),
            vni: Some(1),
            wireguard: false,
        };
        let packet = |source: &str, destination: &str| frame::Packet {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            outer,
            fragment: false,
            inner: None,
        };
        let mut summary = Summary::default();
        for (source, destination) in [
            ("198.18.1.2", "198.18.2.2"),
            ("198.18.1.2", "198.18.2.2"),
            ("10.88.0.1", "198.18.2.2"),
            ("2001:db8:0:1::2", "fd88::2"),
        ] {
            summary.add(&packet(source, destination), 100);
        }
        let count = Count {
            packets: 2,
            bytes: 200,
        };
        assert_eq!(summary.outer.into_values().collect::<Vec<_>>(), [count]);
        assert_eq!(summary.bare.len(), 2);
    }
}
