//! The thread that answers: the socket and HTTP, with what the maps say at that moment.
//!
//! It has a runtime of its own, so that no answer, however slow, holds up the loop; it shares nothing with the loop
//! but the status and the recorder. It ends with the process, at any time.

mod endpoints;
mod sessions;
mod way;
mod withdrawals;

use std::net::TcpListener;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixListener;
use tokio::sync::watch;

use crate::kernel::nft::Drops;
use crate::metrics::{MapReading, Recorder};
use crate::status::Status;
use crate::{control, http};

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
    /// How long the loop may be silent before it counts as dead.
    pub patience: Duration,
}

impl View {
    /// The status as it is now, with each peer's way read from the maps, and its session from WireGuard's devices.
    pub async fn status(&self) -> Status {
        let mut status = self.status.borrow().clone();
        sessions::fill_in(&mut status, &self.endpoints).await;
        self.count_drops(&mut status).await;
        match crate::kernel::bpf::Bpf::open_read_only(&self.bpffs).and_then(|bpf| bpf.counters()) {
            Ok(counters) => way::fill_in(&mut status, &counters),
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
            Ok(drops) => status.set_dropped(&drops),
            Err(error) => tracing::debug!("the status says nothing of dropped packets: {error}"),
        }
    }

    /// Withdraws a peer, or restores it.
    pub(crate) async fn set_withdrawn(&self, peer: &str, withdraw: bool) -> Withdrawal {
        self.withdrawals.set(peer, withdraw, self.status.clone()).await
    }

    /// What a scraper gets.
    ///
    /// # Errors
    /// When the page can't be encoded.
    pub async fn metrics(&self) -> prometheus::Result<String> {
        let mut status = self.status.borrow().clone();
        let unnamed = sessions::fill_in_and_list(&mut status, &self.endpoints).await;
        self.count_drops(&mut status).await;
        let maps = MapReading::take(&self.bpffs);
        if let Err(error) = &maps {
            tracing::debug!("the maps can't be read for the metrics: {error}");
        }
        crate::metrics::page(&self.recorder, &status, maps.ok().as_ref(), &unnamed)
    }
}

/// Where requests come in.
#[derive(Debug)]
pub struct Listeners {
    /// The agent's socket.
    pub socket: std::os::unix::net::UnixListener,
    /// HTTP, if it is wanted.
    pub http: Option<TcpListener>,
}

/// Starts the thread.
///
/// # Errors
/// When the system has no thread or runtime left, or a listener can't be polled.
pub fn start(listeners: Listeners, view: View) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    listeners.socket.set_nonblocking(true)?;
    if let Some(http) = &listeners.http {
        http.set_nonblocking(true)?;
    }
    std::thread::Builder::new()
        .name("adit-serve".to_owned())
        .spawn(move || {
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, async {
                if let Err(error) = serve(listeners, view).await {
                    tracing::error!("neither the socket nor HTTP answer any more: {error}");
                }
            });
        })?;
    Ok(())
}

async fn serve(listeners: Listeners, view: View) -> std::io::Result<()> {
    let socket = UnixListener::from_std(listeners.socket)?;
    if let Some(http) = listeners.http {
        let listener = tokio::net::TcpListener::from_std(http)?;
        tokio::task::spawn_local(http::serve(listener, view.clone()));
    }
    control::serve(socket, view).await;
    Ok(())
}
