//! The ways to run the kernel of a guest, and which of them work on this host.
use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::workspace;

/// A way to run the kernel of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum With {
    /// User-mode Linux, built from the sources of Debian: one CPU, no JIT, no BTF; boots in a second
    Uml,
    /// QEMU, emulating a machine with two CPUs, with the kernel of Debian: about ten times slower
    Qemu,
    /// QEMU with the same machine, by KVM on the processor of the host
    Kvm,
}

impl With {
    /// The name in messages and summaries.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Uml => "user-mode",
            Self::Qemu => "emulated",
            Self::Kvm => "KVM",
        }
    }

    /// How long to wait for the first event of a guest; `None` where this way is known to work on this machine.
    pub(super) fn patience(self) -> Option<Duration> {
        match self {
            Self::Uml => Some(Duration::from_secs(10)),
            Self::Qemu => None,
            Self::Kvm => match kvm_verdict() {
                Some(true) => None,
                _ => Some(Duration::from_secs(8)),
            },
        }
    }
}

/// Which ways to run a kernel a command accepts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Choice {
    /// The fastest way that works on this machine.
    #[default]
    Fastest,
    /// The fastest way with several CPUs, a JIT, BTF and the kernel of Debian.
    Machine,
    /// This way or an error.
    Only(With),
}

impl Choice {
    /// The choice for an option `--with`; without it, the fastest.
    pub fn of(with: Option<With>) -> Self {
        with.map_or(Self::Fastest, Self::Only)
    }

    /// The ways to try, in order; never empty.
    pub(super) fn candidates(self) -> Vec<With> {
        let kvm = (is_kvm_there() && kvm_verdict() != Some(false)).then_some(With::Kvm);
        match self {
            Self::Fastest => kvm.into_iter().chain([With::Uml, With::Qemu]).collect(),
            Self::Machine => kvm.into_iter().chain([With::Qemu]).collect(),
            Self::Only(with) => vec![with],
        }
    }
}

fn is_kvm_there() -> bool {
    OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

/// Whether KVM runs guests on this machine; `None` if that was not tried since the host booted.
fn kvm_verdict() -> Option<bool> {
    let known = fs::read_to_string(verdict_file().ok()?).ok()?;
    verdict_in(&known, &host_identity().ok()?)
}

/// Stores whether KVM works, until the host boots again.
pub(super) fn remember_kvm(works: bool) -> Result<()> {
    let file = verdict_file()?;
    let mut scratch = tempfile::NamedTempFile::new_in(file.parent().context("the cache directory")?)?;
    let verdict = if works { "works" } else { "silent" };
    scratch.write_all(format!("{} {verdict}\n", host_identity()?).as_bytes())?;
    let _: File = scratch
        .persist(&file)
        .with_context(|| format!("writing {}", file.display()))?;
    Ok(())
}

fn verdict_in(text: &str, host: &str) -> Option<bool> {
    match text.trim().strip_prefix(host)?.trim() {
        "works" => Some(true),
        "silent" => Some(false),
        _ => None,
    }
}

fn verdict_file() -> Result<PathBuf> {
    let cache = workspace::cache_dir()?;
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    Ok(cache.join("kvm-verdict"))
}

/// The release of the kernel and the id of the boot, because KVM may work with another kernel of the host.
fn host_identity() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?;
    let name = nix::sys::utsname::uname().context("uname")?;
    Ok(format!("{} {}", name.release().to_string_lossy(), id.trim()))
}

/// A directory for the memory of a guest: with room for `bytes`, without `noexec`, and in memory if possible.
pub(super) fn memory_dir(bytes: u64) -> Result<PathBuf> {
    let candidates = [
        PathBuf::from("/dev/shm"),
        env::temp_dir(),
        workspace::cache_dir()?,
    ];
    let fits = |dir: &PathBuf| {
        nix::sys::statvfs::statvfs(dir).is_ok_and(|stat| {
            let noexec = stat.flags().contains(nix::sys::statvfs::FsFlags::ST_NOEXEC);
            !noexec && stat.blocks_available() * stat.fragment_size() >= bytes
        })
    };
    candidates.into_iter().find(fits).with_context(|| {
        format!(
            "neither /dev/shm nor the temporary directory nor the cache has {} MiB on a file system without noexec: \
             set TMPDIR or ADIT_CACHE_DIR",
            bytes >> 20
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_valid_for_one_boot_only() {
        assert_eq!(verdict_in("6.18 abc silent\n", "6.18 abc"), Some(false));
        assert_eq!(verdict_in("6.18 abc works\n", "6.18 abc"), Some(true));
        assert_eq!(verdict_in("6.18 abc works\n", "6.18 def"), None);
        assert_eq!(verdict_in("", "6.18 abc"), None);
        assert_eq!(verdict_in("6.18 abc\n", "6.18 abc"), None);
    }

    #[test]
    fn emulation_is_the_last_resort_and_a_machine_is_never_user_mode() {
        assert_eq!(Choice::Fastest.candidates().last(), Some(&With::Qemu));
        assert!(Choice::Fastest.candidates().contains(&With::Uml));
        assert!(!Choice::Machine.candidates().contains(&With::Uml));
        assert_eq!(Choice::of(Some(With::Uml)).candidates(), [With::Uml]);
    }

    #[test]
    fn memory_needs_room() {
        assert!(memory_dir(1 << 20).is_ok());
        assert!(memory_dir(u64::MAX).is_err());
    }
}
