//! Links, addresses, routes and rules over rtnetlink: reads complete tables, changes objects in bounded
//! batches, and looks up paths.
//!
//! No tasks run here: every method sends, awaits its answers with a time-out, and returns. After a method
//! that failed or was dropped, the next one replaces the socket, so that it never receives a late answer to
//! another request.
//!
//! Of rtnetlink 0.24 only the builders of links and routes and the names of groups are used. Its requests
//! have no time-out and no batches, and an interrupted or failed dump looks like a complete one. Its builder
//! of addresses adds a broadcast address and supports no peer, scope or protocol; rules and neighbours can
//! only be built inside of requests over its own connection.

mod address;
mod attribute;
pub(super) mod batch;
pub(super) mod dump;
mod events;
mod execute;
mod facts;
mod flood;
#[cfg(test)]
mod fuzz;
mod link;
mod link_table;
mod lwtunnel;
mod marks;
pub(super) mod message;
mod neighbour;
mod nexthop;
mod nsid;
mod route;
mod rule;
pub(super) mod socket;
pub(super) mod uapi;
mod unmarked;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use netlink_packet_core::DecodeError;
use netlink_packet_route::AddressFamily;
use netlink_sys::Socket as RawSocket;
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::time::Instant;

pub(super) use self::events::Interest;
pub use self::events::{EventCounts, EventKind, Events, Woken};
use self::execute::Requests;
use self::link_table::LinkTable;
use self::marks::Marks;
use self::nexthop::NextHopTable;
pub(super) use self::socket::Bounds;
use self::socket::Socket;
pub use self::socket::Stats;
pub use self::unmarked::RouteBy;
use super::KernelError;
use super::netns::Ends;
use crate::limits;
use crate::model::facts::Ipv6;
use crate::model::facts::{Gateway, Lookup};
use crate::model::state::RULES;
use crate::model::{KernelState, Link, LinkKind, NetlinkChange, Owner, Route, RouteKey, Rule};
use crate::net::{Family, LinkName, Namespace};

/// The links, addresses and routes of a network namespace.
pub struct Netlink {
    socket: Socket,
    marks: Marks,
    links: LinkTable,
    next_hops: NextHopTable,
    /// The peers of point-to-point addresses in the last observation, which are needed for deletion.
    peers: BTreeMap<(u32, IpNet), IpAddr>,
    /// The managed veth ends in the last observation.
    veths: Vec<VethEnd>,
    /// Routes not managed by Adit that are read in addition to those with the usual metrics of Adit.
    wanted: route::Others,
    /// Devices whose return paths are part of the facts.
    return_paths: BTreeSet<LinkName>,
    /// Routes that are part of the facts.
    lookups: BTreeSet<Lookup>,
    /// Gateways whose devices are part of the facts.
    gateways: BTreeSet<Gateway>,
    /// The open namespaces, and which of them is this one.
    ends: Ends,
    own_namespace: Option<Namespace>,
    /// The families for which the kernel has no policy rules; `None` if not asked yet.
    without_rules: Option<BTreeSet<Family>>,
    /// What the events are compared with.
    interest: Arc<Mutex<Interest>>,
}

/// One end of a veth pair, before its other end is found.
#[derive(Clone, Debug)]
pub(super) struct VethEnd {
    pub(super) name: LinkName,
    pub(super) index: u32,
    /// The index of the other end in its namespace.
    pub(super) peer: u32,
    /// The id of that namespace in this one; `None` if it is the same namespace.
    pub(super) namespace: Option<i32>,
}

impl Netlink {
    /// Opens a socket in the network namespace of the calling thread; needs a tokio runtime with I/O and
    /// time. All later calls must be polled in that namespace, too: a broken socket is replaced by one in the
    /// namespace of the polling thread.
    ///
    /// # Errors
    /// When the socket can't be opened or configured.
    pub fn open() -> Result<Netlink, KernelError> {
        let socket =
            Socket::open(NETLINK_ROUTE).map_err(|error| KernelError::new("open a netlink socket", error))?;
        Ok(Netlink::with(socket))
    }

    /// For a command that does what a user would do with `ip`: objects are created without the mark of Adit,
    /// and changed with or without it.
    #[must_use]
    pub fn by_hand(mut self) -> Netlink {
        self.marks = Marks::None;
        self
    }

    /// Opens a socket in the namespace of the calling thread, for [`Netlink::of_socket`] on another thread.
    pub(super) fn connect() -> io::Result<RawSocket> {
        socket::connect(NETLINK_ROUTE)
    }

