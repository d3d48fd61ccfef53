//! Which events concern us: our own objects, and what leads to the peers.
//!
//! Where it is in doubt, an event concerns us: a pass that finds nothing costs milliseconds.

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

/// The name of our table.
const TABLE: &str = "adit";

type Read = Result<Option<Matter>, DecodeError>;

/// What an event matters to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::kernel::netlink) enum Matter {
    /// What we made, or what stands in its place: an observation sees it.
    Own,
    /// The ways to the peers: facts that are gathered see it.
    Ways,
}

/// What the last pass saw, as far as events are measured against it.
#[derive(Debug, Default)]
pub(in crate::kernel) struct Interest {
    /// When the last observation began; before there was one, everything concerns us.
    observed_at: Option<Instant>,
    /// When facts were gathered last.
    gathered_at: Option<Instant>,
    /// When something that an observation sees was heard of last, or events were lost.
    told_at: Option<Instant>,
    /// When a pass began to make changes last.
    changing_at: Option<Instant>,
    /// Datagrams that were heard so far.
    pub(in crate::kernel::netlink) heard: u64,
    /// All devices as of the last observation.
    observed: BTreeMap<u32, link::Observed>,
    /// The addresses on all devices as of the last observation.
    addresses: BTreeMap<(u32, IpNet), Address>,
    /// The devices that lead to peers, as they were when the ways were looked up.
    underlay: BTreeMap<u32, link::Observed>,
    /// Where routes of ours shall stand beside those of our usual metrics.
    routes: BTreeSet<RouteKey>,
    /// Names that devices of ours shall have.
    links: BTreeSet<LinkName>,
    /// Devices whose ways back facts tell, whether or not they are there.
    return_paths: BTreeSet<LinkName>,
    /// The addresses that ways were looked up to.
    peers: BTreeSet<IpAddr>,
    /// What else the plan asks the kernel's routes for: our own routes may lead to it, and their echoes wake nobody.
    lookups: BTreeSet<IpAddr>,
    /// This machine's addresses at that time.
    local: BTreeSet<IpAddr>,
    /// What the last pass saw in other namespaces, by their numbers in this one.
    elsewhere: BTreeMap<i32, Interest>,
    /// The number that this one has in itself.
    own_number: Option<i32>,
    /// Why whoever listens hears nothing from other namespaces; `None`: it hears them, or nobody listens.
    unheard: Option<String>,
}

impl Interest {
    /// Takes note of why nothing is heard from other namespaces.
    pub(super) fn set_unheard(&mut self, why: Option<String>) {
        self.unheard = why;
    }

    /// Why nothing is heard from other namespaces.
    pub(in crate::kernel::netlink) fn unheard(&self) -> Option<String> {
        self.unheard.clone()
    }

    /// Takes note of the devices that a pass observed, and of when it began to.
    pub(in crate::kernel::netlink) fn observed(&mut self, links: &[link::Observed], at: Instant) {
        self.observed = by_index(links.iter());
        self.observed_at = Some(at);
    }

    /// Takes note of the addresses that the same pass observed.
    pub(in crate::kernel::netlink) fn observed_addresses(&mut self, addresses: &[address::Observed]) {
        let seen = addresses.iter();
        self.addresses = seen
            .map(|seen| ((seen.index, seen.prefix), seen.address))
            .collect();
    }

    /// Takes note of where routes of ours shall stand.
    pub(in crate::kernel::netlink) fn want(
        &mut self,
        routes: &BTreeSet<RouteKey>,
        links: BTreeSet<LinkName>,
    ) {
        self.routes.clone_from(routes);
        self.links = links;
    }

    /// Takes note of the devices whose ways back matter.
    pub(in crate::kernel::netlink) fn want_return_paths(&mut self, devices: &BTreeSet<LinkName>) {
        self.return_paths.clone_from(devices);
    }

    /// Takes note of the destinations that the plan looks up, beside the peers.
    pub(in crate::kernel::netlink) fn want_lookups(&mut self, destinations: BTreeSet<IpAddr>) {
        self.lookups = destinations;
    }

    /// Takes note of what facts were gathered: the devices, those of them that lead to peers, and the addresses.
    pub(in crate::kernel::netlink) fn gathered(
        &mut self,
        links: &[link::Observed],
        underlay: &BTreeSet<LinkName>,
        (peers, local): (&BTreeSet<IpAddr>, &BTreeSet<IpAddr>),
        at: Instant,
    ) {
        self.gathered_at = Some(at);
        self.underlay = by_index(links.iter().filter(|link| underlay.contains(&link.name)));
        self.peers.clone_from(peers);
        self.local.clone_from(local);
    }

