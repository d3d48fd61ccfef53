//! Changes to requests, in as few sends as their order allows.
//!
//! Links go by index, and only those that bear our mark are touched: a change of a link that this very slice creates
//! waits until its creation was acked and its index and mark were read back.

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
use crate::model::{Change, Link, LinkKind, RouteKey, RouteKind, RouteTarget, Rule};
use crate::net::LinkName;

type Outcome = Result<(), KernelError>;

impl Netlink {
    /// Executes changes of links, addresses, routes and rules in order, going on past refusals; one result a change. Deleting
    /// what is gone is no error. Where the way to the kernel fails, whatever was not acked gets that error.
    pub async fn execute(&mut self, changes: &[Change]) -> Vec<Outcome> {
        let mut run = Run {
            changes,
            outcomes: changes.iter().map(|_| Ok(())).collect(),
            queue: Vec::new(),
            absent: BTreeSet::new(),
            lost: None,
        };
        for place in 0..changes.len() {
            self.plan(&mut run, place).await;
        }
        if let Some(place) = changes.iter().rposition(route::cached::keeps_sockets)
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
                (Change::CreateRouteTarget(target), Err(_)) | (Change::DeleteRouteTarget(target), Ok(())) => {
                    self.next_hops.remove(target);
                }
                _ => {}
            }
        }
        run.outcomes
    }

    /// Makes a device in another namespace, by a message in this one: see [`link::create_elsewhere`].
    pub(in crate::kernel) async fn create_elsewhere(
        &mut self,
        name: &LinkName,
        link: &Link,
        namespace: RawFd,
    ) -> Outcome {
        let context = Change::CreateLink(name.clone(), link.clone()).to_string();
        let Some(request) = link::create_elsewhere(name, link, namespace) else {
            return Err(KernelError::new(
                context,
                unsupported("no kind of link that is made here"),
            ));
        };
        let answer = self.socket.exchange(&[request]).await.pop();
        match answer.expect("one answer a request") {
            Ok(_) => Ok(()),
            Err(failure) if failure.errno() == Some(libc::EEXIST) => Err(failure.into_error(format!(
                "{context}: something else stands there and is left alone"
            ))),
            Err(failure) => Err(failure.into_error(context)),
        }
    }

    /// Queues one change; first flushes the queue where the change needs a link that is not known yet.
    async fn plan(&mut self, run: &mut Run<'_>, place: usize) {
        let change = &run.changes[place];
        let is_unknown = |name: &&LinkName| self.links.get(name).is_none() && !run.absent.contains(*name);
        if links_of(change).iter().any(is_unknown) {
            for name in run.changes[place..]
                .iter()
                .flat_map(links_of)
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
            run.outcomes[place] = Err(failure.again().into_error(change.to_string()));
            return;
        }
        let requests = match change {
            Change::DeleteRule(rule) => {
                // What is queued before may be about rules too.
                self.flush(run).await;
                self.delete_rule(rule).await
            }
            change => self
                .requests(change)
                .map_err(|error| KernelError::new(change.to_string(), error)),
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
            Change::CreateLink(name, _) => {
                self.links.remove(name);
                run.absent.remove(name);
            }
            Change::DeleteLink(name, _) => self.links.remove(name),
            _ => {}
        }
    }

    /// The requests of a change; none where it is done already.
    fn requests(&mut self, change: &Change) -> io::Result<Vec<(Request, Role)>> {
        let one = |request| vec![(request, Role::Do)];
        Ok(match change {
            Change::CreateLink(name, link) => {
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
                vec![(create, Role::Do), (link::find(name), Role::Find(name.clone()))]
            }
            Change::ModifyLink(name, patch) => {
                let index = self.ours(name)?.ok_or_else(no_link)?.index;
                let mode = patch
                    .generates_addresses
                    .map(|on| link::set_generates_addresses(index, on));
                let requests = link::modify(index, patch).map(|request| (request, Role::Do));
                requests
                    .into_iter()
                    .chain(mode.map(|request| (request, Role::SetMode)))
                    .collect()
            }
            Change::SetLinkUp(name) => one(link::set_up(self.ours(name)?.ok_or_else(no_link)?.index)),
            Change::DeleteLink(name, _) => match self.ours(name)? {
                Some(entry) => vec![(link::delete(entry.index), Role::Delete)],
                None => Vec::new(),
            },
            Change::CreateAddress(name, prefix, value) => {
                let index = self.ours(name)?.ok_or_else(no_link)?.index;
                one(address::create(index, *prefix, *value, self.marks))
            }
            Change::ReplaceAddress(name, prefix, value) => {
                // The kernel never changes the scope of an address that stands.
                let index = self.ours(name)?.ok_or_else(no_link)?.index;
                let create = (address::create(index, *prefix, *value, self.marks), Role::Do);
                vec![(self.delete_address(index, *prefix), Role::Delete), create]
            }
            Change::MoveAddress(name, from, to, value) => {
                let index = self.ours(name)?.ok_or_else(no_link)?.index;
                let create = (address::create(index, *to, *value, self.marks), Role::Do);
                vec![(self.delete_address(index, *from), Role::Delete), create]
            }
            Change::SetLinkDown(name) => one(link::set_down(self.ours(name)?.ok_or_else(no_link)?.index)),
            Change::SetMaster(port, bridge) => {
                let index = self.ours(port)?.ok_or_else(no_link)?.index;
                let master = match bridge {
                    Some(bridge) => self.ours(bridge)?.ok_or_else(no_link)?.index,
                    None => 0,
                };
                one(link::set_master(index, master))
            }
            Change::SetAlias(name, alias) => one(link::set_alias(
                self.ours(name)?.ok_or_else(no_link)?.index,
                alias,
            )),
            Change::AddFlood(name, to) => one(flood::add(self.ours(name)?.ok_or_else(no_link)?.index, *to)),
            Change::DeleteFlood(name, to) => match self.ours(name)? {
                Some(entry) => vec![(flood::delete(entry.index, *to), Role::Delete)],
                None => Vec::new(),
            },
            Change::DeleteAddress(name, prefix) => match self.ours(name)? {
                Some(entry) => vec![(self.delete_address(entry.index, *prefix), Role::Delete)],
                None => Vec::new(),
            },
            Change::CreateRoute(key, value) => one(self.route(Mode::Create, key, &value.kind)?),
            Change::ReplaceRoute(key, value) => one(self.route(Mode::Replace, key, &value.kind)?),
            Change::DeleteRoute(key, _) => vec![(route::delete(key), Role::Delete)],
            Change::CreateRouteTarget(target) => {
                let id = self.next_hops.allocate().ok_or_else(no_id)?;
                let create = nexthop::create(id, target, &self.next_hops, &self.links).ok_or_else(no_link)?;
                self.next_hops.insert(id, target.clone());
                one(create)
            }
            Change::ReplaceRouteGroup(from, to) => {
                let former = RouteTarget::Group(from.clone());
                let id = self.next_hops.id(&former).ok_or_else(nexthop::absent)?;
                let replace = nexthop::replace(id, to, &self.next_hops).ok_or_else(nexthop::absent)?;
                self.next_hops.insert(id, RouteTarget::Group(to.clone()));
                one(replace)
            }
            Change::DeleteRouteTarget(target) => match self.next_hops.id(target) {
                Some(id) => vec![(nexthop::delete(id), Role::Delete)],
                None => Vec::new(),
            },
            Change::PutNeighbour(name, address, value) => {
                let index = self.ours(name)?.ok_or_else(no_link)?.index;
                one(neighbour::put(index, *address, value.mac))
            }
            Change::DeleteNeighbour(name, address) => match self.ours(name)? {
                Some(entry) => vec![(neighbour::delete(entry.index, *address), Role::Delete)],
                None => Vec::new(),
            },
            Change::CreateRule(rule) => one(rule::create(rule, self.marks)
                .ok_or_else(|| unsupported("no kind of rule that is made here"))?),
            _ => return Err(unsupported("not a netlink change")),
        })
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
        let Change::CreateLink(_, link) = &run.changes[place] else {
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
    changes: &'a [Change],
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
        let mut context = self.changes[place].to_string();
        let creates = matches!(
            self.changes[place],
            Change::CreateLink(..)
                | Change::MoveAddress(..)
                | Change::CreateAddress(..)
                | Change::CreateRoute(..)
        );
        if creates && failure.errno() == Some(libc::EEXIST) {
            context.push_str(": something else stands there and is left alone");
        }
        self.outcomes[place] = Err(failure.into_error(context));
    }
}

/// The links that must be known for a change to be written.
fn links_of(change: &Change) -> Vec<&LinkName> {
    match change {
        Change::ModifyLink(name, _)
        | Change::SetLinkUp(name)
        | Change::SetLinkDown(name)
        | Change::MoveAddress(name, ..)
        | Change::SetAlias(name, _)
        | Change::AddFlood(name, _)
        | Change::DeleteFlood(name, _)
        | Change::DeleteLink(name, _)
        | Change::CreateAddress(name, ..)
        | Change::ReplaceAddress(name, ..)
        | Change::DeleteAddress(name, _)
        | Change::PutNeighbour(name, ..)
        | Change::DeleteNeighbour(name, _) => vec![name],
        Change::CreateRouteTarget(RouteTarget::Hop(hop)) => vec![&hop.link],
        Change::CreateLink(_, link) => link.kind.lower().into_iter().collect(),
        Change::SetMaster(port, bridge) => [port].into_iter().chain(bridge).collect(),
        Change::CreateRoute(_, route) | Change::ReplaceRoute(_, route) => route.links().collect(),
        _ => Vec::new(),
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
