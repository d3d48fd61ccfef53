//! Errors of changes to hub clients.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::kernel::KernelError;
use crate::net::LinkName;
use crate::net::key::PublicKey;
use crate::wg_quick::ConfigError;

/// Why a change of a file was not made. It never contains key material.
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
    /// The file is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Another process holds the lock.
    #[error("{} is still locked after {} s: another process is changing the file, or hangs", .path.display(), .patience.as_secs())]
    Locked {
        /// The lock.
        path: PathBuf,
        /// The time that was waited.
        patience: Duration,
    },
    /// No peer has this id.
    #[error("{}: no peer has the DeviceID `{id}`; {hint}", .path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// The id.
        id: String,
        /// The id that is probably meant, or the known ids.
        hint: String,
    },
    /// The change is not possible with the content or the attributes of this file.
    #[error("{}: {why}", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The reason and the remedy.
        why: String,
    },
    /// No peer of the file has this id, but the interface has peers that are not in the file.
    #[error(
        "{unknown}; the interface has {interface_peers} {} not in the file: `adit peer sync` removes {}",
        if *.interface_peers == 1 { "peer that is" } else { "peers that are" },
        if *.interface_peers == 1 { "it" } else { "them" },
    )]
    UnknownWithStale {
        /// The error that no peer has this id.
        #[source]
        unknown: Box<HubError>,
        /// The number of such peers.
        interface_peers: usize,
    },
    /// The interface could not be changed, and the file is unchanged.
    #[error("{0}; the file is unchanged")]
    Sync(#[from] SyncError),
    /// The interface could not be changed, and the file could not be restored.
    #[error(
        "{error}; the file could not be restored, its previous content is in {}: {restoring}", .backup.display()
    )]
    NotRestored {
        /// What happened first.
        #[source]
        error: SyncError,
        /// The file with the previous content.
        backup: PathBuf,
        /// Why it could not be restored.
        restoring: Box<HubError>,
    },
    /// The file could not be written, and the interface could not be restored.
    #[error("{error}; the interface already has the change, which could not be undone: {restoring}")]
    NotUndone {
        /// What happened first.
        #[source]
        error: Box<HubError>,
        /// Why it could not be restored.
        restoring: SyncError,
    },
}

/// Why an interface was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SyncError {
    /// The interface does not exist, or is not a WireGuard interface.
    #[error(
        "{interface} does not exist or is not a WireGuard interface ({source}): run `adit wg up {interface}` first, \
         or set WG_SKIP_SYNCCONF=1 to change only the file"
    )]
    NotUp {
        /// The interface.
        interface: LinkName,
        /// What the kernel says.
        #[source]
        source: KernelError,
    },
    /// An agent manages the interface.
    #[error(
        "the agent manages {interface}: edit `spec.peers` of the WireGuardInterface manifest that declares it, or \
         set WG_SKIP_SYNCCONF=1 to change only the file"
    )]
    Kept {
        /// The interface.
        interface: LinkName,
    },
    /// The kernel refused the request.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The kernel reported success but did not add the peer.
    #[error("{interface} did not accept the peer {peer}: it may be the key of the interface itself")]
    NotApplied {
        /// The interface.
        interface: LinkName,
        /// The peer's key.
        peer: PublicKey,
    },
    /// The name of an endpoint can't be resolved.
    #[error("can't resolve the endpoint `{0}`")]
    Name(String),
    /// A change failed, and the interface could not be restored.
    #[error("{error}; the interface could not be restored: {restoring}")]
    NotRestored {
        /// What happened first.
        #[source]
        error: Box<SyncError>,
        /// Why it could not be restored.
        restoring: KernelError,
    },
}
