//! Sends traffic of every kind between every ordered pair, in every family. One thread is both ends.
//!
//! The worker threads move from namespace to namespace and end with [`run`]. They wait only for their sockets, in
//! slices, so an interruption ends them soon.
mod icmp;
mod tcp;
mod udp;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use adit_tests::interrupt::Deadline;
use adit_tests::topology::End;
use anyhow::Result;
use dataplane_user::net::Family;

use super::links::Link;

/// The number of packets of each kind between each pair, except for TCP.
const ROUNDS: u16 = 3;
/// How many measurements run at the same time.
const WORKERS: usize = 96;

/// A kind of traffic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Echo requests of 56 bytes; replies count as received.
    Icmp,
    /// Datagrams of one byte.
    UdpByte,
    /// Datagrams whose packets have exactly the MTU of the overlay; they must not be fragmented.
    UdpMtu,
    /// Datagrams that are sent in fragments inside of the tunnel.
    UdpOverMtu,
    /// A stream of 2 MiB, counted in bytes.
    Tcp,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Icmp,
        Self::UdpByte,
        Self::UdpMtu,
        Self::UdpOverMtu,
        Self::Tcp,
    ];
    /// The kinds that run at the same time. ICMP runs alone because of its round-trip times, TCP because of its load.
    const PHASES: [&[Self]; 3] = [
        &[Self::Icmp],
        &[Self::UdpByte, Self::UdpMtu, Self::UdpOverMtu],
        &[Self::Tcp],
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::UdpByte => "udp-1",
            Self::UdpMtu => "udp-mtu",
            Self::UdpOverMtu => "udp-over-mtu",
            Self::Tcp => "tcp",
        }
    }
}

/// A host or a pod.
#[derive(Debug)]
pub(crate) struct Endpoint<'a> {
    pub(crate) name: String,
    pub(crate) end: End<'a>,
}

/// Two ends and the link between them, in one direction and family.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair<'a> {
    pub(crate) from: &'a Endpoint<'a>,
    pub(crate) to: &'a Endpoint<'a>,
    pub(crate) family: Family,
    pub(crate) link: Link,
    /// The MTU of the overlay in bytes.
    pub(crate) mtu: u32,
}

/// The result of one kind of traffic between one pair.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Measured {
    /// In packets; for TCP in bytes.
    pub(crate) sent: u64,
    /// How much of it arrived unchanged and from the right address.
    pub(crate) received: u64,
    /// Payload bytes per counted unit.
    pub(crate) unit: u64,
    /// The shortest round-trip time; for TCP the time to connect.
    pub(crate) rtt: Option<Duration>,
    /// The first thing that went wrong.
    pub(crate) error: Option<String>,
}

impl Measured {
    pub(crate) fn is_complete(&self) -> bool {
        self.sent > 0 && self.received == self.sent
    }

    fn took(&mut self, time: Duration) {
        self.rtt = Some(self.rtt.map_or(time, |least| least.min(time)));
    }

    fn note(&mut self, what: &impl ToString) {
        self.error.get_or_insert_with(|| what.to_string());
    }
}

/// How long to wait for a packet: the full time until one is missing, then a tenth of it.
struct Waits {
    full: Duration,
    lost: bool,
}

impl Waits {
    fn new(full: Duration) -> Self {
        Self { full, lost: false }
    }

    fn next(&self) -> Deadline {
        Deadline::after(if self.lost { self.full / 10 } else { self.full })
    }
}

/// Sends all `kinds` between all pairs. Returns the results in the order of the pairs and of the kinds.
pub(crate) fn run(pairs: &[Pair<'_>], kinds: &BTreeSet<Kind>, wait: Duration) -> Vec<Vec<(Kind, Measured)>> {
    let mut results = vec![Vec::new(); pairs.len()];
    for phase in Kind::PHASES {
        let jobs: Vec<(usize, Kind)> = (0..pairs.len())
            .flat_map(|pair| phase.iter().map(move |kind| (pair, *kind)))
            .filter(|(_, kind)| kinds.contains(kind))
            .collect();
        for ((pair, kind), measured) in jobs.iter().zip(pool(pairs, &jobs, wait)) {
            results[*pair].push((*kind, measured));
        }
    }
    results
}

/// Sends echo requests between each of these pairs until one is answered, for at most `limit`, so that the setup of
/// WireGuard sessions does not count as a loss. Pairs that do not answer fail when they are measured.
pub(crate) fn warm_up(pairs: &[Pair<'_>], wait: Duration, limit: Duration) {
    thread::scope(|scope| {
        for (index, pair) in pairs.iter().enumerate() {
            scope.spawn(move || {
                let deadline = Deadline::after(limit);
                while measure(pair, Kind::Icmp, wait, index).received == 0 {
                    let Some(slice) = deadline.slice() else {
                        return;
                    };
                    // A request that cannot be sent fails at once.
                    thread::sleep(slice);
                }
            });
        }
    });
}

fn pool(pairs: &[Pair<'_>], jobs: &[(usize, Kind)], wait: Duration) -> Vec<Measured> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(vec![Measured::default(); jobs.len()]);
    thread::scope(|scope| {
        for _ in 0..WORKERS.min(jobs.len()) {
            scope.spawn(|| {
                while let Some((index, (pair, kind))) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    jobs.get(index).map(|job| (index, *job))
                } {
                    let measured = measure(&pairs[pair], kind, wait, index);
                    results.lock().unwrap_or_else(PoisonError::into_inner)[index] = measured;
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn measure(pair: &Pair<'_>, kind: Kind, wait: Duration, index: usize) -> Measured {
    let mut measured = Measured::default();
    let result = match kind {
        Kind::Icmp => icmp::measure(pair, wait, index, &mut measured),
        Kind::Tcp => tcp::measure(pair, wait, &mut measured),
        Kind::UdpByte | Kind::UdpMtu | Kind::UdpOverMtu => udp::measure(pair, kind, wait, &mut measured),
    };
    if let Err(error) = result {
        measured.note(&format!("{error:#}"));
    }
    if !measured.is_complete() {
        measured.note(&"no answer within the time limit");
    }
    measured
}

impl Pair<'_> {
    /// Creates something, usually a socket, in the namespace of the sender.
    fn at_sender<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
        Ok(self.from.end.netns.enter(make)?)
    }

    /// Creates something in the namespace of the receiver.
    fn at_receiver<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
        Ok(self.to.end.netns.enter(make)?)
    }

    fn source(&self) -> IpAddr {
        self.from.end.address(self.family)
    }

    fn destination(&self) -> IpAddr {
        self.to.end.address(self.family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_sent_is_not_complete() {
        let mut measured = Measured::default();
        assert!(!measured.is_complete());
        (measured.sent, measured.received) = (3, 2);
        assert!(!measured.is_complete());
        measured.received = 3;
        assert!(measured.is_complete());
    }
}
