//! Which events concern us: our own objects, and what leads to the peers.
//!
//! Where it is in doubt, an event concerns us: a pass that finds nothing costs milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NlasIterator, parse_ip, parse_string, parse_u8, parse_u32};

use super::super::message::Message;
use super::super::{address, link};
use super::EventKind;
use crate::model::{ANCHOR_METRIC, BACKSTOP_METRIC, Link, LinkKind, Owner, PROTOCOL};
use crate::net::LinkName;
use crate::plan;

// linux/rtnetlink.h
const RTM_NEWNEXTHOP: u16 = 104;
const RTM_DELNEXTHOP: u16 = 105;
const RTM_NEWNETCONF: u16 = 80;
const RTM_DELNETCONF: u16 = 81;
const RTM_NEWCHAIN: u16 = 100;
const RTM_DELCHAIN: u16 = 101;
/// `RTM_F_CLONED`: what a route lookup left behind.
const CLONED: u32 = 0x200;
/// `NDA_PROTOCOL` and `NUD_PERMANENT` (linux/neighbour.h).
const NDA_PROTOCOL: u16 = 12;
const NUD_PERMANENT: u16 = 0x80;
/// The first attribute of all messages of nftables that name a table (linux/netfilter/nf_tables.h).
const NFTA_TABLE: u16 = 1;
/// The name of our table.
const TABLE: &str = "adit";

/// What the last pass saw, as far as events are measured against it.
#[derive(Debug, Default)]
pub(in crate::kernel::netlink) struct Interest {
    /// Whether there was a pass; before it, everything concerns us.
    known: bool,
    /// All devices as of the last observation.
    observed: BTreeMap<u32, (LinkName, Link)>,
    /// The devices that lead to peers, as they were when the ways were looked up.
    underlay: BTreeMap<u32, (LinkName, Link)>,
    /// The addresses that ways were looked up to.
    peers: BTreeSet<IpAddr>,
    /// This machine's addresses at that time.
    local: BTreeSet<IpAddr>,
}

impl Interest {
    /// Takes note of the devices that a pass observed.
    pub(in crate::kernel::netlink) fn observed(&mut self, links: &[link::Observed]) {
        self.observed = by_index(links.iter());
        self.known = true;
    }

    /// Takes note of what facts were gathered: the devices, those of them that lead to peers, and the addresses.
    pub(in crate::kernel::netlink) fn gathered(
        &mut self,
        links: &[link::Observed],
        underlay: &BTreeSet<LinkName>,
        (peers, local): (&BTreeSet<IpAddr>, &BTreeSet<IpAddr>),
    ) {
        self.underlay = by_index(links.iter().filter(|link| underlay.contains(&link.name)));
        self.peers.clone_from(peers);
        self.local.clone_from(local);
    }

    /// Whether a message of `NETLINK_ROUTE` does. One that can't be read does.
    pub(super) fn concerns(&self, message: &Message<'_>) -> bool {
        if !self.known {
            return true;
        }
        let body = message.body;
        let read = match route_kind(message.kind) {
            EventKind::Link => self.link(body, message.kind == libc::RTM_DELLINK),
            EventKind::Address => self.address(body, message.kind == libc::RTM_DELADDR),
            EventKind::Route => self.route(body),
            EventKind::Neighbour => self.neighbour(body),
            EventKind::Tc => Ok(word(body, 4).is_some_and(|index| self.is_ours(index))),
            EventKind::Setting => self.setting(body),
            EventKind::NextHop => Ok(body.get(2) == Some(&PROTOCOL)),
            // They say which table leads to a peer, and there are few.
            EventKind::Rule => Ok(true),
            EventKind::Firewall | EventKind::Other => Ok(false),
        };
        read.unwrap_or(true)
    }

    fn link(&self, body: &[u8], gone: bool) -> Result<bool, DecodeError> {
        // A bridge tells of its ports by messages that look alike.
        if body.first().copied() == u8::try_from(libc::AF_BRIDGE).ok() {
            return Ok(false);
        }
        let index = word(body, 4).ok_or_else(|| DecodeError::from("a link without index"))?;
        let now = link::read(body)?;
        let same = |seen: &BTreeMap<u32, (LinkName, Link)>| match (seen.get(&index), &now) {
            (Some((name, link)), Some(now)) => !gone && *name == now.name && *link == now.link,
            (None, _) => gone,
            (Some(_), None) => false,
        };
        let matters = |name: &LinkName, link: &Link| {
            // Ours, what stands in our place, and what can keep ours from being made.
            let rival = !matches!(link.kind, LinkKind::Other(_) | LinkKind::Dummy);
            link.owner == Owner::Ours || plan::is_ours(name) || rival
        };
        let now_matters = now.as_ref().is_some_and(|now| matters(&now.name, &now.link));
        let before_matters = self
            .observed
            .get(&index)
            .is_some_and(|(n, link)| matters(n, link));
        if (now_matters || before_matters) && !same(&self.observed) {
            return Ok(true);
        }
        Ok(self.underlay.contains_key(&index) && !same(&self.underlay))
    }

