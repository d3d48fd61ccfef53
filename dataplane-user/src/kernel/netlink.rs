//! Links, addresses, routes and rules over rtnetlink: reads them whole, changes them in bounded batches, asks for paths.
//!
//! No tasks run here: every method sends, awaits its answers with a time-out and returns. A method that fails or is
//! dropped half-way leaves a socket that the next one replaces, so no late answer is ever taken for another.
//!
//! Of rtnetlink 0.24 only the builders of links and routes and the names of groups are used. Its requests have no time-out and
//! no batches, and an interrupted or failed dump looks like a whole one. Its builder of addresses adds a broadcast address and
//! has neither peer nor scope nor protocol; rules and neighbours it builds only inside requests over its own connection.

mod address;
mod anyone;
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
mod lwtunnel;
mod marks;
pub(super) mod message;
mod neighbour;
mod nexthop;
mod nsid;
mod route;
mod rule;
pub(super) mod socket;
mod table;
pub(super) mod uapi;

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

pub use self::anyone::RouteBy;
pub(super) use self::events::Interest;
pub use self::events::{EventCounts, EventKind, Events, Woken};
use self::execute::Requests;
use self::marks::Marks;
use self::nexthop::NextHopTable;
pub(super) use self::socket::Bounds;
use self::socket::Socket;
pub use self::socket::Stats;
use self::table::LinkTable;
use super::KernelError;
use super::netns::Ends;
use crate::limits;
use crate::model::facts::Ipv6;
use crate::model::facts::Lookup;
use crate::model::{KernelState, LinkKind, NetlinkChange, Owner, RouteKey, Rule};
use crate::net::{Family, LinkName, Namespace};

/// A network namespace's links, addresses and routes.
pub struct Netlink {
    socket: Socket,
    marks: Marks,
    links: LinkTable,
    next_hops: NextHopTable,
    /// The peers of point-to-point addresses, as last seen: to delete one takes both.
    peers: BTreeMap<(u32, IpNet), IpAddr>,
    /// Veth ends of ours, as last seen.
    veths: Vec<VethEnd>,
    /// Foreign routes that are seen beside those of our usual metrics.
    wanted: BTreeSet<RouteKey>,
    /// Devices whose ways back are facts.
    return_paths: BTreeSet<LinkName>,
    /// Routes that facts tell.
    lookups: BTreeSet<Lookup>,
    /// Open namespaces, and which of them this one is.
    ends: Ends,
    place: Option<Namespace>,
    /// The families for which the kernel has no policy rules; `None`: not asked yet.
    without_rules: Option<BTreeSet<Family>>,
    /// What events are measured against.
    interest: Arc<Mutex<Interest>>,
}

/// One end of a pair, before it is known where the other one is.
#[derive(Clone, Debug)]
pub(super) struct VethEnd {
    pub(super) name: LinkName,
    pub(super) index: u32,
    /// The other one's index in its namespace.
    pub(super) peer: u32,
    /// The number of that namespace in this one; `None`: the same.
    pub(super) namespace: Option<i32>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace; needs a tokio runtime with I/O and time. All later
    /// calls must be polled in that namespace too: a broken socket is replaced by one of the polling thread's.
    ///
    /// # Errors
    /// When the socket can't be made or set up.
    pub fn open() -> Result<Netlink, KernelError> {
        let socket =
            Socket::open(NETLINK_ROUTE).map_err(|error| KernelError::new("open a netlink socket", error))?;
        Ok(Netlink::with(socket))
    }

    /// For a command that does what a user would do with `ip`: what it makes bears no mark of ours, and what it changes need
    /// not.
    #[must_use]
    pub fn by_hand(mut self) -> Netlink {
        self.marks = Marks::None;
        self
    }

    /// A socket in the calling thread's namespace, for [`Netlink::of_socket`] on another thread.
    pub(super) fn connect() -> io::Result<RawSocket> {
        socket::connect(NETLINK_ROUTE)
    }

    /// With a socket that was made in the namespace of this inode.
    pub(super) fn of_socket(socket: RawSocket, namespace: u64) -> io::Result<Netlink> {
        Ok(Netlink::with(Socket::of_raw(socket, NETLINK_ROUTE, namespace)?))
    }

