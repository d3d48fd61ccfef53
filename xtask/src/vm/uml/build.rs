//! Builds user-mode Linux from Debian's package of kernel sources, once a machine and configuration.
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::vm::fetch;
use crate::vm::kernel::{self, Kernel, KernelName};
use crate::{child, progress, workers, workspace};

/// What is built in, a line an option.
const CONFIGURATION: &str = include_str!("kernel.config");
/// Changes to the sources, each with its reason at its top.
const PATCHES: [(&str, &str); 2] = [
    (
        "bpf-refill-at-once.patch",
        include_str!("patches/bpf-refill-at-once.patch"),
    ),
    (
        "host-registers-of-any-size.patch",
        include_str!("patches/host-registers-of-any-size.patch"),
    ),
];
/// How often the number of compiled files is told.
const TOLD_EVERY: Duration = Duration::from_secs(20);

/// Takes the kernel from the cache, or builds it into the cache: some minutes of two CPUs.
pub(in crate::vm) fn locate(name: KernelName) -> Result<Kernel> {
    let all = workspace::cache_dir()?.join("uml");
    let dir = all.join(format!("{}-{:016x}", name.name(), configuration_hash()));
    if !dir.exists() {
        fs::create_dir_all(&all).with_context(|| format!("creating {}", all.display()))?;
        let lock = File::create(all.join(format!(".lock-{}", name.name()))).context("the build's lock")?;
        lock.lock().context("locking the build")?;
        if !dir.exists() {
            build(name, &dir).with_context(|| format!("building user-mode Linux {}", name.name()))?;
        }
    }
    kernel::in_dir(&dir).with_context(|| {
        format!(
            "user-mode Linux in {} (delete it to have it built again)",
            dir.display()
        )
    })
}

/// Changes with what the kernel would be built of, its version apart.
fn configuration_hash() -> u64 {
    let mut hasher = DefaultHasher::new();
    (CONFIGURATION, PATCHES).hash(&mut hasher);
    hasher.finish()
}

/// Fetches, patches, configures and compiles; the directory `into` appears only when it's complete.
fn build(name: KernelName, into: &Path) -> Result<()> {
    let beside = into.parent().context("the cache directory has a parent")?;
    let prefix = format!(".build-{}-", name.name());
    // We have the lock: what is there was left by a build that was killed.
    for entry in fs::read_dir(beside)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_dir_all(entry.path()).context("removing an unfinished build")?;
        }
    }
    let scratch = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(beside)
        .context("a scratch directory")?;
    progress::say(format_args!(
        "no user-mode Linux {} in {}: fetching its sources…",
        name.name(),
        into.display()
    ));
    let sources = fetch::fetch_sources(name.suite(), scratch.path())?;
    for (file, patch) in PATCHES {
        apply(patch, &sources).with_context(|| format!("applying {file}"))?;
    }
    let build = scratch.path().join("build");
    fs::create_dir(&build)?;
    configure(&sources, &build)?;
    compile(name, &sources, &build)?;

    let tree = scratch.path().join("tree");
    install(&build, &tree)?;
    fs::rename(&tree, into).with_context(|| format!("moving the kernel to {}", into.display()))
}

fn apply(patch: &str, sources: &Path) -> Result<()> {
    let mut file = tempfile::tempfile().context("a scratch file")?;
    file.write_all(patch.as_bytes())?;
    std::io::Seek::rewind(&mut file)?;
    let mut command = Command::new("patch");
    command
        .args(["--strip=1", "--forward", "--no-backup-if-mismatch", "--directory"])
        .arg(sources)
        .stdin(file);
    child::run(&mut command).map(drop)
}

fn make(sources: &Path, build: &Path) -> Command {
    let mut command = Command::new("make");
    command
        .arg("-C")
        .arg(sources)
        .arg(format!("O={}", build.display()))
        .args(["ARCH=um", &format!("-j{}", workers::count())])
        .env("LC_ALL", "C.UTF-8")
        // Not cargo's.
        .env_remove("MAKEFLAGS")
        .env_remove("CARGO_MAKEFLAGS");
    command
}

