//! Changes to requests, in as few sends as their order allows.
//!
//! Links go by index, and only those that bear our mark are touched: a change of a link that this very slice creates
//! waits until its creation was acked and its index and mark were read back.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::RawFd;

use ipnet::IpNet;

use super::batch::Answer;
use super::marks::Marks;
use super::message::{Failure, Request};
use super::route::Mode;
use super::table::Entry;
use super::{Netlink, address, flood, link, neighbour, nexthop, route, rule};
use crate::kernel::KernelError;
use crate::model::change::{
    AddressOperation, Existence, LinkOperation, NetlinkChange, NextHopObjectOperation, RouteOperation, Write,
};
use crate::model::{Link, LinkKind, RouteKey, RouteKind, RouteTarget, Rule};
use crate::net::LinkName;

type Outcome = Result<(), KernelError>;

/// Told where something that is not ours, or that nobody expected, is in the way.
const IN_THE_WAY: &str = "something else stands there and is left alone";

impl Netlink {
    /// Executes changes in order and continues after refusals; one result per change. Deleting what no longer exists is no error.
    /// Where the connection to the kernel fails, all changes without an ack get that error.
    pub async fn execute<C: Borrow<NetlinkChange>>(&mut self, changes: &[C]) -> Vec<Outcome> {
        let changes: Vec<&NetlinkChange> = changes.iter().map(Borrow::borrow).collect();
        let mut run = Run {
            outcomes: changes.iter().map(|_| Ok(())).collect(),
            changes: &changes,
            queue: Vec::new(),
            absent: BTreeSet::new(),
            lost: None,
        };
        for place in 0..changes.len() {
            self.plan(&mut run, place).await;
        }
        if let Some(place) = changes
            .iter()
            .rposition(|change| route::cached::keeps_sockets(change))
            && run.lost.is_none()
        {
            let [clean, add, delete] = route::cached::look_up_again();
            run.push(place, clean, Role::Delete);
            run.push(place, add, Role::Do);
            run.push(place, delete, Role::Delete);
        }
        while !run.queue.is_empty() {
            self.flush(&mut run).await;
        }
        for (change, outcome) in changes.iter().zip(&run.outcomes) {
            match (change, outcome) {
                (NetlinkChange::NextHopObject(target, NextHopObjectOperation::Create), Err(_))
                | (NetlinkChange::NextHopObject(target, NextHopObjectOperation::Delete), Ok(())) => {
                    self.next_hops.remove(target);
                }
                _ => {}
            }
        }
        run.outcomes
    }

    /// Executes changes as [`Netlink::execute`] does.
    ///
    /// # Errors
    /// The first refusal, which names its change.
    pub async fn make(&mut self, changes: &[NetlinkChange]) -> Result<(), KernelError> {
        let outcomes = self.execute(changes).await;
        let mut outcomes = changes.iter().zip(outcomes);
        outcomes.try_for_each(|(change, outcome)| outcome.map_err(|error| error.about(change)))
    }

    /// Makes a device in another namespace, by a message in this one: see [`link::create_elsewhere`].
    pub(in crate::kernel) async fn create_elsewhere(
        &mut self,
        name: &LinkName,
        link: &Link,
        namespace: RawFd,
    ) -> Outcome {
        let request = link::create_elsewhere(name, link, namespace)
            .ok_or_else(|| KernelError::of_change(unsupported("no kind of link that is made here")))?;
        let answer = self.socket.exchange(&[request]).await.pop();
        match answer.expect("one answer a request") {
            Ok(_) => Ok(()),
            Err(failure) if failure.errno() == Some(libc::EEXIST) => Err(failure.into_error(IN_THE_WAY)),
            Err(failure) => Err(failure.into_change_error()),
        }
    }

