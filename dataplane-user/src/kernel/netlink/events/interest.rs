//! Decides which events concern Adit: those about managed objects and about the paths to peers.
//!
//! In doubt an event concerns Adit, because a reconciliation that finds nothing costs only milliseconds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{DecodeError, NlasIterator, Parseable as _, parse_string, parse_u32};
use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::LinkHeader;
use netlink_packet_route::neighbour::{
    NeighbourAttribute, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteFlags, RouteHeader, RouteProtocol};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::tc::TcHeader;
use tokio::time::Instant;

use super::super::message::Message;
use super::super::{address, link, nexthop, nsid, route, uapi};
use super::EventKind;
use super::pending::Heard;
use crate::model::devices;
use crate::model::{
    ANCHOR_METRIC, Address, BACKSTOP_METRIC, Link, LinkKind, MAIN_TABLE, Owner, PROTOCOL, RouteKey,
};
use crate::net::LinkName;

/// The name of the nft table of Adit.
const TABLE: &str = "adit";

type Read = Result<Option<Matter>, DecodeError>;

/// The part of a reconciliation for which an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel::netlink) enum Matter {
    /// Managed objects, or conflicting ones, which an observation reads.
    Own,
    /// The paths to peers, which are part of the facts.
    Paths,
}

/// Addresses in the underlay that matter.
#[derive(Clone, Copy)]
pub(in crate::kernel::netlink) struct UnderlayAddresses<'a> {
    /// Those of peers.
    pub(in crate::kernel::netlink) peers: &'a BTreeSet<IpAddr>,
    /// Those of this machine.
    pub(in crate::kernel::netlink) local: &'a BTreeSet<IpAddr>,
}

/// The state in the last reconciliation with which events are compared.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Interest {
    /// When the last observation began; before the first one, all events concern Adit.
    observed_at: Option<Instant>,
    /// When facts were last gathered.
    gathered_at: Option<Instant>,
    /// When an event for observations was last received, or events were lost.
    told_at: Option<Instant>,
    /// When a reconciliation last began to make changes.
    changing_at: Option<Instant>,
    /// The number of received datagrams.
    pub(in crate::kernel::netlink) heard: u64,
    /// All devices in the last observation.
    observed: BTreeMap<u32, link::Observed>,
    /// The addresses on all devices in the last observation.
    addresses: BTreeMap<(u32, IpNet), Address>,
    /// The devices on paths to peers, as they were when the paths were looked up.
    underlay: BTreeMap<u32, link::Observed>,
    /// The keys of desired routes that do not have the usual metrics of Adit.
    routes: BTreeSet<RouteKey>,
    /// The names of desired devices.
    links: BTreeSet<LinkName>,
    /// Devices whose return paths are part of the facts, existing or not.
    return_paths: BTreeSet<LinkName>,
    /// The addresses to which paths were looked up.
    peers: BTreeSet<IpAddr>,
    /// Other destinations that the plan looks up: managed routes may lead to them, whose echoes do not wake
    /// the loop.
    lookups: BTreeSet<IpAddr>,
    /// The addresses of this machine at that time.
    local: BTreeSet<IpAddr>,
    /// The same for other namespaces, by their ids in this one.
    elsewhere: BTreeMap<i32, Interest>,
    /// The id of this namespace in itself.
    own_number: Option<i32>,
    /// Why no events of other namespaces are received; `None` if they are, or if nobody listens.
    unheard: Option<String>,
}

impl Interest {
    /// Records why no events of other namespaces are received.
    pub(super) fn set_unheard(&mut self, why: Option<String>) {
        self.unheard = why;
    }

    /// Why no events of other namespaces are received.
    pub(in crate::kernel::netlink) fn unheard(&self) -> Option<String> {
        self.unheard.clone()
    }

    /// Records the devices of an observation, and when it began.
    pub(in crate::kernel::netlink) fn observed(&mut self, links: &[link::Observed], at: Instant) {
        self.observed = by_index(links.iter());
        self.observed_at = Some(at);
    }

    /// Records the addresses of the same observation.
    pub(in crate::kernel::netlink) fn observed_addresses(&mut self, addresses: &[address::Observed]) {
        let seen = addresses.iter();
        self.addresses = seen
            .map(|seen| ((seen.index, seen.prefix), seen.address))
            .collect();
    }

    /// Records the keys of desired routes and the names of desired devices.
    pub(in crate::kernel::netlink) fn want(
        &mut self,
        routes: &BTreeSet<RouteKey>,
        links: BTreeSet<LinkName>,
    ) {
        self.routes.clone_from(routes);
        self.links = links;
    }