    /// Takes note of what a pass saw in other namespaces, and of this one's number.
    pub(in crate::kernel::netlink) fn set_elsewhere(
        &mut self,
        elsewhere: BTreeMap<i32, Interest>,
        own_number: Option<i32>,
    ) {
        self.elsewhere = elsewhere;
        self.own_number = own_number;
    }

    /// A pass makes changes from now on.
    pub(in crate::kernel::netlink) fn changing(&mut self, at: Instant) {
        self.changing_at = Some(at);
    }

    /// Whether changes were made that no observation has seen. Each pass observes after its changes, and where that fails
    /// another pass follows, so this ends.
    pub(super) fn is_changing(&self) -> bool {
        self.changing_at > self.observed_at
    }

    /// Takes note of what was heard just now.
    pub(super) fn was_told(&mut self, heard: Heard) {
        if heard.own || heard.lost {
            self.told_at = Some(Instant::now());
        }
    }

    /// Whether something was heard of since the last observation began, which may then have seen a part of it alone.
    pub(in crate::kernel::netlink) fn is_outdated(&self) -> bool {
        self.told_at > self.observed_at
    }

    /// Whether a pass that began after an event was heard has seen what it tells of.
    pub(super) fn has_seen(&self, matter: Matter, heard: Instant) -> bool {
        let seen = match matter {
            Matter::Own => self.observed_at,
            Matter::Ways => self.gathered_at,
        };
        seen.is_some_and(|seen| heard < seen)
    }

    /// What a message of `NETLINK_ROUTE` from a namespace of this number matters to.
    pub(in crate::kernel::netlink) fn matter_from(
        &self,
        namespace: Option<i32>,
        message: &Message<'_>,
    ) -> Option<Matter> {
        match namespace {
            Some(number) if self.own_number != Some(number) => {
                let matter = self.elsewhere.get(&number)?.matter(message);
                // Only from here there are ways.
                matter.filter(|matter| *matter == Matter::Own)
            }
            _ if message.kind == libc::RTM_DELNSID => {
                let gone = nsid::read(message.body)?;
                self.elsewhere.contains_key(&gone).then_some(Matter::Own)
            }
            _ => self.matter(message),
        }
    }

    /// What a message of `NETLINK_ROUTE` from this namespace matters to. One that can't be read matters.
    fn matter(&self, message: &Message<'_>) -> Option<Matter> {
        if self.observed_at.is_none() {
            return Some(Matter::Ways);
        }
        let own = |is: bool| Ok(is.then_some(Matter::Own));
        let body = message.body;
        let read = match route_kind(message.kind) {
            EventKind::Link => self.link(body, message.kind == libc::RTM_DELLINK),
            EventKind::Address => self.address(body, message.kind == libc::RTM_DELADDR),
            EventKind::Route => self.route(body),
            EventKind::Neighbour => self.neighbour(body),
            EventKind::Tc => {
                own(TcHeader::parse(body).is_ok_and(|header| self.is_ours(header.index.cast_unsigned())))
            }
            EventKind::Setting => self.setting(body),
            EventKind::NextHop => next_hop(body),
            EventKind::Rule => rule(body),
            EventKind::Firewall | EventKind::Other => Ok(None),
        };
        read.unwrap_or(Some(Matter::Ways))
    }

