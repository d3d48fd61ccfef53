//! Files with keys. The private key of the node is in a file that only its owner can read; it is created once
//! and never overwritten. Preshared keys are read with the same checks.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::files;
use crate::limits;
use crate::net::key::{InvalidKey, PresharedKey, PrivateKey};

/// The file of the private key of the node, in the state directory.
pub const NAME: &str = "wireguard.key";
/// The file of the key to which the node rotates, in the state directory.
pub const NEXT: &str = "wireguard-next.key";

/// Why a key can't be used. It never contains any text of the file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file can't be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Other users than the owner can read or write the file.
    #[error("{path} has mode {mode:04o}, so other users can read it: run `chmod 600 {path}`, and create a new key if \
             somebody may have read it", path = .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The file is empty.
    #[error("{} is empty; write a key to it", .0.display())]
    Empty(PathBuf),
    /// The file does not contain a key.
    #[error("{}: {source}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: InvalidKey,
    },
}

/// Reads the private key in a state directory; `None`: there is no key file.
///
/// # Errors
/// If the file can't be read, if other users can read it, or if it does not contain a key.
pub fn load(directory: &Path) -> Result<Option<PrivateKey>, KeyFileError> {
    load_at(&directory.join(NAME))
}

/// Reads the private key in a file; `None`: there is no such file.
///
/// # Errors
/// As for [`load`].
pub fn load_at(path: &Path) -> Result<Option<PrivateKey>, KeyFileError> {
    match read(path) {
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        result => result.map(Some),
    }
}

/// Reads a preshared key.
///
/// # Errors
/// If the file does not exist or can't be read, if other users can read it, or if it does not contain a key.
pub fn load_preshared(path: &Path) -> Result<PresharedKey, KeyFileError> {
    read(path)
}

fn read<K: FromStr<Err = InvalidKey>>(path: &Path) -> Result<K, KeyFileError> {
    let failed = |source| KeyFileError::Io {
        path: path.to_owned(),
        source,
    };
    let file = files::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    // Whoever can read it has read no key.
    if metadata.len() == 0 {
        return Err(KeyFileError::Empty(path.to_owned()));
    }
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(KeyFileError::Exposed { path, mode });
    }
    let mut text = Zeroizing::new(String::with_capacity(512));
    file.take(limits::KEY_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(failed)?;
    text.trim_end().parse().map_err(|source| KeyFileError::Invalid {
        path: path.to_owned(),
        source,
    })
}

/// Reads the private key in a state directory, or creates it: `make` returns a new key. The file appears as a
/// whole or not at all. If two processes create it at the same time, both get the key of the first one.
///
/// # Errors
/// As for [`load`], or if the key can't be created.
pub fn load_or_create(
    directory: &Path,
    make: impl FnOnce() -> io::Result<PrivateKey>,
) -> Result<PrivateKey, KeyFileError> {
    load_or_create_at(&directory.join(NAME), make)
}

/// Reads the private key in a file, or creates it, as [`load_or_create`] does.
///
/// # Errors
/// As for [`load_or_create`].
pub fn load_or_create_at(
    path: &Path,
    make: impl FnOnce() -> io::Result<PrivateKey>,
) -> Result<PrivateKey, KeyFileError> {
    if let Some(key) = load_at(path)? {
        return Ok(key);
    }
    let result = make().and_then(|key| store(path, &key.to_base64()).map(|()| key));
    match result {
        Ok(key) => Ok(key),
        Err(source) => match load_at(path)? {
            Some(other) if source.kind() == io::ErrorKind::AlreadyExists => Ok(other),
            _ => {
                let path = path.to_owned();
                Err(KeyFileError::Io { path, source })
            }
        },
    }
}

/// Writes the text of a key to a file with mode 0600, and creates its directory if needed. An existing file
/// with the same key is not an error.
///
/// # Errors
/// If the file can't be written, or exists with another key.
pub fn store_text(path: &Path, text: &str) -> io::Result<()> {
    let stored = store(path, text);
    match stored {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let existing = Zeroizing::new(files::read_to_string(path)?);
            match existing.trim_end() == text {
                true => Ok(()),
                false => Err(io::Error::new(
                    error.kind(),
                    "the file exists already and contains another key",
                )),
            }
        }
        stored => stored,
    }
}

fn store(path: &Path, key: &str) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    if !directory.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    // `tempfile` creates files with mode 0600.
    let mut file = tempfile::Builder::new()
        .prefix(".wireguard.key.")
        .tempfile_in(directory)?;
    file.write_all(key.as_bytes())?;
    file.write_all(b"\n")?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn make(number: u8) -> io::Result<PrivateKey> {
        Ok(PrivateKey::from_random(&[number; 32]))
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_alone() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("lib/adit");
        assert_eq!(load(&state).unwrap(), None);
        let key = load_or_create(&state, || make(1)).unwrap();
        assert_eq!((mode(&state), mode(&state.join(NAME))), (0o700, 0o600));
        let text = fs::read_to_string(state.join(NAME)).unwrap();
        assert_eq!(text, format!("{}\n", key.to_base64().as_str()));
        let again = load_or_create(&state, || panic!("there is one")).unwrap();
        assert_eq!(again, key);
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn the_first_of_two_wins() {
        let state = tempfile::tempdir().unwrap();
        let second = load_or_create(state.path(), || {
            load_or_create(state.path(), || make(1)).map_err(io::Error::other)?;
            make(2)
        });
        assert_eq!(second.unwrap(), make(1).unwrap());
    }

    #[test]
    fn what_others_can_read_is_refused_with_the_remedy() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(NAME);
        load_or_create(state.path(), || make(1)).unwrap();
        for mode in [0o640, 0o604, 0o620, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load(state.path()).unwrap_err().to_string();
            assert!(
                error.contains(&format!("`chmod 600 {}`", path.display())),
                "{error}"
            );
            assert!(load_or_create(state.path(), || make(2)).is_err());
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o400)).unwrap();
        assert_eq!(load(state.path()).unwrap(), Some(make(1).unwrap()));
    }

    #[test]
    fn an_empty_file_is_called_empty_whoever_can_read_it() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(NAME);
        fs::write(&path, "").unwrap();
        for mode in [0o600, 0o644] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = load_or_create(state.path(), || make(1)).unwrap_err().to_string();
            assert!(error.contains("empty") && !error.contains("chmod"), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_stays_and_does_not_show() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join(NAME);
        fs::write(&path, "secret text").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = load_or_create(state.path(), || make(1)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret text");
    }
}