    /// Uses a socket that was opened in the namespace of this inode.
    pub(super) fn of_socket(socket: RawSocket, namespace: u64) -> io::Result<Netlink> {
        Ok(Netlink::with(Socket::of_raw(socket, NETLINK_ROUTE, namespace)?))
    }

    fn with(socket: Socket) -> Netlink {
        Netlink {
            socket,
            marks: Marks::Adit,
            links: LinkTable::default(),
            next_hops: NextHopTable::default(),
            peers: BTreeMap::new(),
            veths: Vec::new(),
            wanted: route::Others::default(),
            return_paths: BTreeSet::new(),
            lookups: BTreeSet::new(),
            gateways: BTreeSet::new(),
            ends: Ends::new(),
            own_namespace: None,
            without_rules: None,
            interest: Arc::default(),
        }
    }

    /// Subscribes to events in the namespace of the calling thread, as far as they concern what the calls
    /// here have read.
    ///
    /// # Errors
    /// When a socket can't be opened.
    pub fn subscribe(&self, counts: Arc<EventCounts>) -> Result<Events, KernelError> {
        Events::open(Arc::clone(&self.interest), counts)
    }

    /// Limits what is read from now on, for namespaces whose root user decides how much there is.
    pub(super) fn bound(&mut self, bounds: Bounds) {
        self.socket.bound(bounds);
    }

    /// Announces the desired state: routes not managed by Adit in the positions of desired ones are then
    /// read, too, and events of devices with desired names matter.
    pub fn set_desired(&mut self, desired: Option<&KernelState>) {
        self.wanted.keys = desired
            .into_iter()
            .flat_map(|desired| desired.routes.keys().copied())
            .collect();
        let links = desired
            .into_iter()
            .flat_map(|desired| desired.links.keys().cloned())
            .collect();
        self.interest().want(&self.wanted.keys, links);
    }

    /// Makes the return paths by these devices part of the facts, so that events about them matter.
    pub(super) fn set_return_paths(&mut self, devices: &BTreeSet<LinkName>) {
        self.return_paths.clone_from(devices);
        self.interest().want_return_paths(devices);
    }

    /// Makes these routes part of the facts, so that events about them matter, and no gateways.
    pub fn set_lookups(&mut self, lookups: &BTreeSet<Lookup>) {
        self.lookups.clone_from(lookups);
        self.gateways.clear();
        self.want_lookups();
    }

    /// Makes the devices of these gateways part of the facts, so that events about routes to them matter.
    pub fn add_gateways(&mut self, gateways: &BTreeSet<Gateway>) {
        self.gateways.extend(gateways);
        self.want_lookups();
    }

    fn want_lookups(&self) {
        let destinations = self.lookups.iter().map(|lookup| lookup.destination);
        let destinations = destinations.chain(self.gateways.iter().map(|gateway| gateway.address));
        self.interest().want_lookups(destinations.collect());
    }

    /// From now on, observations have all routes of others inside these prefixes.
    pub fn set_overlays(&mut self, prefixes: &BTreeSet<IpNet>) {
        self.wanted.inside.clone_from(prefixes);
    }

    /// Sets the namespaces that the ends of pairs can be in, and which of them is this one. They must stay
    /// open while pairs are created.
    pub(super) fn set_ends(&mut self, ends: Ends, own_namespace: Option<Namespace>) {
        self.ends = ends;
        self.own_namespace = own_namespace;
    }

    /// The managed veth ends in the last observation.
    pub(super) fn veths(&self) -> &[VethEnd] {
        &self.veths
    }