    /// Records the devices whose return paths matter.
    pub(in crate::kernel::netlink) fn want_return_paths(&mut self, devices: &BTreeSet<LinkName>) {
        self.return_paths.clone_from(devices);
    }

    /// Records the destinations that the plan looks up in addition to peers.
    pub(in crate::kernel::netlink) fn want_lookups(&mut self, destinations: BTreeSet<IpAddr>) {
        self.lookups = destinations;
    }

    /// Records gathered facts: the devices, those of them on paths to peers, and addresses.
    pub(in crate::kernel::netlink) fn gathered(
        &mut self,
        links: &[link::Observed],
        underlay: &BTreeSet<LinkName>,
        addresses: UnderlayAddresses<'_>,
        at: Instant,
    ) {
        self.gathered_at = Some(at);
        self.underlay = by_index(links.iter().filter(|link| underlay.contains(&link.name)));
        self.peers.clone_from(addresses.peers);
        self.local.clone_from(addresses.local);
    }

    /// Records the state in other namespaces, and the id of this one.
    pub(in crate::kernel::netlink) fn set_elsewhere(
        &mut self,
        elsewhere: BTreeMap<i32, Interest>,
        own_number: Option<i32>,
    ) {
        self.elsewhere = elsewhere;
        self.own_number = own_number;
    }

    /// Records that a reconciliation starts to make changes.
    pub(in crate::kernel::netlink) fn changing(&mut self, at: Instant) {
        self.changing_at = Some(at);
    }

    /// Whether changes were made after the last observation. This ends, because each reconciliation observes
    /// after its changes, and if that fails, another reconciliation follows.
    pub(super) fn is_changing(&self) -> bool {
        self.changing_at > self.observed_at
    }

    /// Records received events.
    pub(super) fn was_told(&mut self, heard: Heard) {
        if heard.own || heard.lost {
            self.told_at = Some(Instant::now());
        }
    }

    /// Whether an event was received since the last observation began, which may be inconsistent then.
    pub(in crate::kernel::netlink) fn is_outdated(&self) -> bool {
        self.told_at > self.observed_at
    }

    /// Whether a reconciliation that began after the event was received has covered it.
    pub(super) fn has_seen(&self, matter: Matter, heard: Instant) -> bool {
        let seen = match matter {
            Matter::Own => self.observed_at,
            Matter::Paths => self.gathered_at,
        };
        seen.is_some_and(|seen| heard < seen)
    }

    /// For what a message of `NETLINK_ROUTE` from the namespace with this id matters.
    pub(in crate::kernel::netlink) fn matter_from(
        &self,
        namespace: Option<i32>,
        message: &Message<'_>,
    ) -> Option<Matter> {
        match namespace {
            Some(number) if self.own_number != Some(number) => {
                let there = self.elsewhere.get(&number)?;
                // Paths to peers only start in this namespace.
                let paths = !there.lookups.is_empty();
                let matter = there.matter(message);
                matter.filter(|matter| *matter == Matter::Own || paths)
            }
            _ if message.kind == libc::RTM_DELNSID => {
                let gone = nsid::read(message.body)?;
                self.elsewhere.contains_key(&gone).then_some(Matter::Own)
            }
            _ => self.matter(message),
        }
    }

    /// For what a message of `NETLINK_ROUTE` from this namespace matters. A message that can't be decoded
    /// matters.
    fn matter(&self, message: &Message<'_>) -> Option<Matter> {
        if self.observed_at.is_none() {
            return Some(Matter::Paths);
        }
        let own = |is: bool| Ok(is.then_some(Matter::Own));
        let body = message.body;
        let read = match route_kind(message.kind) {
            EventKind::Link => self.link(body, message.kind == libc::RTM_DELLINK),
            EventKind::Address => self.address(body, message.kind == libc::RTM_DELADDR),
            EventKind::Route => self.route(body),
            EventKind::Neighbour => self.neighbour(body),
            EventKind::Tc => {
                own(TcHeader::parse(body).is_ok_and(|header| self.is_managed(header.index.cast_unsigned())))
            }
            EventKind::Setting => self.setting(body),
            EventKind::NextHop => next_hop(body),
            EventKind::Rule => rule(body),
            EventKind::Firewall | EventKind::Other => Ok(None),
        };
        read.unwrap_or(Some(Matter::Paths))
    }

