//! The threads that answer, one on the socket and one over HTTP, with what the maps say at that moment.
//!
//! Each has a runtime of its own, so that no answer, however slow, holds up the loop, and no client of HTTP one of the
//! socket; they share nothing with the loop but the status, the recorder and the heartbeat. They end with the process, at
//! any time.

pub(crate) mod connections;
pub mod control;
mod endpoints;
pub mod http;
mod path;
mod sessions;
mod withdrawals;

use std::io;
use std::path::PathBuf;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;

use self::http::Http;
use crate::heartbeat::Heartbeat;
use crate::kernel::nft::Drops;
use crate::metrics::{MapReading, Reading, Recorder};
use crate::status::Status;

pub use self::connections::raise_descriptor_limit;
pub use self::endpoints::EndpointAges;
pub use self::withdrawals::{Withdrawal, Withdrawals};

/// What is known of the node, for whoever asks. Clones see the same.
#[derive(Clone, Debug)]
pub struct View {
    /// What the last pass said.
    pub status: watch::Receiver<Status>,
    /// What the loop counted.
    pub recorder: Recorder,
    /// Where the maps are pinned.
    pub bpffs: PathBuf,
    /// What withdraws peers.
    pub withdrawals: Withdrawals,
    /// Since when WireGuard's peers are where they are.
    pub endpoints: EndpointAges,
    /// What the nft table's rules have dropped.
    pub drops: Drops,
    /// The loop's signs of life.
    pub heartbeat: Heartbeat,
}

impl View {
    /// What the last pass said, how old that is, and whether the loop hangs.
    #[must_use]
    pub fn current(&self) -> Status {
        let mut status = self.status.borrow().clone();
        status.set_age(self.heartbeat.reconciled_ago(), self.heartbeat.hangs());
        status
    }

    /// The status as it is now, with each peer's way read from the maps, and its session from WireGuard's devices.
    pub async fn status(&self) -> Status {
        let mut status = self.current();
        sessions::fill_in(&mut status, &self.endpoints).await;
        self.count_drops(&mut status).await;
        match crate::kernel::bpf::Bpf::open_read_only(&self.bpffs).and_then(|bpf| bpf.counters()) {
            Ok(counters) => path::fill_in(&mut status, &counters),
            Err(error) => tracing::debug!("the maps can't be read for the status: {error}"),
        }
        status
    }

    /// The same, as soon as the reconciliation of this number has ended.
    pub(crate) async fn status_after(&self, number: u64) -> Status {
        let mut status = self.status.clone();
        // The loop that reconciles has ended: the process ends with it.
        let _stopping = status.wait_for(|status| status.pass.number >= number).await.err();
        self.status().await
    }

    async fn count_drops(&self, status: &mut Status) {
        match self.drops.read().await {
            Ok(drops) => status.dropped = drops,
            Err(error) => tracing::debug!("the status says nothing of dropped packets: {error}"),
        }
    }

    /// Withdraws a peer, or restores it.
    pub(crate) async fn set_withdrawn(&self, peer: &str, withdraw: bool) -> Withdrawal {
        self.withdrawals.set(peer, withdraw, self.status.clone()).await
    }

    /// What a scraper gets; with `details` also what names keys and addresses of the underlay.
    ///
    /// # Errors
    /// When the page can't be encoded.
    pub async fn metrics(&self, details: bool) -> prometheus::Result<String> {
        let mut status = self.current();
        let unnamed = sessions::fill_in_and_list(&mut status, &self.endpoints).await;
        self.count_drops(&mut status).await;
        let maps = MapReading::take(&self.bpffs);
        if let Err(error) = &maps {
            tracing::debug!("the maps can't be read for the metrics: {error}");
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

/// Where requests come in.
#[derive(Debug)]
pub struct Listeners {
    /// The agent's socket.
    pub socket: std::os::unix::net::UnixListener,
    /// HTTP, if it is wanted.
    pub http: Option<Http>,
}

/// Starts the threads.
///
/// # Errors
/// When the system has no thread or runtime left, or a listener can't be polled.
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
    let socket = listeners.socket;
    socket.set_nonblocking(true)?;
    spawn("adit-serve", async move || {
        control::serve(UnixListener::from_std(socket)?, view).await;
        Ok(())
    })
}

/// Starts a thread that serves.
fn spawn(name: &'static str, serve: impl AsyncFnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let run = move || {
        let local = tokio::task::LocalSet::new();
        if let Err(error) = local.block_on(&runtime, serve()) {
            tracing::error!("thread {name} does not answer any more: {error}");
        }
    };
    std::thread::Builder::new().name(name.to_owned()).spawn(run)?;
    Ok(())
}
