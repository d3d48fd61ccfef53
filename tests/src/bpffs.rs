//! BPF file systems of a test's own.

use std::path::PathBuf;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use tempfile::TempDir;

/// A BPF file system mounted on a fresh directory, gone with this value, and all that is only pinned there with it.
#[derive(Debug)]
pub struct Bpffs(TempDir);

impl Bpffs {
    /// Mounts one; needs root.
    ///
    /// # Panics
    /// When it can't be mounted.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a kernel object")]
    pub fn new() -> Bpffs {
        let directory = tempfile::tempdir().expect("a temporary directory");
        mount(
            Some("bpf"),
            directory.path(),
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .expect("root mounts a BPF file system");
        Bpffs(directory)
    }

    /// A directory on it that does not exist yet, as `/sys/fs/bpf/adit` is before the first start.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.0.path().join("adit")
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        if let Err(error) = umount2(self.0.path(), MntFlags::MNT_DETACH) {
            eprintln!("unmounting {}: {error}", self.0.path().display());
        }
    }
}
