//! The storage of configured endpoints: the carry map, or a file in the state directory if there is no BPF
//! file system.

use std::path::{Path, PathBuf};

use crate::kernel::KernelError;
use crate::kernel::bpf::carry::Carry;
use crate::kernel::bpf::missing_file_system;
use crate::kernel::wireguard::endpoints::{self, Endpoints};
use crate::net::{LinkName, PeerEndpoint, PublicKey};

/// The configured endpoints and their storage.
#[derive(Debug)]
pub(in crate::kernel) struct EndpointStore {
    state_directory: PathBuf,
    store: Store,
    /// Whether this only reads.
    reads: bool,
}

#[derive(Debug)]
enum Store {
    /// The carry map.
    Map(Carry),
    /// A file in the state directory.
    File {
        /// The desired content.
        endpoints: Endpoints,
        /// Whether the file has another content.
        changed: bool,
        /// The last error that was logged.
        logged: Option<String>,
    },
}

impl EndpointStore {
    /// Opens the storage of an earlier process, read-only if `reads` is set.
    pub(in crate::kernel) fn open(
        bpffs: &Path,
        state_directory: &Path,
        reads: bool,
    ) -> Result<EndpointStore, KernelError> {
        let map = if reads {
            Carry::open_read_only(bpffs)?
        } else {
            None
        };
        let store = match map {
            Some(map) => Store::Map(map),
            None => Store::File {
                endpoints: endpoints::load(state_directory).unwrap_or_else(|error| {
                    // At worst, a peer that has roamed gets its configured endpoint again.
                    tracing::warn!(
                        "can't read the configured endpoints of WireGuard peers that have roamed: {error}"
                    );
                    Endpoints::new()
                }),
                changed: false,
                logged: None,
            },
        };
        let mut endpoint_store = EndpointStore {
            state_directory: state_directory.to_owned(),
            store,
            reads,
        };
        endpoint_store.settle(bpffs)?;
        Ok(endpoint_store)
    }

    /// Moves the content of the file to the map, if there is a BPF file system now, and pins the map again if
    /// its pin was removed.
    pub(in crate::kernel) fn settle(&mut self, bpffs: &Path) -> Result<(), KernelError> {
        if self.reads || missing_file_system(bpffs)?.is_some() {
            return Ok(());
        }
        let endpoints = match &self.store {
            Store::Map(map) => return map.keep_pinned(bpffs),
            Store::File { endpoints, .. } => endpoints,
        };
        let map = Carry::open(bpffs)?;
        // The map is newer than a file that could not be removed before.
        let newer = map.endpoints()?;
        for (key @ (device, peer), endpoint) in endpoints {
            if !newer.contains_key(key) {
                map.set_endpoint(device, peer, endpoint)?;
            }
        }
        if let Err(error) = endpoints::forget(&self.state_directory) {
            tracing::warn!(
                "the endpoints of WireGuard peers moved to a map, but their old file can't be removed: {error}"
            );
        }
        self.store = Store::Map(map);
        Ok(())
    }

    /// The last configured endpoints.
    pub(in crate::kernel) fn endpoints(&self) -> Result<Endpoints, KernelError> {
        match &self.store {
            Store::Map(map) => map.endpoints(),
            Store::File { endpoints, .. } => Ok(endpoints.clone()),
        }
    }

    /// Stores the configured endpoint of a peer.
    pub(super) fn set_endpoint(
        &mut self,
        device: &LinkName,
        peer: &PublicKey,
        endpoint: &PeerEndpoint,
    ) -> Result<(), KernelError> {
        match &mut self.store {
            Store::Map(map) => map.set_endpoint(device, peer, endpoint),
            Store::File {
                endpoints, changed, ..
            } => {
                let key = (device.clone(), *peer);
                *changed |= endpoints.insert(key, endpoint.clone()).as_ref() != Some(endpoint);
                Ok(())
            }
        }
    }

    /// Deletes the endpoint of a peer; a missing one is no error. Does nothing if this only reads.
    pub(super) fn forget(&mut self, device: &LinkName, peer: &PublicKey) -> Result<(), KernelError> {
        if self.reads {
            return Ok(());
        }
        match &mut self.store {
            Store::Map(map) => map.forget(device, &[*peer]),
            Store::File {
                endpoints, changed, ..
            } => {
                *changed |= endpoints.remove(&(device.clone(), *peer)).is_some();
                Ok(())
            }
        }
    }

    /// Writes the file if its content differs. If that fails, the content stays in memory, the error is
    /// logged once, and the next call retries.
    pub(in crate::kernel) fn store(&mut self) {
        let Store::File {
            endpoints,
            changed,
            logged,
        } = &mut self.store
        else {
            return;
        };
        if !*changed || self.reads {
            return;
        }
        let stored = endpoints::store(&self.state_directory, endpoints);
        *changed = stored.is_err();
        let error = stored.err().map(|error| error.to_string());
        if let Some(error) = error.as_ref().filter(|error| logged.as_ref() != Some(*error)) {
            tracing::warn!(
                "can't store the endpoints of WireGuard peers; peers that have roamed get their configured endpoints again \
                 when the agent restarts: {error}"
            );
        }
        *logged = error;
    }
}