    /// Adds to a state: all links, the addresses on managed links, the managed routes and rules, and other
    /// routes with one of the metrics of Adit.
    ///
    /// # Errors
    /// When a part can't be read completely; the state is then unchanged.
    pub async fn observe(&mut self, state: &mut KernelState) -> Result<(), KernelError> {
        self.hear_out().await;
        // Other reads have already logged theirs.
        self.socket.take_undecoded();
        let began = Instant::now();
        // Read the links first, because this waits for the lock of the kernel: when it returns, a change with
        // an event is complete.
        let links = self.read_links().await?;
        self.interest().observed(&links, began);
        let request = address::dump();
        let addresses = self.socket.list("addresses", &request, address::read).await?;
        let table = &self.links;
        let read = |body: &[u8]| nexthop::read(body, table);
        let next_hops = self.socket.list("next hops", &nexthop::dump(), read).await?;
        self.next_hops.refill(next_hops);
        let request = neighbour::dump();
        let neighbours = self.socket.list("neighbours", &request, neighbour::read);
        let neighbours = neighbours.await?;
        self.interest().observed_addresses(&addresses);
        let routes = self.read_routes().await?;
        let flood = self.read_flood(&links).await?;
        let mut rules = Vec::new();
        for family in Family::BOTH {
            rules.extend(self.read_rules(family).await?);
        }

        self.peers.clear();
        for address in addresses {
            if let Some(name) = self.links.managed_name(address.index) {
                let at = (address.index, address.prefix);
                self.peers.extend(address.address.peer.map(|peer| (at, peer)));
                let key = (name.clone(), address.prefix);
                state.addresses.insert(key, address.address);
            }
        }
        for found in neighbours {
            if let Some(name) = self.links.managed_name(found.index) {
                let key = (name.clone(), found.address);
                state.neighbours.insert(key, found.neighbour);
            }
        }
        state.next_hop_objects.extend(self.next_hops.objects().cloned());
        state.flood.extend(flood);
        for link in links {
            if let Some(master) = link.master.and_then(|index| self.links.name(index)) {
                state.masters.insert(link.name.clone(), master.clone());
            }
            if let Some(alias) = link.alias.filter(|_| link.link.owner == Owner::Adit) {
                state.aliases.insert(link.name.clone(), alias);
            }
            let altnames = link.altnames.into_iter();
            state
                .altnames
                .extend(altnames.map(|other| (other, link.name.clone())));
            state.links.insert(link.name, link.link);
        }
        for (key, route) in routes {
            // Of several routes with one key the kernel uses, replaces and lists the first one first.
            state.routes.entry(key).or_insert(route);
        }
        state.rules.extend(rules);
        state.undecoded = self.socket.take_undecoded();
        Ok(())
    }