    fn link(&self, body: &[u8], gone: bool) -> Read {
        // A bridge tells of its ports by messages that look alike.
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
            // Ours, what stands in our place, and what can keep ours from being made.
            let rival = !matches!(link.kind, LinkKind::Other(_) | LinkKind::Dummy);
            link.owner == Owner::Ours || devices::is_ours(name) || rival || self.links.contains(name)
        };
        let now_matters = now.as_ref().is_some_and(|now| matters(&now.name, &now.link));
        let before_matters = self
            .observed
            .get(&index)
            .is_some_and(|before| matters(&before.name, &before.link));
        // Also one that comes back under the name.
        let leads_back = now
            .as_ref()
            .is_some_and(|now| self.return_paths.contains(&now.name));
        if (self.underlay.contains_key(&index) || leads_back) && !same(&self.underlay) {
            return Ok(Some(Matter::Ways));
        }
        let own = (now_matters || before_matters) && !same(&self.observed);
        Ok(own.then_some(Matter::Own))
    }

    fn address(&self, body: &[u8], gone: bool) -> Read {
        let Some(observed) = address::read(body)? else {
            return Ok(None);
        };
        // An address whose lifetime is renewed is told of, too.
        let known = self.local.contains(&observed.prefix.addr());
        let is_peer = self.peers.contains(&observed.prefix.addr());
        // The message has no name: of a device that no pass has seen yet, the ways back may matter. Those that are being
        // gathered right now may lack this address.
        let is_new = !self.return_paths.is_empty() && !self.observed.contains_key(&observed.index);
        if (self.underlay.contains_key(&observed.index) || is_peer || is_new) && (gone || !known) {
            return Ok(Some(Matter::Ways));
        }
        // As of one whose lifetime is renewed, it is told of one that was tentative and is not any more.
        let seen = self.addresses.get(&(observed.index, observed.prefix));
        let same = !gone && seen == Some(&observed.address);
        Ok((self.is_ours(observed.index) && !same).then_some(Matter::Own))
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
            return Ok(Some(Matter::Ways));
        }
        // What leads, or led, to a peer.
        let holds = |asked: &BTreeSet<IpAddr>| {
            let first = asked.range(prefix.network()..).next();
            first.is_some_and(|address| prefix.contains(address))
        };
        if holds(&self.peers) || !own && holds(&self.lookups) {
            return Ok(Some(Matter::Ways));
        }
        Ok(own.then_some(Matter::Own))
    }

    fn neighbour(&self, body: &[u8]) -> Read {
        let header = NeighbourHeader::parse(body)?;
        if !self.is_ours(header.ifindex) {
            return Ok(None);
        }
        if header.state == NeighbourState::Permanent {
            return Ok(Some(Matter::Own));
        }
        let attributes = NeighbourMessage::parse(body)?.attributes;
        let ours = attributes.contains(&NeighbourAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
        Ok(ours.then_some(Matter::Own))
    }

    /// The device is the first attribute.
    fn setting(&self, body: &[u8]) -> Read {
        for attribute in NlasIterator::new(body.get(uapi::NETCONF_HEADER..).unwrap_or_default()) {
            let attribute = attribute?;
            if attribute.kind() == uapi::NETCONFA_IFINDEX {
                let ours = self.is_ours(parse_u32(attribute.value())?);
                return Ok(ours.then_some(Matter::Own));
            }
        }
        Ok(None)
    }

    fn is_ours(&self, index: u32) -> bool {
        let seen = self.observed.get(&index);
        seen.is_some_and(|seen| seen.link.owner == Owner::Ours || devices::is_ours(&seen.name))
    }
}

/// Others' rules say which table leads to a peer, and there are few.
fn rule(body: &[u8]) -> Read {
    let attributes = RuleMessage::parse(body)?.attributes;
    let ours = attributes.contains(&RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)));
    Ok(Some(if ours { Matter::Own } else { Matter::Ways }))
}

/// `struct nhmsg`: the protocol at 2, attributes at 8. Whoever replaces one of ours may leave the mark out, not the id.
fn next_hop(body: &[u8]) -> Read {
    let ours =
        body.get(2) == Some(&PROTOCOL) || nexthop::id(body)?.is_some_and(|id| nexthop::IDS.contains(&id));
    Ok(ours.then_some(Matter::Own))
}

/// What a message of `NETLINK_ROUTE` is about.
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

/// What a message of nftables matters to: it is about our table, whatever its family, or about
/// nothing of ours. `struct nfgenmsg` comes first.
pub(super) fn firewall_matter(message: &Message<'_>) -> Option<Matter> {
    let attributes = NlasIterator::new(message.body.get(uapi::NFNL_HEADER..).unwrap_or_default());
    let table = attributes
        .filter_map(Result::ok)
        .find(|attribute| attribute.kind() == uapi::NFTA_TABLE_NAME);
    let ours = table.is_some_and(|table| parse_string(table.value()).is_ok_and(|name| name == TABLE));
    ours.then_some(Matter::Own)
}

/// Devices as a message says them, which names the one below by its index alone.
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
            owner: Owner::Foreign,
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
            ipv6: Some(true),
        }
    }

    #[test]
    fn an_address_on_a_device_that_no_pass_has_seen_matters_where_ways_back_do() {
        let mut interest = Interest::default();
        interest.observed(&[], Instant::now());
        assert_eq!(interest.address(&new_address(7), false).unwrap(), None);
        interest.want_return_paths(&[LinkName::constant("u1")].into());
        let matter = interest.address(&new_address(7), false).unwrap();
        assert_eq!(matter, Some(Matter::Ways));
        interest.observed(&[foreign(7)], Instant::now());
        assert_eq!(interest.address(&new_address(7), false).unwrap(), None);
    }
}