    /// Gives a device its name that was created under another one.
    pub(in crate::kernel) async fn rename(&mut self, from: &LinkName, to: &LinkName) -> Outcome {
        let found = self.socket.exchange(&[link::find(from)]).await.pop();
        let found = found
            .expect("one answer a request")
            .map_err(Failure::into_change_error)?;
        let found = found
            .first()
            .and_then(|body| link::read(body).ok().flatten())
            .ok_or_else(no_link);
        let index = found.map_err(KernelError::of_change)?.index;
        let answer = self.socket.exchange(&[link::set_name(index, to)]).await.pop();
        match answer.expect("one answer a request") {
            Ok(_) => Ok(()),
            Err(failure) => {
                self.socket.exchange(&[link::delete(index)]).await;
                Err(match failure.errno() {
                    Some(libc::EEXIST) => failure.into_error(IN_THE_WAY),
                    _ => failure.into_change_error(),
                })
            }
        }
    }

    /// Forgets a device's number: it may be another one by now.
    pub(in crate::kernel) fn forget(&mut self, name: &LinkName) {
        self.links.remove(name);
    }

    /// Queues one change; first flushes the queue where the change needs a link that is not known yet.
    async fn plan(&mut self, run: &mut Run<'_>, place: usize) {
        let change = run.changes[place];
        let is_unknown = |name: &&LinkName| self.links.get(name).is_none() && !run.absent.contains(*name);
        if links_of(change).iter().any(is_unknown) {
            for name in run.changes[place..]
                .iter()
                .flat_map(|change| links_of(change))
                .collect::<BTreeSet<_>>()
            {
                if self.links.get(name).is_none() && !run.absent.contains(name) {
                    run.push(place, link::find(name), Role::Find(name.clone()));
                }
            }
            // What follows a creation is queued by the first flush and need not be awaited.
            self.flush(run).await;
        }
        if let Some(failure) = &run.lost {
            run.outcomes[place] = Err(failure.again().into_change_error());
            return;
        }
        let requests = match change {
            NetlinkChange::Rule(rule, Existence::Delete) => {
                // What is queued before may be about rules too.
                self.flush(run).await;
                self.delete_rule(rule).await
            }
            change => self.requests(change).map_err(KernelError::of_change),
        };
        match requests {
            Ok(requests) => {
                for (request, role) in requests {
                    run.push(place, request, role);
                }
            }
            Err(error) => run.outcomes[place] = Err(error),
        }
        match change {
            NetlinkChange::Link(name, LinkOperation::Create(link)) => {
                self.links.remove(name);
                run.absent.remove(name);
                if let LinkKind::Veth(peer) = &link.kind
                    && peer.namespace == self.place
                {
                    // One of its name may have gone with the other end of another pair.
                    self.links.remove(&peer.name);
                    run.absent.remove(&peer.name);
                }
            }
            NetlinkChange::Link(name, LinkOperation::Delete(_)) => self.links.remove(name),
            _ => {}
        }
    }

    /// The requests of a change; none where it is done already.
    fn requests(&mut self, change: &NetlinkChange) -> io::Result<Vec<(Request, Role)>> {
        let one = |request| vec![(request, Role::Do)];
        Ok(match change {
            NetlinkChange::Link(name, LinkOperation::Create(link)) => self.create_link(name, link)?,
            NetlinkChange::Link(name, LinkOperation::Delete(_)) => match self.ours(name)? {
                Some(entry) => vec![(link::delete(entry.index), Role::Delete)],
                None => Vec::new(),
            },
            NetlinkChange::Link(name, operation) => {
                let index = self.ours(name)?.ok_or_else(no_link)?.index;
                self.modify_link(index, operation)?
            }
            NetlinkChange::Address(name, prefix, operation) => {
                self.address_requests(name, *prefix, operation)?
            }
            NetlinkChange::Flood(name, to, Existence::Create) => {
                one(flood::add(self.ours(name)?.ok_or_else(no_link)?.index, *to))
            }
            NetlinkChange::Flood(name, to, Existence::Delete) => match self.ours(name)? {
                Some(entry) => vec![(flood::delete(entry.index, *to), Role::Delete)],
                None => Vec::new(),
            },
            NetlinkChange::Neighbour(name, address, Write::Put(value)) => {
                let index = self.ours(name)?.ok_or_else(no_link)?.index;
                one(neighbour::put(index, *address, value.mac))
            }
            NetlinkChange::Neighbour(name, address, Write::Delete) => match self.ours(name)? {
                Some(entry) => vec![(neighbour::delete(entry.index, *address), Role::Delete)],
                None => Vec::new(),
            },
            NetlinkChange::NextHopObject(target, operation) => {
                self.next_hop_object_requests(target, operation)?
            }
            NetlinkChange::Route(key, RouteOperation::Create(value)) => {
                one(self.route(Mode::Create, key, &value.kind)?)
            }
            NetlinkChange::Route(key, RouteOperation::Replace(value)) => {
                one(self.route(Mode::Replace, key, &value.kind)?)
            }
            NetlinkChange::Route(key, RouteOperation::Delete(_)) => vec![(route::delete(key), Role::Delete)],
            NetlinkChange::Rule(rule, Existence::Create) => one(rule::create(rule, self.marks)
                .ok_or_else(|| unsupported("no kind of rule that is made here"))?),
            NetlinkChange::Rule(rule, Existence::Delete) => rule::delete(rule, self.marks)
                .map(|request| (request, Role::Delete))
                .into_iter()
                .collect(),
        })
    }