/// Makes .config of [`CONFIGURATION`], and checks that all of it is in.
fn configure(sources: &Path, build: &Path) -> Result<()> {
    let fragment = build.join("fragment");
    fs::write(&fragment, CONFIGURATION)?;
    child::run(
        make(sources, build)
            .arg("allnoconfig")
            .env("KCONFIG_ALLCONFIG", &fragment),
    )?;
    let made = fs::read_to_string(build.join(".config")).context("reading the configuration")?;
    let refused = refused(CONFIGURATION, &made);
    if !refused.is_empty() {
        bail!(
            "the kernel's configuration refuses {}: correct xtask/src/vm/uml/kernel.config",
            refused.join(", ")
        );
    }
    Ok(())
}

/// What the last section of [`CONFIGURATION`] begins with.
const FORMER: &str = "# Options that later kernels have no more";

/// The lines that are asked for and not there.
fn refused<'a>(wanted: &'a str, made: &str) -> Vec<&'a str> {
    let made: Vec<&str> = made.lines().collect();
    let wanted = wanted.split(FORMER).next().unwrap_or(wanted);
    let asked = wanted.lines().filter(|line| line.starts_with("CONFIG_"));
    asked.filter(|line| !made.contains(line)).collect()
}

/// Compiles, and tells now and then how far it is.
fn compile(name: KernelName, sources: &Path, build: &Path) -> Result<()> {
    progress::say(format_args!(
        "compiling Linux {} for user mode, once on this machine (about 8 CPU minutes)…",
        name.name()
    ));
    let log = build.join("errors");
    let mut command = make(sources, build);
    command
        .arg("linux")
        .stdout(Stdio::piped())
        .stderr(File::create(&log)?);
    child::tie(&mut command, Vec::new());
    let mut process = command.spawn().context("starting make")?;
    let output = process.stdout.take().context("make's output")?;
    let (mut files, mut told) = (0, Instant::now());
    for line in BufReader::new(output).lines() {
        files += u32::from(line?.starts_with("  CC "));
        if told.elapsed() > TOLD_EVERY {
            told = Instant::now();
            progress::say(format_args!("Linux {}: {files} files compiled", name.name()));
        }
    }
    let status = process.wait().context("waiting for make")?;
    if !status.success() {
        bail!("make: {status}\n{}", child::tail(&fs::read(&log)?, 20));
    }
    Ok(())
}

/// Lays out lib/modules/RELEASE with the program as its `vmlinuz`, and with the lists by which modprobe knows that all is
/// built in.
fn install(build: &Path, tree: &Path) -> Result<()> {
    let release =
        fs::read_to_string(build.join("include/config/kernel.release")).context("the kernel's release")?;
    let modules: PathBuf = tree.join("lib/modules").join(release.trim());
    fs::create_dir_all(&modules)?;
    child::run(
        Command::new("strip")
            .arg("-o")
            .arg(modules.join("vmlinuz"))
            .arg(build.join("linux")),
    )?;
    for list in ["modules.builtin", "modules.builtin.modinfo"] {
        fs::copy(build.join(list), modules.join(list)).with_context(|| format!("copying {list}"))?;
    }
    fs::write(modules.join("modules.order"), "")?;
    fetch::index_modules(tree)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_refuses_is_named() {
        let made = "CONFIG_NET=y\n# CONFIG_TUN is not set\nCONFIG_VETHX=y\n";
        let wanted =
            format!("# Devices.\nCONFIG_NET=y\nCONFIG_TUN=y\nCONFIG_VETH=y\n{FORMER}.\nCONFIG_OLD=y\n");
        assert_eq!(refused(&wanted, made), ["CONFIG_TUN=y", "CONFIG_VETH=y"]);
        assert!(CONFIGURATION.contains(FORMER));
    }

    #[test]
    fn patches_say_why() {
        for (file, patch) in PATCHES {
            let reason = patch.split("---").next().unwrap().trim();
            assert!(reason.ends_with('.'), "{file}");
        }
    }
}
