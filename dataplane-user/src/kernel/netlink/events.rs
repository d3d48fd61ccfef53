//! Kernel events: selects those that concern Adit, and decides when to start a reconciliation.
//!
//! No task runs here: [`Events::changed`] waits for the subscriptions, whose sockets are not the one for
//! requests. Events only wake the loop, which then reads everything, so a lost event costs only an additional
//! reconciliation.

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
pub(in crate::kernel::netlink) use self::interest::UnderlayAddresses;
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

/// The kind of object that an event is about.
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
    /// An object of nftables.
    Firewall,
    /// Anything else.
    Other,
}

impl EventKind {
    /// All kinds, in the order of their numbers.
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

    /// The stable name.
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

/// The number of received events, including those that do not concern Adit.
#[derive(Debug, Default)]
pub struct EventCounts {
    received: [AtomicU64; EventKind::ALL.len()],
    overruns: AtomicU64,
}

impl EventCounts {
    /// The number of events of a kind.
    #[must_use]
    pub fn received(&self, kind: EventKind) -> u64 {
        self.received[kind as usize].load(Ordering::Relaxed)
    }

    /// How often events were lost.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.overruns.load(Ordering::Relaxed)
    }
}

/// Why a reconciliation is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// An object that concerns Adit changed.
    Changed,
    /// Events were lost, so anything may have changed.
    Lost,
}

/// The subscriptions of one network namespace.
pub struct Events {
    route: Subscription,
    /// `None` if it could not be opened or failed.
    firewall: Option<Subscription>,
    interest: Arc<Mutex<Interest>>,
    counts: Arc<EventCounts>,
}

impl Events {
    /// Subscribes in the namespace of the calling thread. What the last reconciliation read decides which
    /// events concern Adit; before the first one all do.
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
            warn!(
                "only full reconciliations notice nftables changes, because the event socket failed: {error}"
            );
        }
        Ok(Events {
            route,
            firewall: firewall.ok(),
            interest,
            counts,
        })
    }

    /// Waits until an object that concerns Adit changed and no further event arrives for a while, or until
    /// the first event is a quarter of a second old. While a reconciliation makes changes, this waits for its
    /// next observation. Events that a reconciliation has covered meanwhile are not reported. Dropping the
    /// future loses unreported events.
    ///
    /// # Errors
    /// When the subscription failed, so that no more events arrive.
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
                        warn!("only full reconciliations notice nftables changes, because the event socket failed: {error}");
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
                debug!(kind = kind.name(), ?matter, "kernel event");
            }
            heard.own |= matter == Some(Matter::Own);
            heard.paths |= matter == Some(Matter::Paths);
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