    /// The routes of both families that Adit manages, or whose keys matter, in the order of the kernel.
    async fn read_routes(&mut self) -> Result<Vec<(RouteKey, Route)>, KernelError> {
        let known = route::Known {
            links: &self.links,
            next_hops: &self.next_hops,
        };
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let read = |body: &[u8]| route::read(body, family, known, &self.wanted);
            routes.extend(self.socket.list("routes", &route::dump(family), read).await?);
        }
        Ok(routes)
    }

    /// The default destinations of the managed VXLAN devices.
    async fn read_flood(
        &mut self,
        links: &[link::Observed],
    ) -> Result<BTreeMap<LinkName, BTreeSet<IpAddr>>, KernelError> {
        let mut flood = BTreeMap::new();
        let vxlans = links.iter().filter(|link| {
            link.link.owner == Owner::Adit && matches!(link.link.kind, LinkKind::VxlanTo { .. })
        });
        for link in vxlans {
            let read = |body: &[u8]| flood::read(body, link.index);
            let request = flood::dump(link.index);
            let found = self.socket.list("default destinations", &request, read).await?;
            flood.insert(link.name.clone(), found.into_iter().collect());
        }
        Ok(flood)
    }

    /// The interface index of a link, according to the last call that read it.
    #[must_use]
    pub fn link_index(&self, name: &LinkName) -> Option<u32> {
        self.links.get(name).map(|entry| entry.index)
    }

    /// The name for an interface index, according to the last call that read it.
    #[must_use]
    pub fn link_name(&self, index: u32) -> Option<&LinkName> {
        self.links.name(index)
    }

    /// The WireGuard devices and their owners, in the order of the kernel.
    ///
    /// # Errors
    /// When the links can't be read.
    pub async fn wireguard_links(&mut self) -> Result<Vec<(LinkName, Owner)>, KernelError> {
        let links = self.read_links().await?.into_iter();
        let wireguard = links.filter(|link| link.link.kind == LinkKind::WireGuard);
        Ok(wireguard.map(|link| (link.name, link.link.owner)).collect())
    }

    /// All links. Unlike an observation, this leaves unchanged with what events are compared.
    ///
    /// # Errors
    /// When the links can't be read.
    pub(super) async fn all_links(&mut self) -> Result<BTreeMap<LinkName, Link>, KernelError> {
        let links = self.read_links().await?.into_iter();
        Ok(links.map(|link| (link.name, link.link)).collect())
    }

    /// Statistics of the socket.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.socket.stats()
    }

    /// The managed rules of a family, in the order of the kernel; for a command that works without the mark,
    /// all rules.
    async fn read_rules(&mut self, family: Family) -> Result<Vec<Rule>, KernelError> {
        match self.marks {
            Marks::Adit => self.dump_rules(family, |body| rule::read(body, family)).await,
            Marks::None => self.all_rules(family).await,
        }
    }

    /// Dumps the rules of a family. There are none if the kernel has no rules for it (`EAFNOSUPPORT`), for
    /// example without IPv6 or without CONFIG_IPV6_MULTIPLE_TABLES, or no rules at all (`EOPNOTSUPP`).
    async fn dump_rules<T>(
        &mut self,
        family: Family,
        read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, KernelError> {
        let without = self.without_rules.get_or_insert_default();
        match self.socket.list(RULES, &rule::dump(family), read).await {
            Ok(rules) => {
                without.remove(&family);
                Ok(rules)
            }
            Err(error) if matches!(error.errno(), Some(libc::EAFNOSUPPORT | libc::EOPNOTSUPP)) => {
                without.insert(family);
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// The families for which the kernel has neither policy rules nor tables except the main one.
    ///
    /// # Errors
    /// When the kernel can't be asked.
    pub async fn families_without_rules(&mut self) -> Result<BTreeSet<Family>, KernelError> {
        if self.without_rules.is_none() {
            for family in Family::BOTH {
                self.read_rules(family).await?;
            }
        }
        Ok(self.without_rules.clone().unwrap_or_default())
    }

    /// The devices on which IPv6 can be used.
    ///
    /// # Errors
    /// When the links can't be read.
    pub async fn ipv6(&mut self) -> Result<Ipv6, KernelError> {
        Ok(link::ipv6(&self.read_links().await?))
    }

    /// Announces changes by this process until the next observation. The listener does not report events
    /// before that.
    pub fn begin_changes(&self) {
        self.interest().changing(Instant::now());
    }

    /// Lets the listener receive the events so far, mostly the echoes of changes by this process. The next
    /// observation contains everything that was received before it, so no other one has to follow.
    async fn hear_out(&self) {
        for _ in 0..limits::LISTENING_ROUNDS {
            let before = self.interest().heard;
            batch::let_others_listen().await;
            if self.interest().heard == before {
                return;
            }
        }
    }

    /// Whether the kernel reported a change since the last observation began, which may be inconsistent then.
    pub(super) async fn is_outdated(&self) -> bool {
        self.hear_out().await;
        self.interest().is_outdated()
    }

    /// Takes what was read here, for the listener of the agent's own namespace.
    pub(super) fn take_interest(&mut self) -> Interest {
        std::mem::take(&mut self.interest())
    }

    /// Sets what was read in other namespaces, by their ids in this one, and the id of this namespace in
    /// itself.
    pub(super) fn set_elsewhere(&self, elsewhere: BTreeMap<i32, Interest>, own_number: Option<i32>) {
        self.interest().set_elsewhere(elsewhere, own_number);
    }

    fn interest(&self) -> std::sync::MutexGuard<'_, Interest> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_links(&mut self) -> Result<Vec<link::Observed>, KernelError> {
        let links = self.socket.list("links", &link::dump(), link::read).await?;
        self.links = links.iter().collect();
        let mut links = links;
        self.veths.clear();
        for link in &mut links {
            if let LinkKind::VxlanTo { lower, .. } = &mut link.link.kind {
                *lower = link.lower.and_then(|index| self.links.name(index)).cloned();
            }
            if link.link.owner == Owner::Adit
                && matches!(&link.link.kind, LinkKind::Other(kind) if kind == "veth")
                && let Some(peer) = link.lower
            {
                self.veths.push(VethEnd {
                    name: link.name.clone(),
                    index: link.index,
                    peer,
                    namespace: link.lower_namespace,
                });
            }
        }
        Ok(links)
    }
}

/// The part of a change that builds its requests.
fn of_kind(change: &NetlinkChange) -> &dyn Requests {
    match change {
        NetlinkChange::Link(change) => change,
        NetlinkChange::Address(change) => change,
        NetlinkChange::Flood(change) => change,
        NetlinkChange::Neighbour(change) => change,
        NetlinkChange::NextHopObject(change) => change,
        NetlinkChange::Route(change) => change,
        NetlinkChange::Rule(change) => change,
    }
}
