//! The file on its disk: one writer at a time, a copy of what was, and never a part of what shall be.

mod attributes;
mod backup;

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::NamedTempFile;
use tokio::time::{Instant, sleep};

use self::attributes::Attributes;
use super::HubError;
use crate::files;
use crate::limits;

const MODE: u32 = 0o600;

/// A file that nobody else changes who asks for the lock, until this is dropped. The lock is a file of its own, which
/// stays: the file itself is another one after each change.
#[derive(Debug)]
pub(super) struct Locked {
    path: PathBuf,
    owner: Owner,
    mode: u32,
    /// Its content says which backup is ours.
    lock: File,
    warnings: Vec<String>,
    /// Makes a directory's entries outlive a loss of power.
    sync_directory: fn(&Path) -> io::Result<()>,
}

/// The bytes that the file shall have, on the disk beside it.
#[derive(Debug)]
pub(super) struct Staged(NamedTempFile);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owner {
    user: u32,
    group: u32,
}

/// Reads a file; gives its path without symbolic links, too.
pub(super) fn read(path: &Path) -> Result<(PathBuf, Vec<u8>), HubError> {
    let real = path.canonicalize().map_err(failed(path))?;
    let bytes = files::read(&real).map_err(failed(&real))?;
    Ok((real, bytes))
}

impl Locked {
    /// Waits for the lock of a file that is there, at most so long, and reads the file then.
    pub(super) async fn open(path: &Path, patience: Duration) -> Result<(Locked, Vec<u8>), HubError> {
        let real = path.canonicalize().map_err(failed(path))?;
        let metadata = real.metadata().map_err(failed(&real))?;
        if !metadata.is_file() {
            let kind = files::name(metadata.file_type());
            let why = format!("it is {kind}, not a regular file");
            return Err(HubError::Refused { path: real, why });
        }
        let lock_path = beside(&real, ".lock");
        let lock = open_lock(&lock_path, Owner::of(&metadata)).map_err(failed(&lock_path))?;
        let deadline = Instant::now() + patience;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed(&lock_path)(error)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => sleep(limits::LOCK_PAUSE).await,
                Err(TryLockError::WouldBlock) => {
                    let path = lock_path;
                    return Err(HubError::Locked { path, patience });
                }
            }
        }
        // Whoever had the lock may have replaced it.
        let metadata = real.metadata().map_err(failed(&real))?;
        let bytes = files::read(&real).map_err(failed(&real))?;
        let locked = Locked {
            owner: Owner::of(&metadata),
            mode: metadata.mode() & 0o7777,
            path: real,
            lock,
            warnings: Vec::new(),
            sync_directory: |directory| File::open(directory)?.sync_all(),
        };
        Ok((locked, bytes))
    }

    /// Its path without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What whoever asked for the changes has to know, although they were made.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Keeps the former bytes in a file beside it, then gives it others.
    pub(super) fn replace(&mut self, former: &[u8], bytes: &[u8]) -> Result<(), HubError> {
        let staged = self.stage(former, bytes)?;
        self.commit(staged)
    }

    /// All of [`Locked::replace`] that may well fail: the file itself is as it was.
    pub(super) fn stage(&mut self, former: &[u8], bytes: &[u8]) -> Result<Staged, HubError> {
        let attributes = Attributes::of(&self.path).map_err(failed(&self.path))?;
        if attributes.has_acl {
            let why = format!(
                "it has an ACL, which the mode {MODE:04o} that it gets would make void: remove the ACL by `setfacl -b` \
                 first"
            );
            let path = self.path.clone();
            return Err(HubError::Refused { path, why });
        }
        backup::keep(self, former)?;
        let staged = self.temporary(&self.path, bytes, &attributes);
        staged.map(Staged).map_err(failed(&self.path))
    }

    /// The rest of it: the file is the former one, or has the new bytes.
    pub(super) fn commit(&mut self, staged: Staged) -> Result<(), HubError> {
        let path = self.path.clone();
        self.rename(staged.0, &path).map_err(failed(&path))?;
        if self.mode != MODE {
            let warning = format!(
                "{} has the mode {MODE:04o} now, it had {:04o}: it holds a private key",
                path.display(),
                self.mode
            );
            self.mode = MODE;
            self.warn(warning);
        }
        Ok(())
    }

    /// Gives it its former bytes again.
    pub(super) fn restore(&mut self, former: &[u8]) -> Result<(), HubError> {
        let path = self.path.clone();
        self.write(&path, former).map_err(failed(&path))
    }

    /// What it was before the last change that was made here; `None`: nobody knows.
    pub(super) fn former(&self) -> Option<Vec<u8>> {
        backup::last(self).and_then(|path| files::read(&path).ok())
    }

    /// The file beside it that holds what it was before the last change.
    pub(super) fn backup(&self) -> PathBuf {
        backup::last(self).unwrap_or_else(|| beside(&self.path, ".bak"))
    }

    /// Writes a file whole or not at all, for its owner alone.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let attributes = Attributes::of(path)?;
        let file = self.temporary(path, bytes, &attributes)?;
        self.rename(file, path)
    }

    /// A file beside another one, with all that shall take its place.
    fn temporary(&self, path: &Path, bytes: &[u8], attributes: &Attributes) -> io::Result<NamedTempFile> {
        let mut prefix = OsString::from(".");
        prefix.push(path.file_name().unwrap_or_default());
        prefix.push(".");
        let mut file = tempfile::Builder::new()
            .prefix(&prefix)
            .tempfile_in(directory(path))?;
        give(file.as_file(), self.owner)?;
        attributes.copy_to(file.as_file())?;
        file.as_file().set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        Ok(file)
    }

    /// Once it has its name, the file is another one: that this may not outlive a loss of power is no failure.
    fn rename(&mut self, file: NamedTempFile, path: &Path) -> io::Result<()> {
        file.persist(path).map_err(|error| error.error)?;
        let directory = directory(path);
        if let Err(error) = (self.sync_directory)(directory) {
            self.warn(format!(
                "{} is written, but a loss of power may bring back what it was: syncing {}: {error}",
                path.display(),
                directory.display()
            ));
        }
        Ok(())
    }

    fn warn(&mut self, warning: String) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    #[cfg(test)]
    pub(super) fn fail_to_sync(&mut self) {
        self.sync_directory = |_| Err(io::Error::from_raw_os_error(libc::EIO));
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

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The path with an ending more.
fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

fn failed(path: &Path) -> impl Fn(io::Error) -> HubError {
    let path = path.to_owned();
    move |source| HubError::Io {
        path: path.clone(),
        source,
    }
}
