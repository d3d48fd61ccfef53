//! What the kernel tells of its own accord: whether it concerns us, and when it is time to look.
//!
//! No task runs here: [`Events::changed`] waits on the subscriptions, which are sockets apart from the one for requests.
//! Events are never believed, they only wake: whoever is woken reads everything, so that a lost one costs a pass.

mod interest;
mod pending;
mod subscription;

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use rtnetlink::MulticastGroup;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};

pub(in crate::kernel) use self::interest::Interest;
use self::interest::Matter;
use self::pending::{Heard, Pending};
use self::subscription::Subscription;
use super::message::{Message, messages};
use super::uapi;
use crate::kernel::KernelError;

/// Groups of `NETLINK_ROUTE`.
const ROUTE_GROUPS: [MulticastGroup; 13] = [
    MulticastGroup::Link,
    MulticastGroup::Neigh,
    MulticastGroup::Tc,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Netconf,
    MulticastGroup::Nsid,
    MulticastGroup::Nexthop,
];

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
        let route = Subscription::open(NETLINK_ROUTE, &ROUTE_GROUPS.map(|group| group as u32))
            .map_err(|error| KernelError::new("subscribe to the kernel's events", error))?;
        let unheard = route.listen_everywhere().err().map(|error| error.to_string());
        interest
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .set_unheard(unheard);
        let firewall = Subscription::open(NETLINK_NETFILTER, &[uapi::NFNLGRP_NFTABLES]);
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
    /// old; while a pass makes changes, that waits for its next observation. What a pass has seen meanwhile is not told.
    /// Dropping it loses what was not told yet.
    ///
    /// # Errors
    /// When the subscription broke; there is nothing more to wait for.
    pub async fn changed(&mut self) -> io::Result<Woken> {
        let mut pending: Option<Pending> = None;
        loop {
            let heard = tokio::select! {
                biased;
                () = wait_until(pending.as_ref().map(Pending::due)) => {
                    if self.interest().is_changing() {
                        pending.as_mut().map(Pending::put_off);
                        continue;
                    }
                    let ended = pending.take().and_then(|pending| pending.woken(&self.interest()));
                    match ended {
                        Some(woken) => return Ok(woken),
                        None => continue,
                    }
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
                        Heard::default()
                    }
                }
            };
            let mut interest = self.interest();
            interest.heard += 1;
            interest.was_told(heard);
            drop(interest);
            if heard.lost {
                self.counts.overruns.fetch_add(1, Ordering::Relaxed);
            }
            if heard != Heard::default() {
                pending.get_or_insert_with(Pending::new).add(heard);
            }
        }
    }

    fn interest(&self) -> MutexGuard<'_, Interest> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_route(&self) -> Heard {
        let interest = self.interest();
        let namespace = self.route.namespace();
        let matter = |message: &Message<'_>| interest.matter_from(namespace, message);
        self.take(self.route.datagram(), interest::route_kind, matter)
    }

    fn take_firewall(&self) -> Heard {
        let datagram = self.firewall.as_ref().and_then(Subscription::datagram);
        self.take(datagram, |_| EventKind::Firewall, interest::firewall_matter)
    }

    fn take(
        &self,
        datagram: Option<&[u8]>,
        kind: impl Fn(u16) -> EventKind,
        matter: impl Fn(&Message<'_>) -> Option<Matter>,
    ) -> Heard {
        let mut heard = Heard::default();
        let Some(Ok(messages)) = datagram.map(messages) else {
            heard.lost = true;
            return heard;
        };
        for message in messages {
            let kind = kind(message.kind);
            self.counts.received[kind as usize].fetch_add(1, Ordering::Relaxed);
            let matter = matter(&message);
            if let Some(matter) = matter {
                debug!(kind = kind.name(), ?matter, "the kernel changed");
            }
            heard.own |= matter == Some(Matter::Own);
            heard.ways |= matter == Some(Matter::Ways);
        }
        heard
    }
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
