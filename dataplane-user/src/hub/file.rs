//! The file on its disk: one writer at a time, a copy of what was, and never a part of what shall be.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::HubError;

/// Between two looks at a lock that somebody else holds.
const GLANCE: Duration = Duration::from_millis(10);
const MODE: u32 = 0o600;

/// A file that nobody else changes who asks for the lock, until this is dropped. The lock is a file of its own, which
/// stays: the file itself is another one after each change.
#[derive(Debug)]
pub(super) struct Locked {
    path: PathBuf,
    owner: Owner,
    _lock: File,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    group: u32,
}

/// Reads a file; gives its path without symbolic links, too.
pub(super) fn read(path: &Path) -> Result<(PathBuf, Vec<u8>), HubError> {
    let real = path.canonicalize().map_err(failed(path))?;
    let bytes = fs::read(&real).map_err(failed(&real))?;
    Ok((real, bytes))
}

impl Locked {
    /// Waits for the lock of a file that is there, at most so long, and reads the file then.
    pub(super) async fn open(path: &Path, patience: Duration) -> Result<(Locked, Vec<u8>), HubError> {
        let real = path.canonicalize().map_err(failed(path))?;
        let metadata = real.metadata().map_err(failed(&real))?;
        if !metadata.is_file() {
            let why = "it is no file".to_owned();
            return Err(HubError::Refused { path: real, why });
        }
        let lock_path = beside(&real, ".lock");
        let lock = open_lock(&lock_path, Owner::of(&metadata)).map_err(failed(&lock_path))?;
        let deadline = Instant::now() + patience;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed(&lock_path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(GLANCE).await,
                Err(TryLockError::WouldBlock) => {
                    let path = lock_path;
                    return Err(HubError::Locked { path, patience });
                }
            }
        }
        // Whoever had the lock may have replaced it.
        let metadata = real.metadata().map_err(failed(&real))?;
        let bytes = fs::read(&real).map_err(failed(&real))?;
        let locked = Locked {
            owner: Owner::of(&metadata),
            path: real,
            _lock: lock,
        };
        Ok((locked, bytes))
    }

    /// Its path without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps the former bytes in the `.bak` beside it, then gives it others.
    pub(super) fn replace(&self, former: &[u8], bytes: &[u8]) -> Result<(), HubError> {
        self.write(&beside(&self.path, ".bak"), former)?;
        self.write(&self.path, bytes)
    }

    /// Gives it its former bytes again.
    pub(super) fn restore(&self, former: &[u8]) -> Result<(), HubError> {
        self.write(&self.path, former)
    }

    /// Writes a file whole or not at all, for its owner alone.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), HubError> {
        let write = || {
            let directory = path.parent().unwrap_or(Path::new("/"));
            let mut prefix = OsString::from(".");
            prefix.push(path.file_name().unwrap_or_default());
            prefix.push(".");
            let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(directory)?;
            give(file.as_file(), self.owner)?;
            file.as_file().set_permissions(Permissions::from_mode(MODE))?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            File::open(directory)?.sync_all()
        };
        write().map_err(failed(path))
    }
}

impl Owner {
    fn of(metadata: &fs::Metadata) -> Owner {
        Owner {
            user: metadata.uid(),
            group: metadata.gid(),
        }
    }
}

/// Opens the lock, and makes it where there is none yet: it is the file's owner's, whoever comes first.
fn open_lock(path: &Path, owner: Owner) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .mode(MODE)
        .custom_flags(libc::O_NOFOLLOW);
    match options.clone().create_new(true).open(path) {
        Ok(lock) => {
            give(&lock, owner)?;
            Ok(lock)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        Err(error) => Err(error),
    }
}

fn give(file: &File, owner: Owner) -> io::Result<()> {
    if Owner::of(&file.metadata()?) == owner {
        return Ok(());
    }
    fchown(file, Some(owner.user), Some(owner.group))
}

/// The path with an ending more.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> HubError {
    move |source| HubError::Io {
        path: path.to_owned(),
        source,
    }
}
