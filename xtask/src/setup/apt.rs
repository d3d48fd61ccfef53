//! Installs Debian packages as root, or names the commands to run.
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{child, host, progress};

/// Updates the package lists and installs packages, quietly; an error has the last lines of the output of apt.
pub(super) fn install(packages: &[&str]) -> Result<()> {
    let listed = packages.join(" ");
    if !host::is_root() {
        bail!(
            "packages are missing, and only root can install them; run:\n    sudo apt-get update\n    \
             sudo apt-get install --no-install-recommends {listed}"
        );
    }
    progress::say(format_args!("installing {listed}…"));
    child::run(apt_get().arg("update")).context("updating the package lists")?;
    child::run(
        apt_get()
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages),
    )
    .with_context(|| format!("installing {listed}"))?;
    Ok(())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null());
    // Wait for another apt that runs, such as an unattended upgrade.
    command.args(["-qq", "-o", "DPkg::Lock::Timeout=120", "-o", "Acquire::Retries=3"]);
    command
}
