//! Hardware virtualisation or emulation: KVM is believed only once a guest has said something.
use std::env;
use std::fs::{self, File, OpenOptions};
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

use crate::workspace;

/// How the guest's processor is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Accel {
    /// By the host's.
    Kvm,
    /// By QEMU's translator.
    Tcg,
}

impl Accel {
    /// For messages.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Tcg => "emulated",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg",
        }
    }
}

impl FromStr for Accel {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "kvm" => Ok(Self::Kvm),
            "tcg" => Ok(Self::Tcg),
            other => bail!("`{other}` is neither kvm nor tcg"),
        }
    }
}

/// What is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// This one.
    Settled(Accel),
    /// Nobody knows yet whether this host's KVM works: try it.
    TryKvm,
}

/// `$ADIT_VM_ACCEL`, else emulation when /dev/kvm can't be opened, else what was found out since the host's boot.
pub(super) fn choose() -> Result<Choice> {
    if let Ok(name) = env::var("ADIT_VM_ACCEL") {
        return Ok(Choice::Settled(name.parse().context("ADIT_VM_ACCEL")?));
    }
    if OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .is_err()
    {
        return Ok(Choice::Settled(Accel::Tcg));
    }
    let known = fs::read_to_string(verdict_file()?).unwrap_or_default();
    Ok(verdict_in(&known, &host_identity()?).map_or(Choice::TryKvm, Choice::Settled))
}

/// Keeps what a trial showed, until the host boots again.
pub(super) fn remember(accel: Accel) -> Result<()> {
    let file = verdict_file()?;
    let mut scratch = tempfile::NamedTempFile::new_in(file.parent().context("the cache folder")?)?;
    std::io::Write::write_all(
        &mut scratch,
        format!("{} {}\n", host_identity()?, accel.name()).as_bytes(),
    )?;
    let _: File = scratch
        .persist(&file)
        .with_context(|| format!("writing {}", file.display()))?;
    Ok(())
}

fn verdict_in(text: &str, host: &str) -> Option<Accel> {
    text.trim().strip_prefix(host)?.trim().parse().ok()
}

fn verdict_file() -> Result<PathBuf> {
    Ok(workspace::cache_dir()?.join("kvm-verdict"))
}

/// The kernel's release and the boot's id: another host kernel may bring a KVM that works.
fn host_identity() -> Result<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?;
    let name = nix::sys::utsname::uname().context("uname")?;
    Ok(format!("{} {}", name.release().to_string_lossy(), id.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_this_boots_only() {
        assert_eq!(verdict_in("6.18 abc tcg\n", "6.18 abc"), Some(Accel::Tcg));
        assert_eq!(verdict_in("6.18 abc kvm\n", "6.18 abc"), Some(Accel::Kvm));
        assert_eq!(verdict_in("6.18 abc kvm\n", "6.18 def"), None);
        assert_eq!(verdict_in("", "6.18 abc"), None);
        assert_eq!(verdict_in("6.18 abc\n", "6.18 abc"), None);
    }
}