    fn address(&self, body: &[u8], gone: bool) -> Result<bool, DecodeError> {
        let Some(observed) = address::read(body)? else {
            return Ok(false);
        };
        if self.is_ours(observed.index) {
            return Ok(true);
        }
        // An address whose lifetime is renewed is told of, too.
        let known = self.local.contains(&observed.prefix.addr());
        let is_peer = self.peers.contains(&observed.prefix.addr());
        Ok((self.underlay.contains_key(&observed.index) || is_peer) && (gone || !known))
    }

    /// `struct rtmsg`: family, prefix length, source's length, TOS, table, protocol, scope, type, flags.
    fn route(&self, body: &[u8]) -> Result<bool, DecodeError> {
        let (Some(&[family, length, _, _, _, protocol, _, _]), Some(flags)) =
            (body.first_chunk::<8>(), word(body, 8))
        else {
            return Err("a route without header".into());
        };
        if protocol == PROTOCOL {
            return Ok(true);
        }
        if flags & CLONED != 0 {
            return Ok(false);
        }
        let mut destination = match i32::from(family) {
            libc::AF_INET => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            libc::AF_INET6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            _ => return Ok(false),
        };
        for attribute in NlasIterator::new(body.get(12..).unwrap_or_default()) {
            let attribute = attribute?;
            match attribute.kind() {
                libc::RTA_DST => destination = parse_ip(attribute.value())?,
                libc::RTA_PRIORITY => {
                    let metric = parse_u32(attribute.value())?;
                    if [ANCHOR_METRIC, BACKSTOP_METRIC].contains(&metric) {
                        return Ok(true);
                    }
                }
                _ => {}
            }
        }
        let prefix = IpNet::new(destination, length).map_err(|_| DecodeError::from("a route's prefix"))?;
        // What leads, or led, to a peer.
        let first = self.peers.range(prefix.network()..).next();
        Ok(first.is_some_and(|peer| prefix.contains(peer)))
    }

    /// `struct ndmsg`: device at 4, state at 8, attributes at 12.
    fn neighbour(&self, body: &[u8]) -> Result<bool, DecodeError> {
        if !word(body, 4).is_some_and(|index| self.is_ours(index)) {
            return Ok(false);
        }
        let state = body.get(8..10).and_then(|state| state.first_chunk());
        if state.is_some_and(|state| u16::from_ne_bytes(*state) & NUD_PERMANENT != 0) {
            return Ok(true);
        }
        for attribute in NlasIterator::new(body.get(12..).unwrap_or_default()) {
            let attribute = attribute?;
            if attribute.kind() == NDA_PROTOCOL {
                return Ok(parse_u8(attribute.value())? == PROTOCOL);
            }
        }
        Ok(false)
    }

    /// `struct netconfmsg`: family, padding; the device is the first attribute.
    fn setting(&self, body: &[u8]) -> Result<bool, DecodeError> {
        const NETCONFA_IFINDEX: u16 = 1;
        for attribute in NlasIterator::new(body.get(4..).unwrap_or_default()) {
            let attribute = attribute?;
            if attribute.kind() == NETCONFA_IFINDEX {
                return Ok(self.is_ours(parse_u32(attribute.value())?));
            }
        }
        Ok(false)
    }

    fn is_ours(&self, index: u32) -> bool {
        let seen = self.observed.get(&index);
        seen.is_some_and(|(name, link)| link.owner == Owner::Ours || plan::is_ours(name))
    }
}

/// What a message of `NETLINK_ROUTE` is about.
pub(super) fn route_kind(message: u16) -> EventKind {
    match message {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => EventKind::Link,
        libc::RTM_NEWADDR | libc::RTM_DELADDR => EventKind::Address,
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => EventKind::Route,
        libc::RTM_NEWRULE | libc::RTM_DELRULE => EventKind::Rule,
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => EventKind::Neighbour,
        RTM_NEWNEXTHOP | RTM_DELNEXTHOP => EventKind::NextHop,
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC | libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER => {
            EventKind::Tc
        }
        RTM_NEWCHAIN | RTM_DELCHAIN => EventKind::Tc,
        RTM_NEWNETCONF | RTM_DELNETCONF => EventKind::Setting,
        _ => EventKind::Other,
    }
}

/// Whether a message of nftables is about our table, whatever its family. `struct nfgenmsg` comes first.
pub(super) fn is_our_table(message: &Message<'_>) -> bool {
    let attributes = NlasIterator::new(message.body.get(4..).unwrap_or_default());
    let table = attributes
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == NFTA_TABLE);
    table.is_some_and(|table| parse_string(table.value()).is_ok_and(|name| name == TABLE))
}

fn by_index<'a>(links: impl Iterator<Item = &'a link::Observed>) -> BTreeMap<u32, (LinkName, Link)> {
    links
        .map(|link| (link.index, (link.name.clone(), link.link.clone())))
        .collect()
}

fn word(body: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*body.get(at..)?.first_chunk()?))
}
