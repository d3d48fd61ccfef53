//! bpf-linker: a known version, installed in the cache directory of the project, never over one of the user.
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::tools;
use crate::{child, host, progress, workspace};

const VERSION: &str = "0.13.0";
/// Where Debian installs the LLVM that rustc-web is built with.
const LLVM: &str = "/usr/lib/llvm-22";
const FEATURES: [&str; 3] = ["--no-default-features", "--features", "llvm-22"];

/// Whether neither the cache nor the PATH has a bpf-linker of [`VERSION`].
pub(super) fn is_missing() -> bool {
    !tools::is_bpf_prebuilt() && !is_installed() && users_own().is_none()
}

/// The bpf-linker in the PATH of the user, if it has the right version. Not looked for if the cache has one.
pub(super) fn users_own() -> Option<PathBuf> {
    if is_installed() {
        return None;
    }
    let file = host::find_program("bpf-linker")?;
    let said = child::run(Command::new(&file).arg("--version")).ok()?.stdout;
    (String::from_utf8_lossy(&said).trim() == format!("bpf-linker {VERSION}")).then_some(file)
}

/// Whether the LLVM prefix has the shared library that bpf-linker is linked to.
pub(super) fn llvm_is_there() -> bool {
    tools::files(&llvm().join("lib"))
        .iter()
        .any(|name| name.starts_with("libLLVM") && name.contains(".so"))
        && (is_installed() || llvm().join("bin/llvm-config").exists())
}

/// Builds bpf-linker into the cache. The directory appears only when it is complete.
pub(super) fn install() -> Result<()> {
    let into = folder()?;
    let beside = into.parent().context("the cache directory has a parent")?;
    fs::create_dir_all(beside).with_context(|| format!("creating {}", beside.display()))?;
    let scratch = tempfile::Builder::new()
        .prefix(".bpf-linker-")
        .tempdir_in(beside)
        .context("creating a scratch directory")?;
    progress::say(format_args!("building bpf-linker {VERSION} (a minute or two)…"));
    let root = scratch.path().join("root");
    // Not in the target directory of the workspace, which may be locked, and without the flags of the workspace.
    let mut command = workspace::cargo();
    command
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("RUSTFLAGS");
    command.current_dir(scratch.path()).env("LLVM_PREFIX", llvm());
    command
        .args(["install", "bpf-linker", "--version", VERSION])
        .args(FEATURES)
        .arg("--root")
        .arg(&root);
    child::run(&mut command).context("building bpf-linker")?;
    if !host::is_executable(&root.join("bin/bpf-linker")) {
        bail!(
            "cargo succeeded but installed no bpf-linker in {}",
            root.display()
        );
    }
    if into.exists() {
        fs::remove_dir_all(&into).with_context(|| format!("removing a broken {}", into.display()))?;
    }
    fs::rename(&root, &into).with_context(|| format!("moving bpf-linker to {}", into.display()))
}

/// The command that builds it, for a shell.
pub(super) fn command_line() -> Result<String> {
    let (llvm, into) = (llvm(), folder()?);
    let features = FEATURES.join(" ");
    let root = into.display();
    Ok(format!(
        "LLVM_PREFIX={} cargo install bpf-linker --version {VERSION} {features} --root {root}",
        llvm.display()
    ))
}

fn is_installed() -> bool {
    folder().is_ok_and(|dir| host::is_executable(&dir.join("bin/bpf-linker")))
}

fn folder() -> Result<PathBuf> {
    Ok(workspace::cache_dir()?.join(format!("bpf-linker-{VERSION}")))
}

fn llvm() -> PathBuf {
    env::var_os("LLVM_PREFIX").map_or_else(|| Path::new(LLVM).to_owned(), PathBuf::from)
}