    fn link(&self, body: &[u8], gone: bool) -> Read {
        // Bridges report their ports with similar messages.
        let LinkHeader {
            interface_family,
            index,
            ..
        } = LinkHeader::parse(body)?;
        if interface_family == AddressFamily::Bridge {
            return Ok(None);
        }
        let now = link::read(body)?;
        let same = |seen: &BTreeMap<u32, link::Observed>| match seen.get(&index) {
            Some(before) => !gone && now.as_ref() == Some(before),
            None => gone,
        };
        let matters = |name: &LinkName, link: &Link| {
            // Managed links, conflicting ones, and those that can prevent the creation of desired ones.
            let rival = !matches!(link.kind, LinkKind::Other(_) | LinkKind::Dummy);
            link.owner == Owner::Adit
                || devices::is_overlay_device(name)
                || rival
                || self.links.contains(name)
        };
        let now_matters = now.as_ref().is_some_and(|now| matters(&now.name, &now.link));
        let before_matters = self
            .observed
            .get(&index)
            .is_some_and(|before| matters(&before.name, &before.link));
        // Also a device that is recreated with the name.
        let leads_back = now
            .as_ref()
            .is_some_and(|now| self.return_paths.contains(&now.name));
        if (self.underlay.contains_key(&index) || leads_back) && !same(&self.underlay) {
            return Ok(Some(Matter::Paths));
        }
        let own = (now_matters || before_matters) && !same(&self.observed);
        Ok(own.then_some(Matter::Own))
    }

    fn address(&self, body: &[u8], gone: bool) -> Read {
        let Some(observed) = address::read(body)? else {
            return Ok(None);
        };
        // The kernel also reports addresses whose lifetime is renewed.
        let known = self.local.contains(&observed.prefix.addr());
        let is_peer = self.peers.contains(&observed.prefix.addr());
        // The message has no device name: if no reconciliation knows the device yet, it may matter for return
        // paths. Return paths that are being gathered right now may lack this address.
        let is_new = !self.return_paths.is_empty() && !self.observed.contains_key(&observed.index);
        if (self.underlay.contains_key(&observed.index) || is_peer || is_new) && (gone || !known) {
            return Ok(Some(Matter::Paths));
        }
        // The kernel also reports addresses that are no longer tentative, in the same way.
        let seen = self.addresses.get(&(observed.index, observed.prefix));
        let same = !gone && seen == Some(&observed.address);
        Ok((self.is_managed(observed.index) && !same).then_some(Matter::Own))
    }

    fn route(&self, body: &[u8]) -> Read {
        let header = RouteHeader::parse(body)?;
        if header.flags.contains(RouteFlags::Cloned) {
            return Ok(None);
        }
        let mut own = header.protocol == RouteProtocol::Other(PROTOCOL);
        if !matches!(header.address_family, AddressFamily::Inet | AddressFamily::Inet6) {
            return Ok(own.then_some(Matter::Own));
        }
        let key = route::key(&header, &body[route::HEADER..])?;
        let prefix = key.prefix;
        own |= [ANCHOR_METRIC, BACKSTOP_METRIC].contains(&key.metric);
        own |= self.routes.contains(&key);
        if !own && !self.return_paths.is_empty() && key.table == MAIN_TABLE && prefix.prefix_len() == 0 {
            return Ok(Some(Matter::Paths));
        }
        // The route leads, or led, to a peer.
        let holds = |asked: &BTreeSet<IpAddr>| {
            let first = asked.range(prefix.network()..).next();
            first.is_some_and(|address| prefix.contains(address))
        };
        if holds(&self.peers) || !own && holds(&self.lookups) {
            return Ok(Some(Matter::Paths));
        }
        Ok(own.then_some(Matter::Own))
    }