    fn create_link(&self, name: &LinkName, link: &Link) -> io::Result<Vec<(Request, Role)>> {
        let lower = match link.kind.lower() {
            Some(lower) => Some(self.links.get(lower).ok_or_else(no_link)?.index),
            None => None,
        };
        let peer = match &link.kind {
            LinkKind::Veth(peer) if peer.namespace != self.place => {
                let gone = || io::Error::from_raw_os_error(libc::ENOENT);
                Some(*self.ends.get(&peer.namespace).ok_or_else(gone)?)
            }
            _ => None,
        };
        let create = link::create(name, link, lower, peer, self.marks)
            .ok_or_else(|| unsupported("no kind of link that is made here"))?;
        Ok(vec![
            (create, Role::Do),
            (link::find(name), Role::Find(name.clone())),
        ])
    }

    /// What changes a device that exists.
    fn modify_link(&self, index: u32, operation: &LinkOperation) -> io::Result<Vec<(Request, Role)>> {
        let request = match operation {
            LinkOperation::Modify(patch) => {
                let mode = patch
                    .generates_addresses
                    .map(|on| link::set_generates_addresses(index, on));
                let requests = link::modify(index, patch).map(|request| (request, Role::Do));
                let mode = mode.map(|request| (request, Role::SetMode));
                return Ok(requests.into_iter().chain(mode).collect());
            }
            LinkOperation::SetUp => link::set_up(index),
            LinkOperation::SetDown => link::set_down(index),
            LinkOperation::SetMaster(None) => link::set_master(index, 0),
            LinkOperation::SetMaster(Some(bridge)) => {
                link::set_master(index, self.ours(bridge)?.ok_or_else(no_link)?.index)
            }
            LinkOperation::SetAlias(alias) => link::set_alias(index, alias),
            LinkOperation::Create(_) | LinkOperation::Delete(_) => return Ok(Vec::new()),
        };
        Ok(vec![(request, Role::Do)])
    }

    fn address_requests(
        &self,
        name: &LinkName,
        prefix: IpNet,
        operation: &AddressOperation,
    ) -> io::Result<Vec<(Request, Role)>> {
        let Some(entry) = self.ours(name)? else {
            return match operation {
                AddressOperation::Delete { .. } => Ok(Vec::new()),
                _ => Err(no_link()),
            };
        };
        let delete = |prefix| (self.delete_address(entry.index, prefix), Role::Delete);
        let create = |value| (address::create(entry.index, prefix, value, self.marks), Role::Do);
        Ok(match operation {
            AddressOperation::Create(value) => vec![create(*value)],
            // The kernel never changes the scope of an address that stands.
            AddressOperation::Replace(value) => vec![delete(prefix), create(*value)],
            AddressOperation::Move { from, to } => vec![delete(*from), create(*to)],
            AddressOperation::Delete { .. } => vec![delete(prefix)],
        })
    }

