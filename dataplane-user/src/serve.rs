//! The threads that answer requests, one on the socket and one over HTTP, with maps and devices as read at
//! that moment.
//!
//! Each has a runtime of its own: a slow answer delays neither the loop nor, from HTTP, the socket. They
//! share only the status, the recorder and the heartbeat with the loop. They end with the process, at any
//! time.

pub(crate) mod connections;
pub mod control;
mod endpoints;
pub mod http;
pub mod lock;
mod path;
mod sessions;
mod withdrawals;

use std::io;
use std::path::PathBuf;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::task::spawn_local;

use self::http::Http;
use crate::heartbeat::Heartbeat;
use crate::kernel::nft::Drops;
use crate::metrics::{MapReading, Reading, Recorder};
use crate::status::Status;

pub use self::connections::raise_descriptor_limit;
pub use self::endpoints::EndpointAges;
pub use self::withdrawals::{Withdrawal, Withdrawals};

/// Everything that answers are built from. Clones see the same values.
#[derive(Clone, Debug)]
pub struct View {
    /// The status after the last reconciliation.
    pub status: watch::Receiver<Status>,
    /// The counters of the loop.
    pub recorder: Recorder,
    /// The BPF file system with the pinned maps.
    pub bpffs: PathBuf,
    /// Withdraws and restores peers.
    pub withdrawals: Withdrawals,
    /// The age of the endpoint of each WireGuard peer.
    pub endpoints: EndpointAges,
    /// Packets that rules of the nft table have dropped.
    pub drops: Drops,
    /// The heartbeat of the loop.
    pub heartbeat: Heartbeat,
}

impl View {
    /// The status after the last reconciliation, with its age, and a problem if the loop hangs.
    #[must_use]
    pub fn current(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.set_age(self.heartbeat.reconciled_ago(), self.heartbeat.hangs());
        status
    }

    /// The current status: the path of each peer is read from the maps, its session from the WireGuard
    /// devices.
    pub async fn status(&self) -> Status {
        let mut status = self.current();
        sessions::fill_in(&mut status, &self.endpoints).await;
        self.count_drops(&mut status).await;
        match crate::kernel::bpf::Bpf::open_read_only(&self.bpffs).and_then(|bpf| bpf.counters()) {
            Ok(counters) => path::fill_in(&mut status, &counters),
            Err(error) => tracing::debug!("status without BPF maps, which can't be read: {error}"),
        }
        status
    }

    /// The same, after the reconciliation with this number has ended.
    pub(crate) async fn status_after(&self, number: u64) -> Status {
        let mut status = self.status.clone();
        // An error means that the loop has ended, and the process ends with it.
        let _stopping = status
            .wait_for(|status| status.reconciliation.number >= number)
            .await
            .err();
        self.status().await
    }

    async fn count_drops(&self, status: &mut Status) {
        match self.drops.read().await {
            Ok(drops) => status.dropped = drops,
            Err(error) => tracing::debug!("status without dropped packets, which can't be read: {error}"),
        }
    }

    /// Withdraws or restores a peer.
    pub(crate) async fn set_withdrawn(&self, peer: &str, withdraw: bool) -> Withdrawal {
        self.withdrawals.set(peer, withdraw, self.status.clone()).await
    }

    /// The page for a scraper; with `details` also labels with keys and addresses of the underlay.
    ///
    /// # Errors
    /// When the page can't be encoded.
    pub async fn metrics(&self, details: bool) -> prometheus::Result<String> {
        let mut status = self.current();
        let unnamed = sessions::fill_in_and_list(&mut status, &self.endpoints).await;
        self.count_drops(&mut status).await;
        let maps = MapReading::take(&self.bpffs);
        if let Err(error) = &maps {
            tracing::debug!("metrics without BPF maps, which can't be read: {error}");
        }
        let maps = maps.ok();
        let read = Reading {
            status: &status,
            maps: maps.as_ref(),
            unnamed: &unnamed,
        };
        crate::metrics::page(&self.recorder, &read, details)
    }
}

/// The sockets that requests arrive on.
#[derive(Debug)]
pub struct Listeners {
    /// The socket of the agent.
    pub socket: std::os::unix::net::UnixListener,
    /// The lock of the network namespace.
    pub lock: std::os::unix::net::UnixListener,
    /// HTTP; `None` if it is off.
    pub http: Option<Http>,
}

/// Starts the threads.
///
/// # Errors
/// When no thread or runtime can be created, or a listener can't be polled.
pub fn start(listeners: Listeners, view: View) -> io::Result<()> {
    if let Some(Http {
        listener,
        details,
        hosts,
    }) = listeners.http
    {
        listener.set_nonblocking(true)?;
        let router = http::router(view.clone(), details, hosts);
        spawn("adit-http", async move || {
            http::serve(TcpListener::from_std(listener)?, router).await;
            Ok(())
        })?;
    }
    let (socket, lock) = (listeners.socket, listeners.lock);
    socket.set_nonblocking(true)?;
    lock.set_nonblocking(true)?;
    spawn("adit-serve", async move || {
        spawn_local(lock::serve(UnixListener::from_std(lock)?));
        control::serve(UnixListener::from_std(socket)?, view).await;
        Ok(())
    })
}

/// Starts a thread that runs `serve`.
fn spawn(name: &'static str, serve: impl AsyncFnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let run = move || {
        let local = tokio::task::LocalSet::new();
        if let Err(error) = local.block_on(&runtime, serve()) {
            tracing::error!("thread {name} ended and answers no requests; restart the agent: {error}");
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(())
}
