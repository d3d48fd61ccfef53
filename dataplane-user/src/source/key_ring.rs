//! The private keys of this node: the source of each, and the public key that belongs to it. A private key is
//! read each time it is needed and never kept.

use std::collections::BTreeMap;
use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::key_file::{self, KeyFileError};
use crate::kernel::wireguard::PrivateKeys;
use crate::net::KeySource;
use crate::net::{PrivateKey, PublicKey};

/// The directory with generated keys, each `NAME.key`, below the state directory.
const GENERATED: &str = "wireguard";
/// The variable with the directory of the credentials of a unit (systemd.exec(5), `LoadCredential=`).
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";

/// Finds private keys. Clones share the known keys.
#[derive(Clone, Debug)]
pub struct KeyRing {
    state_directory: PathBuf,
    known: Arc<Mutex<BTreeMap<PublicKey, KeySource>>>,
}

impl KeyRing {
    /// A key ring for the keys of the node in a state directory.
    #[must_use]
    pub fn new(state_directory: &Path) -> KeyRing {
        KeyRing {
            state_directory: state_directory.to_owned(),
            known: Arc::default(),
        }
    }

    /// The public key that belongs to a source; `None`: there is no such file. A missing key that the agent
    /// generates is created by `make`; without `make` nothing is written.
    ///
    /// # Errors
    /// If the key can't be read or created, if other users can read it, or if the file does not contain a
    /// key.
    pub fn public(
        &self,
        source: &KeySource,
        make: Option<fn() -> io::Result<PrivateKey>>,
    ) -> Result<Option<PublicKey>, KeyFileError> {
        let key = match (source, make) {
            (KeySource::Generated(_) | KeySource::Next, Some(make)) => {
                Some(key_file::load_or_create_at(&self.path(source)?, make)?)
            }
            _ => key_file::load_at(&self.path(source)?)?,
        };
        let Some(public) = key.map(|key| key.public_key()) else {
            return Ok(None);
        };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(public, source.clone());
        Ok(Some(public))
    }

    /// The function that finds private keys for the kernel adapter, when a device gets one.
    #[must_use]
    pub fn private_keys(&self) -> PrivateKeys {
        let ring = self.clone();
        Arc::new(move |public| ring.private(public))
    }

    /// The private key that belongs to a public key, read from the source that had it last, otherwise from
    /// the file of the node.
    ///
    /// # Errors
    /// If that source does not contain the key, or can't be read.
    pub fn private(&self, public: &PublicKey) -> io::Result<PrivateKey> {
        let source = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(public).cloned().unwrap_or(KeySource::Node)
        };
        let path = self.path(&source).map_err(io::Error::other)?;
        let key = key_file::load_at(&path).map_err(io::Error::other)?;
        let key = key.filter(|key| key.public_key() == *public);
        key.ok_or_else(|| {
            let text = format!("{} does not contain the private key of {public}", path.display());
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    }

    /// Replaces the key of the node by the next key.
    ///
    /// # Errors
    /// If there is no next key, or its file can't be renamed.
    pub fn promote(&self) -> io::Result<()> {
        std::fs::rename(
            self.state_directory.join(key_file::NEXT),
            self.state_directory.join(key_file::NAME),
        )?;
        std::fs::File::open(&self.state_directory)?.sync_all()
    }

    fn path(&self, source: &KeySource) -> Result<PathBuf, KeyFileError> {
        Ok(match source {
            KeySource::Node => self.state_directory.join(key_file::NAME),
            KeySource::Next => self.state_directory.join(key_file::NEXT),
            KeySource::Generated(name) => self.state_directory.join(GENERATED).join(format!("{name}.key")),
            KeySource::File(path) => PathBuf::from(path),
            KeySource::Credential(name) => {
                let directory = env::var_os(CREDENTIALS).ok_or_else(|| KeyFileError::Io {
                    path: PathBuf::from(name),
                    source: io::Error::new(
                        io::ErrorKind::NotFound,
                        "systemd passes no credentials to this process; set LoadCredential= in its unit",
                    ),
                })?;
                Path::new(&directory).join(name)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn make() -> io::Result<PrivateKey> {
        Ok(PrivateKey::from_random(&[7; 32]))
    }

    #[test]
    fn keys_are_made_once_and_found_by_their_public_ones() {
        let state = tempfile::tempdir().unwrap();
        let ring = KeyRing::new(state.path());
        let source = KeySource::Generated("wg0".to_owned());
        assert_eq!(ring.public(&source, None).unwrap(), None, "nobody asked for one");
        let public = ring.public(&source, Some(make)).unwrap().unwrap();
        assert_eq!(public, make().unwrap().public_key());
        let path = state.path().join("wireguard/wg0.key");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let other = || -> io::Result<PrivateKey> { panic!("there is one") };
        assert_eq!(ring.public(&source, Some(other)).unwrap(), Some(public));
        assert_eq!(ring.private(&public).unwrap(), make().unwrap());

        let file = state.path().join("elsewhere");
        fs::rename(path, &file).unwrap();
        let error = ring.private(&public).unwrap_err().to_string();
        assert!(error.contains("wg0.key"), "{error}");
        let source = KeySource::File(file.to_str().unwrap().to_owned());
        assert_eq!(ring.public(&source, Some(other)).unwrap(), Some(public));
        assert_eq!(ring.clone().private(&public).unwrap(), make().unwrap());
        let stranger = PublicKey::from_bytes([9; 32]);
        assert!(
            ring.private(&stranger)
                .unwrap_err()
                .to_string()
                .contains("does not contain the private key")
        );
    }
}
