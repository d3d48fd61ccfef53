//! Changes to requests, in as few sends as their order allows.
//!
//! Links go by index, and only those that bear our mark are touched: a change of a link that this very slice creates
//! waits until its creation was acked and its index and mark were read back.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;

use super::batch::Answer;
use super::marks::Marks;
use super::message::{Failure, Request};
use super::table::Entry;
use super::{Netlink, link, of_kind, route};
use crate::kernel::KernelError;
use crate::model::change::{
    AddressChange, AddressOperation, LinkChange, LinkOperation, NetlinkChange, NextHopObjectChange,
    NextHopObjectOperation, RouteChange, RouteOperation,
};
use crate::model::{Link, LinkKind};
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
                (
                    NetlinkChange::NextHopObject(NextHopObjectChange(target, NextHopObjectOperation::Create)),
                    Err(_),
                )
                | (
                    NetlinkChange::NextHopObject(NextHopObjectChange(target, NextHopObjectOperation::Delete)),
                    Ok(()),
                ) => {
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
        if of_kind(change).links().iter().any(is_unknown) {
            for name in run.changes[place..]
                .iter()
                .flat_map(|change| of_kind(change).links())
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
        let kind = of_kind(change);
        let requests = if kind.asks_first() {
            // What is queued before may be about the same.
            self.flush(run).await;
            kind.ask(self).await
        } else {
            kind.requests(self).map_err(KernelError::of_change)
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
            NetlinkChange::Link(LinkChange(name, LinkOperation::Create(link))) => {
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
            NetlinkChange::Link(LinkChange(name, LinkOperation::Delete(_))) => self.links.remove(name),
            _ => {}
        }
    }

    /// A link that is ours.
    pub(super) fn our_index(&self, name: &LinkName) -> io::Result<u32> {
        Ok(self.ours(name)?.ok_or_else(no_link)?.index)
    }

    /// A link of this name, `None` where there is none, an error where it is not ours.
    pub(super) fn ours(&self, name: &LinkName) -> io::Result<Option<Entry>> {
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
        let NetlinkChange::Link(LinkChange(_, LinkOperation::Create(link))) = run.changes[place] else {
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
pub(super) enum Role {
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
            NetlinkChange::Link(LinkChange(_, LinkOperation::Create(_)))
                | NetlinkChange::Address(AddressChange(
                    _,
                    _,
                    AddressOperation::Create(_) | AddressOperation::Move { .. }
                ))
                | NetlinkChange::Route(RouteChange(_, RouteOperation::Create(_)))
        );
        let is_in_the_way = creates && failure.errno() == Some(libc::EEXIST);
        self.outcomes[place] = Err(if is_in_the_way {
            failure.into_error(IN_THE_WAY)
        } else {
            failure.into_change_error()
        });
    }
}

/// What one kind of change becomes.
pub(super) trait Requests {
    /// The links that must be known for it to be written.
    fn links(&self) -> Vec<&LinkName> {
        Vec::new()
    }

    /// Its requests; none where it is done already.
    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>>;

    /// Whether they follow from what the kernel says right before them: [`Requests::ask`] makes them then.
    fn asks_first(&self) -> bool {
        false
    }

    /// Its requests, once the kernel was asked.
    fn ask<'a>(&'a self, netlink: &'a mut Netlink) -> Asked<'a> {
        let requests = self.requests(netlink).map_err(KernelError::of_change);
        Box::pin(std::future::ready(requests))
    }
}

/// The requests of a change for which the kernel is asked first.
pub(super) type Asked<'a> =
    Pin<Box<dyn Future<Output = Result<Vec<(Request, Role)>, KernelError>> + Send + 'a>>;

pub(super) fn no_link() -> io::Error {
    io::Error::from_raw_os_error(libc::ENODEV)
}

pub(super) fn unsupported(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, text)
}