    fn neighbour(&self, body: &[u8]) -> Read {
        let header = NeighbourHeader::parse(body)?;
        if !self.is_managed(header.ifindex) {
            return Ok(None);
        }
        if header.state == NeighbourState::Permanent {
            return Ok(Some(Matter::Own));
        }
        let attributes = NeighbourMessage::parse(body)?.attributes;
        let managed = attributes.contains(&NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
        Ok(managed.then_some(Matter::Own))
    }

    /// A setting of a device. The device is the first attribute.
    fn setting(&self, body: &[u8]) -> Read {
        for attribute in NlasIterator::new(body.get(uapi::NETCONF_HEADER..).unwrap_or_default()) {
            let attribute = attribute?;
            if attribute.kind() == uapi::NETCONFA_IFINDEX {
                let managed = self.is_managed(parse_u32(attribute.value())?);
                return Ok(managed.then_some(Matter::Own));
            }
        }
        Ok(None)
    }

    fn is_managed(&self, index: u32) -> bool {
        let seen = self.observed.get(&index);
        seen.is_some_and(|seen| seen.link.owner == Owner::Adit || devices::is_overlay_device(&seen.name))
    }
}

/// Rules not managed by Adit decide which table leads to a peer, and there are few of them.
fn rule(body: &[u8]) -> Read {
    let attributes = RuleMessage::parse(body)?.attributes;
    let managed = attributes.contains(&RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    Ok(Some(if managed { Matter::Own } else { Matter::Paths }))
}

/// A next-hop object. `struct nhmsg` has the protocol at offset 2, attributes at 8. If another program
/// replaces an object of Adit, the message may lack the mark, but has the id.
fn next_hop(body: &[u8]) -> Read {
    let managed =
        body.get(2) == Some(&PROTOCOL) || nexthop::id(body)?.is_some_and(|id| nexthop::IDS.contains(&id));
    Ok(managed.then_some(Matter::Own))
}

/// The kind of object that a message of `NETLINK_ROUTE` is about.
pub(super) fn route_kind(message: u16) -> EventKind {
    match message {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => EventKind::Link,
        libc::RTM_NEWADDR | libc::RTM_DELADDR => EventKind::Address,
        libc::RTM_NEWROUTE | libc::RTM_DELROUTE => EventKind::Route,
        libc::RTM_NEWRULE | libc::RTM_DELRULE => EventKind::Rule,
        libc::RTM_NEWNEIGH | libc::RTM_DELNEIGH => EventKind::Neighbour,
        uapi::RTM_NEWNEXTHOP | uapi::RTM_DELNEXTHOP => EventKind::NextHop,
        libc::RTM_NEWQDISC | libc::RTM_DELQDISC | libc::RTM_NEWTFILTER | libc::RTM_DELTFILTER => {
            EventKind::Tc
        }
        uapi::RTM_NEWCHAIN | uapi::RTM_DELCHAIN => EventKind::Tc,
        libc::RTM_NEWNETCONF | libc::RTM_DELNETCONF => EventKind::Setting,
        _ => EventKind::Other,
    }
}

/// For what a message of nftables matters: it is about the table of Adit, in any family, or does not matter.
/// The message starts with `struct nfgenmsg`.
pub(super) fn firewall_matter(message: &Message<'_>) -> Option<Matter> {
    let attributes = NlasIterator::new(message.body.get(uapi::NFNL_HEADER..).unwrap_or_default());
    let table = attributes
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == uapi::NFTA_TABLE_NAME);
    let managed = table.is_some_and(|table| parse_string(table.value()).is_ok_and(|name| name == TABLE));
    managed.then_some(Matter::Own)
}

/// Devices by index, as in messages, which refer to a lower device only by its index.
fn by_index<'a>(links: impl Iterator<Item = &'a link::Observed>) -> BTreeMap<u32, link::Observed> {
    let said = |link: &link::Observed| {
        let mut link = link.clone();
        if let LinkKind::VxlanTo { lower, .. } = &mut link.link.kind {
            *lower = None;
        }
        (link.index, link)
    };
    links.map(said).collect()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;

    use super::*;

    /// `RTM_NEWADDR` of fe80::1/64 on a device (`struct ifaddrmsg`, then `IFA_ADDRESS`).
    fn new_address(index: u32) -> Vec<u8> {
        let family = u8::try_from(libc::AF_INET6).expect("a small number");
        let address = "fe80::1".parse::<Ipv6Addr>().expect("an address");
        let mut body = vec![family, 64, 0, 253];
        body.extend(index.to_ne_bytes());
        body.extend([20_u16.to_ne_bytes(), 1_u16.to_ne_bytes()].concat());
        body.extend(address.octets());
        body
    }

    fn foreign(index: u32) -> link::Observed {
        let link = Link {
            owner: Owner::Other,
            kind: LinkKind::Dummy,
            mac: None,
            mtu: None,
            arp: true,
            generates_addresses: true,
            up: true,
        };
        let name = LinkName::constant("other");
        link::Observed {
            index,
            name,
            link,
            master: None,
            lower: None,
            lower_namespace: None,
            alias: None,
            altnames: Vec::new(),
            ipv6: Some(true),
        }
    }

    #[test]
    fn an_address_on_an_unseen_device_matters_where_return_paths_do() {
        let mut interest = Interest::default();
        interest.observed(&[], Instant::now());
        assert_eq!(interest.address(&new_address(7), false).unwrap(), None);
        interest.want_return_paths(&[LinkName::constant("u1")].into());
        let matter = interest.address(&new_address(7), false).unwrap();
        assert_eq!(matter, Some(Matter::Paths));
        interest.observed(&[foreign(7)], Instant::now());
        assert_eq!(interest.address(&new_address(7), false).unwrap(), None);
    }
}
