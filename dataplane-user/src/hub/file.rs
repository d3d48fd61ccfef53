//! The file on the disk: one writer at a time, a backup of the previous content, and atomic replacement.

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

/// A file that is locked until this is dropped. The lock is a separate file that is never deleted, because
/// the file itself is replaced by each change.
#[derive(Debug)]
pub(super) struct Locked {
    path: PathBuf,
    owner: FileOwner,
    mode: u32,
    /// The lock file. Its content tells which backup Adit wrote last.
    lock: File,
    warnings: Vec<String>,
    /// Syncs a directory, so that its entries survive a loss of power.
    sync_directory: fn(&Path) -> io::Result<()>,
}

/// The new content, on the disk in a temporary file beside the file.
#[derive(Debug)]
pub(super) struct Staged(NamedTempFile);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileOwner {
    user: u32,
    group: u32,
}

/// Reads a file. Returns its path without symbolic links, and its bytes.
pub(super) fn read(path: &Path) -> Result<(PathBuf, Vec<u8>), HubError> {
    let real = path.canonicalize().map_err(failed(path))?;
    let bytes = files::read(&real).map_err(failed(&real))?;
    Ok((real, bytes))
}

impl Locked {
    /// Waits for the lock of an existing file for at most `patience`, then reads the file.
    pub(super) async fn open(path: &Path, patience: Duration) -> Result<(Locked, Vec<u8>), HubError> {
        let real = path.canonicalize().map_err(failed(path))?;
        let metadata = real.metadata().map_err(failed(&real))?;
        if !metadata.is_file() {
            let kind = files::name(metadata.file_type());
            let why = format!("it is {kind}, not a regular file");
            return Err(HubError::Refused { path: real, why });
        }
        let lock_path = beside(&real, ".lock");
        let lock = open_lock(&lock_path, FileOwner::of(&metadata)).map_err(failed(&lock_path))?;
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
        // The previous holder of the lock may have replaced the file.
        let metadata = real.metadata().map_err(failed(&real))?;
        let bytes = files::read(&real).map_err(failed(&real))?;
        let locked = Locked {
            owner: FileOwner::of(&metadata),
            mode: metadata.mode() & 0o7777,
            path: real,
            lock,
            warnings: Vec::new(),
            sync_directory: |directory| File::open(directory)?.sync_all(),
        };
        Ok((locked, bytes))
    }

    /// The path without symbolic links.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Warnings about changes that were made.
    pub(super) fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Writes a backup with the former bytes, then replaces the content.
    pub(super) fn replace(&mut self, former: &[u8], bytes: &[u8]) -> Result<(), HubError> {
        let staged = self.stage(former, bytes)?;
        self.commit(staged)
    }

    /// The part of [`Locked::replace`] that is likely to fail. It does not change the file itself.
    pub(super) fn stage(&mut self, former: &[u8], bytes: &[u8]) -> Result<Staged, HubError> {
        let attributes = Attributes::of(&self.path).map_err(failed(&self.path))?;
        if attributes.has_acl {
            let why = format!(
                "it has an ACL, which would be lost when the file gets mode {MODE:04o}: remove the ACL with `setfacl -b` \
                 first"
            );
            let path = self.path.clone();
            return Err(HubError::Refused { path, why });
        }
        backup::keep(self, former)?;
        let staged = self.temporary(&self.path, bytes, &attributes);
        staged.map(Staged).map_err(failed(&self.path))
    }

    /// The rest of [`Locked::replace`]. Afterwards the file has the new content, or is unchanged after an
    /// error.
    pub(super) fn commit(&mut self, staged: Staged) -> Result<(), HubError> {
        let path = self.path.clone();
        self.rename(staged.0, &path).map_err(failed(&path))?;
        if self.mode != MODE {
            let warning = format!(
                "the mode of {} is now {MODE:04o}, it was {:04o}: the file contains a private key",
                path.display(),
                self.mode
            );
            self.mode = MODE;
            self.warn(warning);
        }
        Ok(())
    }

    /// Restores the former content.
    pub(super) fn restore(&mut self, former: &[u8]) -> Result<(), HubError> {
        let path = self.path.clone();
        self.write(&path, former).map_err(failed(&path))
    }

    /// The content before the last change by Adit; `None`: it is not known.
    pub(super) fn former(&self) -> Option<Vec<u8>> {
        backup::last(self).and_then(|path| files::read(&path).ok())
    }

    /// The path of the backup of the last change.
    pub(super) fn backup(&self) -> PathBuf {
        backup::last(self).unwrap_or_else(|| beside(&self.path, ".bak"))
    }

    /// Replaces a file as a whole or not at all, with mode 0600.
    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let attributes = Attributes::of(path)?;
        let file = self.temporary(path, bytes, &attributes)?;
        self.rename(file, path)
    }

    /// A temporary file beside `path`, with the content, owner, mode and attributes that `path` will get.
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

    /// Renames a temporary file to `path`. If the directory can't be synced afterwards, this is a warning and
    /// not an error, because the file is replaced already.
    fn rename(&mut self, file: NamedTempFile, path: &Path) -> io::Result<()> {
        file.persist(path).map_err(|error| error.error)?;
        let directory = directory(path);
        if let Err(error) = (self.sync_directory)(directory) {
            self.warn(format!(
                "{} is written, but a loss of power may restore its previous content: can't sync {}: {error}",
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

impl FileOwner {
    fn of(metadata: &fs::Metadata) -> FileOwner {
        FileOwner {
            user: metadata.uid(),
            group: metadata.gid(),
        }
    }
}

/// Opens the lock file. It is created if needed, with the owner of the locked file.
fn open_lock(path: &Path, owner: FileOwner) -> io::Result<File> {
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

fn give(file: &File, owner: FileOwner) -> io::Result<()> {
    if FileOwner::of(&file.metadata()?) == owner {
        return Ok(());
    }
    fchown(file, Some(owner.user), Some(owner.group))
}

fn directory(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new("/"))
}

/// The path with a further ending.
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
