//! Links, addresses and routes over rtnetlink: reads them whole, changes them in bounded batches, asks for paths.
//!
//! No tasks run here: every method sends, awaits its answers with a time-out and returns. A method that fails or is
//! dropped half-way leaves a socket that the next one replaces, so no late answer is ever taken for another.

mod address;
pub(super) mod batch;
mod dump;
mod events;
mod execute;
mod facts;
mod link;
pub(super) mod message;
mod route;
pub(super) mod socket;
mod table;

use std::sync::{Arc, Mutex, PoisonError};

use netlink_packet_route::AddressFamily;
use netlink_sys::protocols::NETLINK_ROUTE;
use tokio::time::Instant;

use self::events::Interest;
pub use self::events::{EventCounts, EventKind, Events, Woken};
use self::message::Failure;
use self::socket::Socket;
pub use self::socket::Stats;
use self::table::LinkTable;
use super::KernelError;
use crate::model::KernelState;
use crate::net::LinkName;

/// Rounds of listening before an observation; each hears a hundred datagrams, and a storm must not keep it from beginning.
const ROUNDS: usize = 256;

/// A network namespace's links, addresses and routes.
pub struct Netlink {
    socket: Socket,
    links: LinkTable,
    /// What events are measured against.
    interest: Arc<Mutex<Interest>>,
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
        Ok(Netlink {
            socket,
            links: LinkTable::default(),
            interest: Arc::default(),
        })
    }

    /// Subscribes to what happens in the calling thread's namespace, as far as it concerns what the calls here saw.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn subscribe(&self, counts: Arc<EventCounts>) -> Result<Events, KernelError> {
        Events::open(Arc::clone(&self.interest), counts)
    }

    /// Adds all links, the addresses on ours, our routes, and foreign routes with one of our metrics to a state.
    ///
    /// # Errors
    /// When any part can't be read whole; the state is then unchanged.
    pub async fn observe(&mut self, state: &mut KernelState) -> Result<(), KernelError> {
        self.hear_out().await;
        let began = Instant::now();
        // First of all, because this waits for the kernel's lock: a change that was told of is made by then.
        let links = self.read_links().await?;
        self.interest().observed(&links, began);
        let addresses = self
            .socket
            .dump(&address::dump(), address::read)
            .await
            .map_err(|failure| failure.into_error("list the addresses"))?;
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let table = &self.links;
            let read = |body: &[u8]| route::read(body, family, table);
            let found = self.socket.dump(&route::dump(family), read).await;
            routes.extend(found.map_err(|failure| failure.into_error("list the routes"))?);
        }

        for address in addresses {
            let Some(name) = self.links.name(address.index) else {
                continue;
            };
            if self.links.get(name).is_some_and(|link| link.ours) {
                let key = (name.clone(), address.prefix);
                state.addresses.insert(key, address.address);
            }
        }
        state
            .links
            .extend(links.into_iter().map(|link| (link.name, link.link)));
        for (key, route) in routes {
            // Of several routes of one key the kernel uses, replaces and lists the first one first.
            state.routes.entry(key).or_insert(route);
        }
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

    /// What went over the socket so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.socket.stats()
    }

    /// What is done from now on is this process's doing, until the next observation: whoever listens waits for that.
    pub fn begin_changes(&self) {
        self.interest().changing(Instant::now());
    }

    /// Lets whoever listens hear what was told so far, mostly the echoes of our own changes: an observation sees all that was
    /// heard before it, and need not be followed by another one.
    async fn hear_out(&self) {
        for _ in 0..ROUNDS {
            let before = self.interest().heard;
            batch::let_others_listen().await;
            if self.interest().heard == before {
                return;
            }
        }
    }

    fn interest(&self) -> std::sync::MutexGuard<'_, Interest> {
        self.interest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read_links(&mut self) -> Result<Vec<link::Observed>, KernelError> {
        let links = self
            .socket
            .dump(&link::dump(), link::read)
            .await
            .map_err(|failure: Failure| failure.into_error("list the links"))?;
        self.links = links.iter().collect();
        Ok(links)
    }
}
