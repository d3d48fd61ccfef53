//! Why a hub's peers stay as they are.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::kernel::KernelError;
use crate::net::LinkName;
use crate::net::key::PublicKey;
use crate::wg_quick::ConfigError;

/// Why nothing is changed. It never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// A file can't be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What the file says is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody else holds the lock.
    #[error("{} is still locked after {} s: somebody else changes the file, or hangs", .path.display(), .patience.as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// How long it was waited for.
        patience: Duration,
    },
    /// No peer has this id.
    #[error("{}: no peer has the DeviceID `{id}`; {hint}", .path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The id.
        id: String,
        /// Which one may be meant.
        hint: String,
    },
    /// It must not be done with a file that says what this one says.
    #[error("{}: {why}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why, and what would help.
        why: String,
    },
    /// No peer of the file has this id, but the interface has peers that the file doesn't have.
    #[error(
        "{unknown}; {interface_peers} of the interface {} not in the file: `adit peer sync` removes {}",
        if *.interface_peers == 1 { "is" } else { "are" },
        if *.interface_peers == 1 { "it" } else { "them" },
    )]
    UnknownWithStale {
        /// The rest of it.
        #[source]
        unknown: Box<HubError>,
        /// How many such peers.
        interface_peers: usize,
    },
    /// The interface does not take it; the file is as it was.
    #[error("{0}; the file is as it was")]
    Sync(#[from] SyncError),
    /// The interface does not take it, and the file can't be written again.
    #[error(
        "{error}; and the file can't be restored, its former content is in {}: {restoring}", .backup.display()
    )]
    NotRestored {
        /// What happened first.
        #[source]
        error: SyncError,
        /// What has its former content.
        backup: PathBuf,
        /// Why it can't be restored.
        restoring: Box<HubError>,
    },
    /// The file can't be written, and the interface can't be brought back.
    #[error("{error}; and the interface has the change already: {restoring}")]
    NotBroughtBack {
        /// What happened first.
        #[source]
        error: Box<HubError>,
        /// Why it can't be brought back.
        restoring: SyncError,
    },
}

/// Why an interface does not have what its file says.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// It is not up.
    #[error(
        "{interface} is no WireGuard interface that is up ({source}): run `adit wg up {interface}` first, or change \
             the file alone with WG_SKIP_SYNCCONF=1"
    )]
    NotUp {
        /// The interface.
        interface: LinkName,
        /// What the kernel says.
        #[source]
        source: KernelError,
    },
    /// An agent keeps it.
    #[error(
        "the agent keeps {interface}: edit `spec.peers` of the WireGuardInterface manifest that declares it, or change \
             the file alone with WG_SKIP_SYNCCONF=1"
    )]
    Kept {
        /// The interface.
        interface: LinkName,
    },
    /// The kernel refuses.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The kernel takes it in silence, and nothing comes of it.
    #[error("{interface} did not take the peer {peer}: it may be the interface's own key")]
    NotTaken {
        /// The interface.
        interface: LinkName,
        /// The peer's key.
        peer: PublicKey,
    },
    /// An endpoint's name is not found.
    #[error("the endpoint `{0}` can't be looked up")]
    Name(String),
    /// The interface could not be brought back, either.
    #[error("{error}; and the interface can't be brought back: {restoring}")]
    NotRestored {
        /// What happened first.
        #[source]
        error: Box<SyncError>,
        /// Why it can't be brought back.
        restoring: KernelError,
    },
}
