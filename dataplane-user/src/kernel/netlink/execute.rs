//! Converts changes to requests, and sends them in as few datagrams as their order allows.
//!
//! Links are addressed by index, and only links with the mark of Adit are changed: a change of a link that
//! the same slice of changes creates waits until the creation was acked and the index and the mark were read
//! back.

use std::borrow::Borrow;
use std::collections::BTreeSet;
use std::io;
use std::os::fd::RawFd;
use std::pin::Pin;

use super::batch::Answer;
use super::link_table::Entry;
use super::marks::Marks;
use super::message::{Failure, Request};
use super::{Netlink, link, of_kind, route};
use crate::kernel::KernelError;
use crate::model::change::{
    AddressChange, AddressOperation, LinkChange, LinkOperation, NetlinkChange, NextHopObjectChange,
    NextHopObjectOperation, RouteChange, RouteOperation,
};
use crate::model::{Link, LinkKind};
use crate::net::LinkName;

type Outcome = Result<(), KernelError>;

/// The context of a creation that failed because the object exists, which Adit did not create or which the
/// observation did not find.
const EXISTS_ALREADY: &str = "exists already and was not created by Adit";

impl Netlink {
    /// Executes changes in order and continues after refusals; one result per change. Deleting what no longer
    /// exists is no error. Where the connection to the kernel fails, all changes without an ack get that
    /// error.
    pub async fn execute<C: Borrow<NetlinkChange>>(&mut self, changes: &[C]) -> Vec<Outcome> {
        let changes: Vec<&NetlinkChange> = changes.iter().map(Borrow::borrow).collect();
        let mut run = Run {
            outcomes: changes.iter().map(|_| Ok(())).collect(),
            changes: &changes,
            queue: Vec::new(),
            absent: BTreeSet::new(),
            lost: None,
        };
        for position in 0..changes.len() {
            self.plan(&mut run, position).await;
        }
        if let Some(position) = changes
            .iter()
            .rposition(|change| route::cached::keeps_sockets(change))
            && run.lost.is_none()
        {
            let [clean, add, delete] = route::cached::look_up_again();
            run.push(position, clean, Role::Delete);
            run.push(position, add, Role::Do);
            run.push(position, delete, Role::Delete);
        }
        while !run.queue.is_empty() {
            self.flush(&mut run).await;
        }
        for (change, outcome) in changes.iter().zip(&run.outcomes) {
            match (change, outcome) {
                (
                    NetlinkChange::NextHopObject(NextHopObjectChange(object, NextHopObjectOperation::Create)),
                    Err(_),
                )
                | (
                    NetlinkChange::NextHopObject(NextHopObjectChange(object, NextHopObjectOperation::Delete)),
                    Ok(()),
                ) => {
                    self.next_hops.remove(object);
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

    /// Creates a device in another namespace, with a message in this one: see [`link::create_elsewhere`].
    pub(in crate::kernel) async fn create_elsewhere(
        &mut self,
        name: &LinkName,
        link: &Link,
        namespace: RawFd,
    ) -> Outcome {
        let request = link::create_elsewhere(name, link, namespace)
            .ok_or_else(|| KernelError::of_change(unsupported("Adit does not create links of this kind")))?;
        let answer = self.socket.exchange(&[request]).await.pop();
        match answer.expect("one answer per request") {
            Ok(_) => Ok(()),
            Err(failure) if failure.errno() == Some(libc::EEXIST) => Err(failure.into_error(EXISTS_ALREADY)),
            Err(failure) => Err(failure.into_change_error()),
        }
    }

    /// Renames a device that was created under another name.
    pub(in crate::kernel) async fn rename(&mut self, from: &LinkName, to: &LinkName) -> Outcome {
        let found = self.socket.exchange(&[link::find(from)]).await.pop();
        let found = found
            .expect("one answer per request")
            .map_err(Failure::into_change_error)?;
        let found = found
            .first()
            .and_then(|body| link::read(body).ok().flatten())
            .ok_or_else(no_link);
        let index = found.map_err(KernelError::of_change)?.index;
        let answer = self.socket.exchange(&[link::set_name(index, to)]).await.pop();
        match answer.expect("one answer per request") {
            Ok(_) => Ok(()),
            Err(failure) => {
                self.socket.exchange(&[link::delete(index)]).await;
                Err(match failure.errno() {
                    Some(libc::EEXIST) => failure.into_error(EXISTS_ALREADY),
                    _ => failure.into_change_error(),
                })
            }
        }
    }

    /// Forgets the index of a device, because it may be a different device now.
    pub(in crate::kernel) fn forget(&mut self, name: &LinkName) {
        self.links.remove(name);
    }

    /// Queues one change; first flushes the queue if the change needs a link that is not known yet.
    async fn plan(&mut self, run: &mut Run<'_>, position: usize) {
        let change = run.changes[position];
        let is_unknown = |name: &&LinkName| self.links.get(name).is_none() && !run.absent.contains(*name);
        if of_kind(change).links().iter().any(is_unknown) {
            for name in run.changes[position..]
                .iter()
                .flat_map(|change| of_kind(change).links())
                .collect::<BTreeSet<_>>()
            {
                if self.links.get(name).is_none() && !run.absent.contains(name) {
                    run.push(position, link::find(name), Role::Find(name.clone()));
                }
            }
            // The first flush queues what follows a creation, for which this does not have to wait.
            self.flush(run).await;
        }
        if let Some(failure) = &run.lost {
            run.outcomes[position] = Err(failure.again().into_change_error());
            return;
        }
        let kind = of_kind(change);
        let requests = if kind.asks_first() {
            // Queued changes may be about the same object.
            self.flush(run).await;
            kind.ask(self).await
        } else {
            kind.requests(self).map_err(KernelError::of_change)
        };
        match requests {
            Ok(requests) => {
                for (request, role) in requests {
                    run.push(position, request, role);
                }
            }
            Err(error) => run.outcomes[position] = Err(error),
        }
        match change {
            NetlinkChange::Link(LinkChange(name, LinkOperation::Create(link))) => {
                self.links.remove(name);
                run.absent.remove(name);
                if let LinkKind::Veth(peer) = &link.kind
                    && peer.namespace == self.own_namespace
                {
                    // A device of its name may have been deleted with the other end of another pair.
                    self.links.remove(&peer.name);
                    run.absent.remove(&peer.name);
                }
            }
            NetlinkChange::Link(LinkChange(name, LinkOperation::Delete(_))) => self.links.remove(name),
            _ => {}
        }
    }

    /// The index of a managed link.
    pub(super) fn managed_index(&self, name: &LinkName) -> io::Result<u32> {
        Ok(self.managed(name)?.ok_or_else(no_link)?.index)
    }

    /// The link of this name; `None` if there is none, an error if Adit does not manage it.
    pub(super) fn managed(&self, name: &LinkName) -> io::Result<Option<Entry>> {
        match self.links.get(name) {
            Some(entry) if !entry.managed && self.marks == Marks::Adit => {
                let text = format!("link {name} is not managed by Adit");
                Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
            }
            entry => Ok(entry),
        }
    }

    /// Sends the queue. Requests that complete created links are queued again.
    async fn flush(&mut self, run: &mut Run<'_>) {
        let queue = std::mem::take(&mut run.queue);
        let (tags, requests): (Vec<_>, Vec<_>) = queue
            .into_iter()
            .map(|queued| ((queued.position, queued.role), queued.request))
            .unzip();
        let answers = self.socket.exchange(&requests).await;
        for ((position, role), answer) in tags.into_iter().zip(answers) {
            match role {
                Role::Find(name) => {
                    self.found(run, position, name, answer);
                }
                Role::FindCreated(name) => self.found_created(run, position, name, answer),
                role => run.settle(position, &role, answer),
            }
        }
    }

    /// Handles the answer to the search for a link, and returns the index of the link.
    fn found(&mut self, run: &mut Run<'_>, position: usize, name: LinkName, answer: Answer) -> Option<u32> {
        let body = match answer {
            Ok(bodies) => bodies.into_iter().next(),
            Err(Failure::Refused { .. }) => None,
            Err(failure) => {
                run.lose(&failure);
                run.settle(position, &Role::Do, Err(failure));
                return None;
            }
        };
        // A search by name also finds alternative names.
        let link = body
            .and_then(|body| link::read(&body).ok().flatten())
            .filter(|link| link.name == name);
        let Some(found) = link else {
            run.absent.insert(name);
            return None;
        };
        self.links.insert(&found);
        Some(found.index)
    }

    /// Completes a link that was just created.
    fn found_created(&mut self, run: &mut Run<'_>, position: usize, name: LinkName, answer: Answer) {
        let Some(index) = self.found(run, position, name, answer) else {
            return;
        };
        let NetlinkChange::Link(LinkChange(_, LinkOperation::Create(link))) = run.changes[position] else {
            return;
        };
        if run.outcomes[position].is_ok() {
            let request = link::set_generates_addresses(index, link.generates_addresses);
            run.push(position, request, Role::SetMode);
        }
    }
}

/// A slice of changes that is being executed.
struct Run<'a> {
    changes: &'a [&'a NetlinkChange],
    outcomes: Vec<Outcome>,
    queue: Vec<Queued>,
    /// Links that do not exist.
    absent: BTreeSet<LinkName>,
    /// The failure after which nothing more is sent.
    lost: Option<Failure>,
}

struct Queued {
    position: usize,
    request: Request,
    role: Role,
}

/// The meaning of the answer to a request.
pub(super) enum Role {
    /// Any refusal is a failure.
    Do,
    /// If the object does not exist, this is a success.
    Delete,
    /// Sets `addrgenmode`: a link without IPv6 generates no addresses.
    SetMode,
    /// Searches a link.
    Find(LinkName),
    /// Searches the link that the change has just created.
    FindCreated(LinkName),
}

impl Run<'_> {
    fn push(&mut self, position: usize, request: Request, role: Role) {
        self.queue.push(Queued {
            position,
            request,
            role,
        });
    }

    fn lose(&mut self, failure: &Failure) {
        self.lost.get_or_insert_with(|| failure.again());
    }

    /// Records the outcome of a request of a change; the first failure is kept.
    fn settle(&mut self, position: usize, role: &Role, answer: Answer) {
        let Err(failure) = answer else {
            return;
        };
        if matches!(failure, Failure::Lost(_)) {
            self.lose(&failure);
        }
        let fine = match role {
            Role::Do | Role::Find(_) | Role::FindCreated(_) => false,
            Role::Delete => matches!(
                failure.errno(),
                Some(libc::ENODEV | libc::EADDRNOTAVAIL | libc::ESRCH | libc::ENOENT)
            ),
            Role::SetMode => failure.errno() == Some(libc::EAFNOSUPPORT),
        };
        if fine || self.outcomes[position].is_err() {
            return;
        }
        let creates = matches!(
            self.changes[position],
            NetlinkChange::Link(LinkChange(_, LinkOperation::Create(_)))
                | NetlinkChange::Address(AddressChange(
                    _,
                    _,
                    AddressOperation::Create(_) | AddressOperation::Move { .. }
                ))
                | NetlinkChange::Route(RouteChange(_, RouteOperation::Create(_)))
        );
        let exists_already = creates && failure.errno() == Some(libc::EEXIST);
        self.outcomes[position] = Err(if exists_already {
            failure.into_error(EXISTS_ALREADY)
        } else {
            failure.into_change_error()
        });
    }
}

/// The requests of one kind of change.
pub(super) trait Requests {
    /// The links whose indexes the requests need.
    fn links(&self) -> Vec<&LinkName> {
        Vec::new()
    }

    /// The requests; none if nothing has to be done.
    fn requests(&self, netlink: &mut Netlink) -> io::Result<Vec<(Request, Role)>>;

    /// Whether the requests depend on an answer of the kernel right before them. Then [`Requests::ask`]
    /// builds them.
    fn asks_first(&self) -> bool {
        false
    }

    /// Asks the kernel and builds the requests.
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