    fn next_hop_object_requests(
        &mut self,
        target: &RouteTarget,
        operation: &NextHopObjectOperation,
    ) -> io::Result<Vec<(Request, Role)>> {
        let request = match (operation, target) {
            (NextHopObjectOperation::Create, _) => {
                let id = self.next_hops.allocate().ok_or_else(no_id)?;
                let create = nexthop::create(id, target, &self.next_hops, &self.links).ok_or_else(no_link)?;
                self.next_hops.insert(id, target.clone());
                create
            }
            (NextHopObjectOperation::Replace(from), RouteTarget::Group(to)) => {
                let former = RouteTarget::Group(from.clone());
                let id = self.next_hops.id(&former).ok_or_else(nexthop::absent)?;
                let replace = nexthop::replace(id, to, &self.next_hops).ok_or_else(nexthop::absent)?;
                self.next_hops.insert(id, target.clone());
                replace
            }
            (NextHopObjectOperation::Replace(_), _) => {
                return Err(unsupported("only groups are replaced"));
            }
            (NextHopObjectOperation::Delete, _) => {
                let id = self.next_hops.id(target);
                return Ok(id
                    .map(|id| (nexthop::delete(id), Role::Delete))
                    .into_iter()
                    .collect());
            }
        };
        Ok(vec![(request, Role::Do)])
    }

    /// What deletes exactly this rule. The kernel deletes the first one that says all that the request says: rules of ours
    /// that say more and stand before go with it, and are made again.
    async fn delete_rule(&mut self, rule: &Rule) -> Result<Vec<(Request, Role)>, KernelError> {
        let rules = self.read_rules(rule.family).await?;
        let Some(place) = rules.iter().position(|found| found == rule) else {
            return Ok(Vec::new());
        };
        let before = rules[..place]
            .iter()
            .filter(|found| rule::is_taken_for(found, rule))
            .collect::<Vec<_>>();
        let deletions =
            (0..=before.len()).filter_map(|_| Some((rule::delete(rule, self.marks)?, Role::Delete)));
        let again = before
            .iter()
            .filter_map(|found| Some((rule::create(found, self.marks)?, Role::Do)));
        Ok(deletions.chain(again).collect())
    }

    /// Deletes an address with the peer that it was last seen with.
    fn delete_address(&self, index: u32, prefix: IpNet) -> Request {
        address::delete(index, prefix, self.peers.get(&(index, prefix)).copied())
    }

    fn route(&self, mode: Mode, key: &RouteKey, kind: &RouteKind) -> io::Result<Request> {
        let known = (&self.links, &self.next_hops);
        route::write(mode, key, kind, known, self.marks)?
            .ok_or_else(|| unsupported("no kind of route that is made here"))
    }

    /// A link of this name, `None` where there is none, an error where it is not ours.
    fn ours(&self, name: &LinkName) -> io::Result<Option<Entry>> {
        match self.links.get(name) {
            Some(entry) if !entry.ours && self.marks == Marks::Ours => {
                let text = format!("link {name} is not ours");
                Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
            entry => Ok(entry),
        }
    }

    /// Sends the queue. What links just created still lack is queued anew.
    async fn flush(&mut self, run: &mut Run<'_>) {
        let queue = std::mem::take(&mut run.queue);
        let (tags, requests): (Vec<_>, Vec<_>) = queue
            .into_iter()
            .map(|queued| ((queued.place, queued.role), queued.request))
            .unzip();
        let answers = self.socket.exchange(&requests).await;
        for ((place, role), answer) in tags.into_iter().zip(answers) {
            match role {
                Role::Find(name) => self.found(run, place, name, answer),
                role => run.settle(place, &role, answer),
            }
        }
    }

    /// Takes the answer to the search for a link.
    fn found(&mut self, run: &mut Run<'_>, place: usize, name: LinkName, answer: Answer) {
        let body = match answer {
            Ok(bodies) => bodies.into_iter().next(),
            Err(Failure::Refused { .. }) => None,
            Err(failure) => {
                run.lose(&failure);
                return run.settle(place, &Role::Do, Err(failure));
            }
        };
        // A search by name also finds alternative names.
        let link = body
            .and_then(|body| link::read(&body).ok().flatten())
            .filter(|link| link.name == name);
        let Some(found) = link else {
            run.absent.insert(name);
            return;
        };
        self.links.insert(&found);
        let NetlinkChange::Link(_, LinkOperation::Create(link)) = run.changes[place] else {
            return;
        };
        if run.outcomes[place].is_ok() {
            let request = link::set_generates_addresses(found.index, link.generates_addresses);
            run.push(place, request, Role::SetMode);
        }
    }
}

/// A slice of changes under way.
struct Run<'a> {
    changes: &'a [&'a NetlinkChange],
    outcomes: Vec<Outcome>,
    queue: Vec<Queued>,
    /// Links that were looked for in vain.
    absent: BTreeSet<LinkName>,
    /// Why nothing more is sent.
    lost: Option<Failure>,
}

