//! BPF file systems of a test's own.

use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A BPF file system on a fresh directory, gone with this value, and all that is only pinned there with it.
#[derive(Debug)]
pub struct Bpffs {
    directory: TempDir,
    mounted: bool,
}

impl Bpffs {
    /// Mounts one; needs root.
    ///
    /// # Panics
    /// When it can't be mounted.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a kernel object")]
    pub fn new() -> Bpffs {
        let mut bpffs = Bpffs::unmounted();
        bpffs.mount();
        bpffs
    }

    /// The directory alone, on which none is mounted yet.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn unmounted() -> Bpffs {
        Bpffs::on(tempfile::tempdir().expect("a temporary directory"))
    }

    /// The same on a directory of the caller's.
    #[must_use]
    pub fn on(directory: TempDir) -> Bpffs {
        Bpffs {
            directory,
            mounted: false,
        }
    }

    /// Mounts one; needs root.
    ///
    /// # Panics
    /// When it can't be mounted.
    pub fn mount(&mut self) {
        let path = self.directory.path();
        mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>)
            .expect("root mounts a BPF file system");
        self.mounted = true;
    }

    /// A directory on it that does not exist yet, as `/sys/fs/bpf/adit` is before the first start.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.directory.path().join("adit")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let path = self.directory.path();
        if self.mounted
            && let Err(error) = umount2(path, MntFlags::MNT_DETACH)
        {
            eprintln!("unmounting {}: {error}", path.display());
        }
    }
}
