//! The carry map: data that no kernel object can hold and that must outlive all other maps. At present these
//! are the configured endpoints of WireGuard peers, which tell a peer that has roamed from one whose endpoint
//! was changed.

use std::fs;
use std::io;
use std::path::Path;

use aya::maps::MapType;
use dataplane_ebpf::layout::carry::{self, CarryEndpoint, CarryKey};

use super::codec::{address_bytes, address_from};
use super::maps::{NO_PREALLOC, Table};
use super::pins::check_file_system;
use super::syscall::{MapFd, MapShape};
use crate::kernel::KernelError;
use crate::kernel::wireguard::endpoint_device;
use crate::kernel::wireguard::endpoints::Endpoints;
use crate::net::key::PublicKey;
use crate::net::{LinkName, PeerEndpoint};

/// The pinned map.
#[derive(Debug)]
pub struct Carry {
    table: Table<CarryKey, CarryEndpoint>,
}

impl Carry {
    /// Opens the map below the directory of Adit on a BPF file system; creates it if it does not exist.
    ///
    /// # Errors
    /// When it can't be created or opened, or the pinned map has another layout.
    pub fn open(bpffs: &Path) -> Result<Carry, KernelError> {
        if let Some(found) = Carry::find(bpffs, true)? {
            return Ok(found);
        }
        check_file_system(bpffs)?;
        let directory = bpffs.join(carry::DIRECTORY);
        let path = directory.join(carry::NAME);
        let made =
            fs::create_dir_all(&directory).and_then(|()| MapFd::create(&path, carry::NAME, expected()));
        let map =
            made.map_err(|error| KernelError::new(format!("creating the map {}", path.display()), error))?;
        Ok(Carry::new(map))
    }

    /// Opens the map for reading; `None` if it does not exist.
    ///
    /// # Errors
    /// When it can't be opened, or the pinned map has another layout.
    pub fn open_read_only(bpffs: &Path) -> Result<Option<Carry>, KernelError> {
        Carry::find(bpffs, false)
    }

    /// Pins the map again if its pin was removed.
    ///
    /// # Errors
    /// When it can't be pinned.
    pub fn keep_pinned(&self, bpffs: &Path) -> Result<(), KernelError> {
        let directory = bpffs.join(carry::DIRECTORY);
        let path = directory.join(carry::NAME);
        let (_, map) = self.table.named();
        let pinned = fs::create_dir_all(&directory).and_then(|()| map.keep_pinned(&path));
        pinned.map_err(|error| KernelError::new(format!("pinning the map {}", path.display()), error))
    }

    fn find(bpffs: &Path, writable: bool) -> Result<Option<Carry>, KernelError> {
        let path = bpffs.join(carry::DIRECTORY).join(carry::NAME);
        let failed = |error| KernelError::new(format!("opening the map {}", path.display()), error);
        let map = match MapFd::open(&path, writable) {
            Ok(map) => map,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        if map.shape() != expected() {
            let text = format!(
                "it was not created by Adit; stop the programs that use it and remove {}",
                path.display()
            );
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
        }
        Ok(Some(Carry::new(map)))
    }

    fn new(map: MapFd) -> Carry {
        Carry {
            table: Table::new(carry::NAME, map),
        }
    }

    /// The last configured endpoints.
    ///
    /// # Errors
    /// When the map can't be read.
    pub fn endpoints(&self) -> Result<Endpoints, KernelError> {
        let entries = self.table.read_all()?;
        Ok(entries
            .iter()
            .filter_map(|(key, value)| decode(key, value))
            .collect())
    }

    /// Stores the configured endpoint of a peer.
    ///
    /// # Errors
    /// When the map can't be written.
    pub fn set_endpoint(
        &self,
        device: &LinkName,
        peer: &PublicKey,
        endpoint: &PeerEndpoint,
    ) -> Result<(), KernelError> {
        self.table.put(encode_key(device, peer), encode(endpoint))
    }

    /// Deletes the endpoints of peers; missing ones are no error.
    ///
    /// # Errors
    /// When the map can't be written.
    pub fn forget(&self, device: &LinkName, peers: &[PublicKey]) -> Result<(), KernelError> {
        let keys: Vec<_> = peers.iter().map(|peer| encode_key(device, peer)).collect();
        self.table.delete_all(&keys).into_iter().collect()
    }
}

fn expected() -> MapShape {
    let size = |bytes: usize| u32::try_from(bytes).expect("keys and values are small");
    MapShape {
        kind: MapType::Hash as u32,
        key_size: size(size_of::<CarryKey>()),
        value_size: size(size_of::<CarryEndpoint>()),
        max_entries: carry::MAX_ENTRIES,
        flags: NO_PREALLOC,
    }
}

fn encode_key(device: &LinkName, peer: &PublicKey) -> CarryKey {
    let mut key = CarryKey {
        kind: CarryKey::ENDPOINT,
        peer: *peer.as_bytes(),
        ..CarryKey::default()
    };
    // The name of a device has at most 15 bytes (IFNAMSIZ).
    let name = device.as_str().as_bytes();
    key.device[..name.len()].copy_from_slice(name);
    key
}

fn encode(endpoint: &PeerEndpoint) -> CarryEndpoint {
    // If the device was deleted, its index is not known: the endpoint will be configured again.
    let scope = endpoint
        .device
        .as_ref()
        .and_then(|device| endpoint_device::index(device).ok());
    CarryEndpoint {
        address: address_bytes(endpoint.address),
        port: endpoint.port,
        version: if endpoint.address.is_ipv4() { 4 } else { 6 },
        scope: scope.unwrap_or(0),
        ..CarryEndpoint::default()
    }
}

/// Decodes an entry; `None` for an entry of another kind, by a later version.
fn decode(key: &CarryKey, value: &CarryEndpoint) -> Option<((LinkName, PublicKey), PeerEndpoint)> {
    let name = std::str::from_utf8(&key.device).ok()?;
    let device = LinkName::new(name.trim_end_matches('\0')).ok()?;
    let peer = PublicKey::from_bytes(key.peer);
    let address = address_from(&value.address, value.version == 6);
    let endpoint = endpoint_device::endpoint(address, value.port, value.scope);
    let same = encode_key(&device, &peer) == *key && encode(&endpoint) == *value;
    same.then_some(((device, peer), endpoint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_read_back_and_other_entries_are_not() {
        let device = LinkName::constant("adit-wg0");
        let peer = PublicKey::from_bytes([7; 32]);
        // The loopback device has index 1 in every namespace.
        for (address, scope) in [
            ("192.0.2.1", 0),
            ("2001:db8::1", 0),
            ("fe80::1", 1),
            ("fe80::1", 4_000_000),
        ] {
            let endpoint = endpoint_device::endpoint(address.parse().unwrap(), 51820, scope);
            let (key, value) = (encode_key(&device, &peer), encode(&endpoint));
            assert_eq!(value.scope, scope);
            assert_eq!(decode(&key, &value), Some(((device.clone(), peer), endpoint)));
            let later = CarryKey { kind: 2, ..key };
            assert_eq!(decode(&later, &value), None);
            assert_eq!(decode(&key, &CarryEndpoint { version: 9, ..value }), None);
        }
    }
}
