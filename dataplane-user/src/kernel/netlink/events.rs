//! What the kernel tells of its own accord: whether it concerns us, and when it is time to look.
//!
//! No task runs here: [`Events::changed`] waits on the subscriptions, which are sockets apart from the one for requests.
//! Events are never believed, they only wake: whoever is woken reads everything, so that a lost one costs a pass.

mod interest;
mod subscription;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

pub(super) use self::interest::Interest;
use self::subscription::Subscription;
use super::message::{Message, messages};
use crate::kernel::KernelError;

/// How long it must be quiet after an event: one change by hand is several messages.
const QUIET: Duration = Duration::from_millis(50);
/// How long the first event of a storm waits at most.
const LATEST: Duration = Duration::from_millis(250);

/// Groups of `NETLINK_ROUTE` (`enum rtnetlink_groups`, linux/rtnetlink.h): links, neighbours, tc, addresses, routes, rules
/// and settings of both families, next hops.
const ROUTE_GROUPS: [u32; 12] = [1, 3, 4, 5, 7, 8, 9, 11, 19, 24, 25, 32];
/// `NFNLGRP_NFTABLES` of `NETLINK_NETFILTER` (linux/netfilter/nfnetlink.h).
const FIREWALL_GROUPS: [u32; 1] = [7];

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A device.
    Link,
    /// An address.
    Address,
    /// A route.
    Route,
    /// A policy rule.
    Rule,
    /// A neighbour.
    Neighbour,
    /// A next-hop object.
    NextHop,
    /// A qdisc, a filter or a chain.
    Tc,
    /// A setting of a device.
    Setting,
    /// Something of nftables.
    Firewall,
    /// Anything else.
    Other,
}

impl EventKind {
    /// All, in the order of their numbers.
    pub const ALL: [EventKind; 10] = [
        EventKind::Link,
        EventKind::Address,
        EventKind::Route,
        EventKind::Rule,
        EventKind::Neighbour,
        EventKind::NextHop,
        EventKind::Tc,
        EventKind::Setting,
        EventKind::Firewall,
        EventKind::Other,
    ];

    /// A stable word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            EventKind::Link => "link",
            EventKind::Address => "address",
            EventKind::Route => "route",
            EventKind::Rule => "rule",
            EventKind::Neighbour => "neighbour",
            EventKind::NextHop => "nexthop",
            EventKind::Tc => "tc",
            EventKind::Setting => "setting",
            EventKind::Firewall => "nftables",
            EventKind::Other => "other",
        }
    }
}

/// What was heard so far; counted whether or not it concerns us.
#[derive(Debug, Default)]
pub struct EventCounts {
    received: [AtomicU64; EventKind::ALL.len()],
    overruns: AtomicU64,
}

impl EventCounts {
    /// Events of a kind.
    #[must_use]
    pub fn received(&self, kind: EventKind) -> u64 {
        self.received[kind as usize].load(Ordering::Relaxed)
    }

    /// Times that events were lost.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }
}

/// Why it is time to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Something that concerns us changed.
    Changed,
    /// Events were lost: anything may have changed.
    Lost,
}

/// The subscriptions of one network namespace.
pub struct Events {
    route: Subscription,
    /// `None`: it can't be had, or broke.
    firewall: Option<Subscription>,
    interest: Arc<Mutex<Interest>>,
    counts: Arc<EventCounts>,
}

impl Events {
    /// Subscribes, in the calling thread's namespace. What concerns us is what the last pass saw; until then, everything.
    pub(super) fn open(
        interest: Arc<Mutex<Interest>>,
        counts: Arc<EventCounts>,
    ) -> Result<Events, KernelError> {
        let route = Subscription::open(NETLINK_ROUTE, &ROUTE_GROUPS)
            .map_err(|error| KernelError::new("subscribe to the kernel's events", error))?;
        let firewall = Subscription::open(NETLINK_NETFILTER, &FIREWALL_GROUPS);
        if let Err(error) = &firewall {
            warn!("changes of nftables are only seen by the periodic pass: {error}");
        }
        Ok(Events {
            route,
            firewall: firewall.ok(),
            interest,
            counts,
        })
    }

    /// Waits until something that concerns us changed and it is quiet again, or the first event is a quarter of a second
    /// old. Dropping it loses what was not told yet.
    ///
    /// # Errors
    /// When the subscription broke; there is nothing more to wait for.
    pub async fn changed(&mut self) -> io::Result<Woken> {
        let mut pending: Option<(Instant, Instant)> = None;
        let mut lost = false;
        loop {
            let due = pending.map(|(first, last)| (last + QUIET).min(first + LATEST));
            let concerns = tokio::select! {
                biased;
                () = wait_until(due) => {
                    return Ok(if lost { Woken::Lost } else { Woken::Changed });
                }
                received = self.route.receive() => {
                    received?;
                    self.take_route()
                }
                received = receive(self.firewall.as_mut()) => match received {
                    Ok(()) => self.take_firewall(),
                    Err(error) => {
                        warn!("changes of nftables are only seen by the periodic pass: {error}");
                        self.firewall = None;
                        Verdict::Indifferent
                    }
                }
            };
            if concerns == Verdict::Lost {
                self.counts.overruns.fetch_add(1, Ordering::Relaxed);
                lost = true;
            }
            if concerns != Verdict::Indifferent {
                let now = Instant::now();
                pending = Some((pending.map_or(now, |(first, _)| first), now));
            }
        }
    }

    fn take_route(&self) -> Verdict {
        let Some(datagram) = self.route.datagram() else {
            return Verdict::Lost;
        };
        let interest = self.interest.lock().unwrap_or_else(PoisonError::into_inner);
        self.take(datagram, interest::route_kind, |message| {
            interest.concerns(message)
        })
    }

    fn take_firewall(&self) -> Verdict {
        let Some(datagram) = self.firewall.as_ref().and_then(Subscription::datagram) else {
            return Verdict::Lost;
        };
        self.take(datagram, |_| EventKind::Firewall, interest::is_our_table)
    }

    fn take(
        &self,
        datagram: &[u8],
        kind: impl Fn(u16) -> EventKind,
        concerns: impl Fn(&Message<'_>) -> bool,
    ) -> Verdict {
        let Ok(messages) = messages(datagram) else {
            return Verdict::Lost;
        };
        let mut verdict = Verdict::Indifferent;
        for message in messages {
            let kind = kind(message.kind);
            self.counts.received[kind as usize].fetch_add(1, Ordering::Relaxed);
            if verdict == Verdict::Indifferent && concerns(&message) {
                debug!(kind = kind.name(), "the kernel changed");
                verdict = Verdict::Concerns;
            }
        }
        verdict
    }
}

/// What was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Indifferent,
    Concerns,
    Lost,
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

async fn receive(subscription: Option<&mut Subscription>) -> io::Result<()> {
    match subscription {
        Some(subscription) => subscription.receive().await,
        None => std::future::pending().await,
    }
}
