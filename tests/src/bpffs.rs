//! Separate BPF file systems for tests.

use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A BPF file system on a new directory. Dropping this value unmounts it, and so removes everything that is only pinned
/// there.
#[derive(Debug)]
pub struct Bpffs {
    directory: TempDir,
    mounted: bool,
}

impl Bpffs {
    /// Mounts a BPF file system; needs root.
    ///
    /// # Panics
    /// If it cannot be mounted.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a kernel object")]
    pub fn new() -> Bpffs {
        let mut bpffs = Bpffs::unmounted();
        bpffs.mount();
        bpffs
    }

    /// Creates the directory without mounting a file system.
    ///
    /// # Panics
    /// If it cannot be created.
    #[must_use]
    pub fn unmounted() -> Bpffs {
        Bpffs::on(tempfile::tempdir().expect("a temporary directory"))
    }

    /// Uses a directory of the caller, without mounting a file system.
    #[must_use]
    pub fn on(directory: TempDir) -> Bpffs {
        Bpffs {
            directory,
            mounted: false,
        }
    }

    /// Mounts a BPF file system; needs root.
    ///
    /// # Panics
    /// If it cannot be mounted.
    pub fn mount(&mut self) {
        let path = self.directory.path();
        mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>)
            .expect("root mounts a BPF file system");
        self.mounted = true;
    }

    /// A path on it that does not exist yet, like `/sys/fs/bpf/adit` before the first start.
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