    fn with(socket: Socket) -> Netlink {
        Netlink {
            socket,
            marks: Marks::Ours,
            links: LinkTable::default(),
            next_hops: NextHopTable::default(),
            peers: BTreeMap::new(),
            veths: Vec::new(),
            wanted: BTreeSet::new(),
            return_paths: BTreeSet::new(),
            lookups: BTreeSet::new(),
            ends: Ends::new(),
            place: None,
            without_rules: None,
            interest: Arc::default(),
        }
    }

    /// Subscribes to what happens in the calling thread's namespace, as far as it concerns what the calls here saw.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn subscribe(&self, counts: Arc<EventCounts>) -> Result<Events, KernelError> {
        Events::open(Arc::clone(&self.interest), counts)
    }

    /// Bounds what is read from now on, where somebody else decides how much there is.
    pub(super) fn bound(&mut self, bounds: Bounds) {
        self.socket.bound(bounds);
    }

    /// Takes note of what shall be: foreign routes that stand where ours shall are observed too, and what happens to devices of these names matters.
    pub fn set_wanted(&mut self, target: Option<&KernelState>) {
        self.wanted = target
            .into_iter()
            .flat_map(|target| target.routes.keys().copied())
            .collect();
        let links = target
            .into_iter()
            .flat_map(|target| target.links.keys().cloned())
            .collect();
        self.interest().want(&self.wanted, links);
    }

    /// Facts tell the ways back by these devices, and what moves them matters.
    pub(super) fn set_return_paths(&mut self, devices: &BTreeSet<LinkName>) {
        self.return_paths.clone_from(devices);
        self.interest().want_return_paths(devices);
    }

    /// Facts tell these routes, and what moves them matters.
    pub fn set_lookups(&mut self, lookups: &BTreeSet<Lookup>) {
        self.lookups.clone_from(lookups);
        let destinations = lookups.iter().map(|lookup| lookup.destination).collect();
        self.interest().want_lookups(destinations);
    }

    /// The namespaces that pairs may lead to, and which of them this is. They must stay open while pairs are made.
    pub(super) fn set_ends(&mut self, ends: Ends, place: Option<Namespace>) {
        self.ends = ends;
        self.place = place;
    }

    /// Our veth ends, as last observed.
    pub(super) fn veths(&self) -> &[VethEnd] {
        &self.veths
    }

    /// Adds all links, the addresses on ours, our routes and rules, and foreign routes with one of our metrics to a state.
    ///
    /// # Errors
    /// When any part can't be read whole; the state is then unchanged.
    pub async fn observe(&mut self, state: &mut KernelState) -> Result<(), KernelError> {
        self.hear_out().await;
        // What else was read meanwhile told of it in the log.
        self.socket.take_undecoded();
        let began = Instant::now();
        // First of all, because this waits for the kernel's lock: a change that was told of is made by then.
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
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let known = (&self.links, &self.next_hops);
            let wanted = &self.wanted;
            let read = |body: &[u8]| route::read(body, family, known, wanted);
            routes.extend(self.socket.list("routes", &route::dump(family), read).await?);
        }
        let mut flood = BTreeMap::new();
        let vxlans = links.iter().filter(|link| {
            link.link.owner == Owner::Ours && matches!(link.link.kind, LinkKind::VxlanTo { .. })
        });
        for link in vxlans {
            let read = |body: &[u8]| flood::read(body, link.index);
            let request = flood::dump(link.index);
            let found = self.socket.list("default destinations", &request, read).await?;
            flood.insert(link.name.clone(), found.into_iter().collect());
        }
        let mut rules = Vec::new();
        for family in Family::BOTH {
            rules.extend(self.read_rules(family).await?);
        }

        self.peers.clear();
        for address in addresses {
            let Some(name) = self.links.name(address.index) else {
                continue;
            };
            if self.links.get(name).is_some_and(|link| link.ours) {
                let at = (address.index, address.prefix);
                self.peers.extend(address.address.peer.map(|peer| (at, peer)));
                let key = (name.clone(), address.prefix);
                state.addresses.insert(key, address.address);
            }
        }
        for found in neighbours {
            let Some(name) = self.links.name(found.index) else {
                continue;
            };
            if self.links.get(name).is_some_and(|link| link.ours) {
                let key = (name.clone(), found.address);
                state.neighbours.insert(key, found.neighbour);
            }
        }
        state.route_targets.extend(self.next_hops.targets().cloned());
        state.flood.extend(flood);
        for link in links {
            if let Some(master) = link.master.and_then(|index| self.links.name(index)) {
                state.masters.insert(link.name.clone(), master.clone());
            }
            if let Some(alias) = link.alias.filter(|_| link.link.owner == Owner::Ours) {
                state.aliases.insert(link.name.clone(), alias);
            }
            state.links.insert(link.name, link.link);
        }
        for (key, route) in routes {
            // Of several routes of one key the kernel uses, replaces and lists the first one first.
            state.routes.entry(key).or_insert(route);
        }
        state.rules.extend(rules);
        state.undecoded = self.socket.take_undecoded();
        Ok(())
    }

    /// The interface index of a link, as of the last call that saw it.
    #[must_use]
    pub fn link_index(&self, name: &LinkName) -> Option<u32> {
        self.links.get(name).map(|entry| entry.index)
    }

    /// The name of an interface index, as of the last call that saw it.
    #[must_use]
    pub fn link_name(&self, index: u32) -> Option<&LinkName> {
        self.links.name(index)
    }

    /// The WireGuard devices and whose they are, in the kernel's order.
    ///
    /// # Errors
    /// When the links can't be read.
    pub async fn wireguard_links(&mut self) -> Result<Vec<(LinkName, Owner)>, KernelError> {
        let links = self.read_links().await?.into_iter();
        let wireguard = links.filter(|link| link.link.kind == LinkKind::WireGuard);
        Ok(wireguard.map(|link| (link.name, link.link.owner)).collect())
    }

    /// What went over the socket so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.socket.stats()
    }

    /// Our rules of a family, in the kernel's order; by hand all of them.
    async fn read_rules(&mut self, family: Family) -> Result<Vec<Rule>, KernelError> {
        match self.marks {
            Marks::Ours => self.dump_rules(family, |body| rule::read(body, family)).await,
            Marks::None => self.all_rules(family).await,
        }
    }

    /// Rules of a family; none where the kernel has no rules for it (`EAFNOSUPPORT`), as without IPv6 or without
    /// CONFIG_IPV6_MULTIPLE_TABLES, and where it has none at all (`EOPNOTSUPP`).
    async fn dump_rules<T>(
        &mut self,
        family: Family,
        read: impl FnMut(&[u8]) -> Result<Option<T>, DecodeError>,
    ) -> Result<Vec<T>, KernelError> {
        let without = self.without_rules.get_or_insert_default();
        match self.socket.list("rules", &rule::dump(family), read).await {
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

    /// The families for which the kernel has neither policy rules nor tables beside the main one.
    ///
    /// # Errors
    /// When it can't be asked.
    pub async fn families_without_rules(&mut self) -> Result<BTreeSet<Family>, KernelError> {
        if self.without_rules.is_none() {
            for family in Family::BOTH {
                self.read_rules(family).await?;
            }
        }
        Ok(self.without_rules.clone().unwrap_or_default())
    }

    /// On which devices IPv6 can be used.
    ///
    /// # Errors
    /// When the links can't be read.
    pub async fn ipv6(&mut self) -> Result<Ipv6, KernelError> {
        Ok(link::ipv6(&self.read_links().await?))
    }

    /// What is done from now on is this process's doing, until the next observation: whoever listens waits for that.
    pub fn begin_changes(&self) {
        self.interest().changing(Instant::now());
    }

    /// Lets whoever listens hear what was told so far, mostly the echoes of our own changes: an observation sees all that was
    /// heard before it, and need not be followed by another one.
    async fn hear_out(&self) {
        for _ in 0..limits::LISTENING_ROUNDS {
            let before = self.interest().heard;
            batch::let_others_listen().await;
            if self.interest().heard == before {
                return;
            }
        }
    }

    /// Whether the kernel told of a change since the last observation began: that may have seen a part of it alone.
    pub(super) async fn is_outdated(&self) -> bool {
        self.hear_out().await;
        self.interest().is_outdated()
    }

    /// What was seen here, for the listener of the agent's own namespace.
    pub(super) fn take_interest(&mut self) -> Interest {
        std::mem::take(&mut self.interest())
    }

    /// What was seen in other namespaces, by their numbers in this one, and the number that this one has in itself.
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
            if link.link.owner == Owner::Ours
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

/// The requests of a change are made by its kind.
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
