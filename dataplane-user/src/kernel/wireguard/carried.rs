//! Where the endpoints that were configured last are kept: in the carry map, or in the state directory where there is no BPF
//! file system.

use std::path::{Path, PathBuf};

use crate::kernel::KernelError;
use crate::kernel::bpf::carry::Carry;
use crate::kernel::bpf::missing_file_system;
use crate::kernel::wireguard::endpoints::{self, Endpoints};
use crate::net::{LinkName, PeerEndpoint, PublicKey};

/// The endpoints, and where they are kept.
#[derive(Debug)]
pub(in crate::kernel) struct Carried {
    state_directory: PathBuf,
    store: Store,
    /// Whether nothing is written.
    reads: bool,
}

#[derive(Debug)]
enum Store {
    /// A pinned map.
    Map(Carry),
    /// A file.
    File {
        /// What it is to say.
        endpoints: Endpoints,
        /// Whether it says something else.
        changed: bool,
        /// What was told last of what is wrong with it.
        told: Option<String>,
    },
}

impl Carried {
    /// Finds what an earlier process kept, to look at it alone where `reads`.
    pub(in crate::kernel) fn open(
        bpffs: &Path,
        state_directory: &Path,
        reads: bool,
    ) -> Result<Carried, KernelError> {
        let map = if reads {
            Carry::open_read_only(bpffs)?
        } else {
            None
        };
        let store = match map {
            Some(map) => Store::Map(map),
            None => Store::File {
                endpoints: endpoints::load(state_directory).unwrap_or_else(|error| {
                    // At worst a peer that has roamed is asked for at its configured endpoint.
                    tracing::warn!(
                        "what was configured for WireGuard peers that have roamed can't be read: {error}"
                    );
                    Endpoints::new()
                }),
                changed: false,
                told: None,
            },
        };
        let mut carried = Carried {
            state_directory: state_directory.to_owned(),
            store,
            reads,
        };
        carried.settle(bpffs)?;
        Ok(carried)
    }

    /// Moves to the map what is in the file, where there is a BPF file system by now.
    pub(in crate::kernel) fn settle(&mut self, bpffs: &Path) -> Result<(), KernelError> {
        let Store::File { endpoints, .. } = &self.store else {
            return Ok(());
        };
        if self.reads || missing_file_system(bpffs)?.is_some() {
            return Ok(());
        }
        let map = Carry::open(bpffs)?;
        // A file that could not be removed before says less than the map.
        let newer = map.endpoints()?;
        for (key @ (device, peer), endpoint) in endpoints {
            if !newer.contains_key(key) {
                map.set_endpoint(device, peer, endpoint)?;
            }
        }
        if let Err(error) = endpoints::forget(&self.state_directory) {
            tracing::warn!(
                "endpoints of WireGuard peers are kept in a map from now on, and also in a file still: {error}"
            );
        }
        self.store = Store::Map(map);
        Ok(())
    }

    /// The endpoints that were configured last.
    pub(in crate::kernel) fn endpoints(&self) -> Result<Endpoints, KernelError> {
        match &self.store {
            Store::Map(map) => map.endpoints(),
            Store::File { endpoints, .. } => Ok(endpoints.clone()),
        }
    }

    /// Remembers a peer's endpoint.
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

    /// Forgets a peer; one that is not there is fine. Nothing is forgotten where nothing is written.
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

    /// Writes the file where it says something else. What can't be written is kept in memory, told once, and tried again
    /// by the next call.
    pub(in crate::kernel) fn store(&mut self) {
        let Store::File {
            endpoints,
            changed,
            told,
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
        if let Some(error) = error.as_ref().filter(|error| told.as_ref() != Some(*error)) {
            tracing::warn!(
                "after a restart of the agent WireGuard peers that have roamed get their configured endpoints again: {error}"
            );
        }
        *told = error;
    }
}
