//! Captures on all devices of the router and counts packets.
//!
//! One thread reads the packet socket; it waits only for that, in slices, and ends with [`Capture::finish`].
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use adit_tests::NetNs;
use adit_tests::capture::{self, Packet};
use anyhow::{Context as _, Result, anyhow};
use dataplane_user::net::Family;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::encapsulation::is_wireguard_port;
use super::options::Encapsulation;

const UDP: u8 = 17;
/// IP in IP: RFC 2003 and RFC 2473.
const IPV4: u8 = 4;
const IPV6: u8 = 41;
const POLL_MS: u16 = 50;

/// Source and destination.
pub(crate) type Addresses = (IpAddr, IpAddr);

/// A number of packets of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) packets: u64,
    /// Including all headers from the IP header on.
    pub(crate) bytes: u64,
}

/// The relevant fields of an outer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Outer {
    pub(crate) family: Family,
    /// The IP protocol.
    pub(crate) protocol: u8,
    /// The destination port of UDP.
    pub(crate) port: Option<u16>,
    /// The VNI, if the port is that of GENEVE or VXLAN.
    pub(crate) vni: Option<u32>,
    /// Whether this is a WireGuard message between WireGuard ports.
    pub(crate) wireguard: bool,
}

impl Outer {
    fn of(packet: &Packet) -> Self {
        let port = packet.port();
        let has_vni = port.is_some() && Encapsulation::BY_RANK.into_iter().any(|one| one.port() == port);
        Self {
            family: packet.family(),
            protocol: packet.protocol,
            port,
            vni: packet.vni().filter(|_| has_vni),
            wireguard: packet.wireguard(is_wireguard_port).is_some(),
        }
    }

    /// The encapsulation that the headers show.
    pub(crate) fn encapsulation(&self) -> Option<Encapsulation> {
        let has_port = |one: &Encapsulation| self.port.is_some() && one.port() == self.port;
        match (self.protocol, self.family) {
            (UDP, _) if self.wireguard => Some(Encapsulation::Wireguard),
            (UDP, _) => Encapsulation::BY_RANK.into_iter().find(has_port),
            (IPV4, _) | (IPV6, Family::Ipv6) => Some(Encapsulation::Ipip),
            _ => None,
        }
    }
}

/// The usual name of an IP protocol, or its number.
pub(crate) fn protocol_name(protocol: u8) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        IPV4 => "ipip".to_owned(),
        6 => "tcp".to_owned(),
        UDP => "udp".to_owned(),
        IPV6 => "ipv6".to_owned(),
        58 => "icmpv6".to_owned(),
        other => other.to_string(),
    }
}

/// The packets that crossed the underlay.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Packets by their outer headers.
    pub(crate) outer: BTreeMap<(Addresses, Outer), Count>,
    /// The outer and inner addresses of encapsulated packets.
    pub(crate) inside: BTreeSet<(Addresses, Addresses)>,
    /// Overlay packets without encapsulation, by their protocol.
    pub(crate) bare: BTreeMap<(Addresses, u8), u64>,
    /// The number of outer packets that were fragments.
    pub(crate) fragments: u64,
    /// The number of packets that this machine was too slow to read.
    pub(crate) missed: u32,
}

impl Summary {
    fn add(&mut self, packet: &Packet) {
        let addresses = (packet.source, packet.destination);
        if packet.is_in_clear() {
            *self.bare.entry((addresses, packet.protocol)).or_default() += 1;
            return;
        }
        let outer = Outer::of(packet);
        let count = self.outer.entry((addresses, outer)).or_default();
        count.packets += 1;
        count.bytes += u64::try_from(packet.length).expect("a packet's length fits");
        self.fragments += u64::from(packet.fragment.is_some());
        if outer.vni.is_some() || [IPV4, IPV6].contains(&outer.protocol) {
            let inner = packet.inner().map(|inner| (inner.source, inner.destination));
            self.inside.extend(inner.map(|inner| (addresses, inner)));
        }
    }
}

/// A running capture.
pub(crate) struct Capture {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<Result<Summary>>,
}

impl Capture {
    /// Captures incoming packets on all devices of a namespace.
    pub(crate) fn start(namespace: &NetNs) -> Self {
        let capture = capture::Capture::of_headers(namespace);
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let reader = thread::spawn(move || read(&capture, &told));
        Self { stop, reader }
    }

    /// Reads the queued packets and returns the counts. They include every packet that arrived before this call.
    pub(crate) fn finish(self) -> Result<Summary> {
        self.stop.store(true, Ordering::Release);
        self.reader.join().map_err(|_| anyhow!("the capture panicked"))?
    }
}

fn read(capture: &capture::Capture, stop: &AtomicBool) -> Result<Summary> {
    let mut summary = Summary::default();
    loop {
        // Loaded before the queue is read, so that packets from before the stop are counted.
        let last = stop.load(Ordering::Acquire);
        capture.each(|packet| summary.add(&packet));
        if last {
            summary.missed = capture.missed();
            return Ok(summary);
        }
        let mut waited = [PollFd::new(capture.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited, PollTimeout::from(POLL_MS)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error).context("waiting for packets"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// UDP from and to a port.
    fn packet(source: &str, destination: &str, port: u16) -> Packet {
        let port = port.to_be_bytes();
        Packet {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: UDP,
            fragment: None,
            length: 100,
            payload: [&port[..], &port, &[0; 4], &[4, 0, 0, 0, 0, 0, 1, 0]].concat(),
        }
    }

    #[test]
    fn a_plain_overlay_packet_is_not_an_outer_packet() {
        let mut summary = Summary::default();
        for (source, destination) in [
            ("192.0.2.18", "192.0.2.34"),
            ("192.0.2.18", "192.0.2.34"),
            ("10.1.0.1", "192.0.2.34"),
            ("2001:db8:0:1::2", "fd00:2::1"),
        ] {
            summary.add(&packet(source, destination, 6081));
        }
        let count = Count {
            packets: 2,
            bytes: 200,
        };
        assert_eq!(summary.outer.into_values().collect::<Vec<_>>(), [count]);
        assert_eq!(summary.bare.len(), 2);
    }

    #[test]
    fn encapsulations_over_udp_are_known_by_their_ports() {
        let outer = |port| Outer::of(&packet("192.0.2.18", "192.0.2.34", port));
        let found = [6081, 4789, 51820, 53].map(|port| (outer(port).encapsulation(), outer(port).vni));
        let expected = [
            (Some(Encapsulation::Geneve), Some(1)),
            (Some(Encapsulation::Vxlan), Some(1)),
            (Some(Encapsulation::Wireguard), None),
            (None, None),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn ipip_is_known_by_its_protocol() {
        let of = |family, protocol| {
            let outer = Outer {
                family,
                protocol,
                port: None,
                vni: None,
                wireguard: false,
            };
            outer.encapsulation()
        };
        for (family, protocol) in [(Family::Ipv4, 4), (Family::Ipv6, 4), (Family::Ipv6, 41)] {
            assert_eq!(of(family, protocol), Some(Encapsulation::Ipip));
        }
        assert_eq!((of(Family::Ipv4, 41), of(Family::Ipv4, 17)), (None, None));
    }
}