struct Queued {
    place: usize,
    request: Request,
    role: Role,
}

/// What a request's answer means.
enum Role {
    /// Only yes will do.
    Do,
    /// What is gone already is as good.
    Delete,
    /// Sets `addrgenmode`: a link without IPv6 generates no addresses.
    SetMode,
    /// Looks for a link.
    Find(LinkName),
}

impl Run<'_> {
    fn push(&mut self, place: usize, request: Request, role: Role) {
        self.queue.push(Queued { place, request, role });
    }

    fn lose(&mut self, failure: &Failure) {
        self.lost.get_or_insert_with(|| failure.again());
    }

    /// Writes down the outcome of a change's request; the first failure stays.
    fn settle(&mut self, place: usize, role: &Role, answer: Answer) {
        let Err(failure) = answer else {
            return;
        };
        if matches!(failure, Failure::Lost(_)) {
            self.lose(&failure);
        }
        let fine = match role {
            Role::Do | Role::Find(_) => false,
            Role::Delete => matches!(
                failure.errno(),
                Some(libc::ENODEV | libc::EADDRNOTAVAIL | libc::ESRCH | libc::ENOENT)
            ),
            Role::SetMode => failure.errno() == Some(libc::EAFNOSUPPORT),
        };
        if fine || self.outcomes[place].is_err() {
            return;
        }
        let creates = matches!(
            self.changes[place],
            NetlinkChange::Link(_, LinkOperation::Create(_))
                | NetlinkChange::Address(_, _, AddressOperation::Create(_) | AddressOperation::Move { .. })
                | NetlinkChange::Route(_, RouteOperation::Create(_))
        );
        let is_in_the_way = creates && failure.errno() == Some(libc::EEXIST);
        self.outcomes[place] = Err(if is_in_the_way {
            failure.into_error(IN_THE_WAY)
        } else {
            failure.into_change_error()
        });
    }
}

/// The links that must be known for a change to be written.
fn links_of(change: &NetlinkChange) -> Vec<&LinkName> {
    match change {
        NetlinkChange::Link(_, LinkOperation::Create(link)) => link.kind.lower().into_iter().collect(),
        NetlinkChange::Link(port, LinkOperation::SetMaster(bridge)) => {
            [port].into_iter().chain(bridge).collect()
        }
        NetlinkChange::Link(name, _)
        | NetlinkChange::Address(name, ..)
        | NetlinkChange::Flood(name, ..)
        | NetlinkChange::Neighbour(name, ..) => vec![name],
        NetlinkChange::NextHopObject(RouteTarget::Hop(hop), NextHopObjectOperation::Create) => {
            vec![&hop.link]
        }
        NetlinkChange::Route(_, RouteOperation::Create(route) | RouteOperation::Replace(route)) => {
            route.links().collect()
        }
        NetlinkChange::NextHopObject(..) | NetlinkChange::Route(..) | NetlinkChange::Rule(..) => Vec::new(),
    }
}

fn no_link() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}

fn no_id() -> io::Error {
    io::Error::other("all ids for next-hop objects are taken")
}

fn unsupported(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}
