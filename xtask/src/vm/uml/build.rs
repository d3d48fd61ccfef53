//! Builds user-mode Linux from the kernel sources that Debian packages, once per machine and configuration.
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

/// The kernel options, one a line.
const CONFIGURATION: &str = include_str!("kernel.config");
/// Patches for the sources, each with its reason at the top.
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
/// How often the number of compiled files is printed.
const TOLD_EVERY: Duration = Duration::from_secs(20);

/// Finds the kernel in the cache, or builds it there, which takes some minutes of two CPUs.
pub(in crate::vm) fn locate(name: KernelName) -> Result<Kernel> {
    let all = workspace::cache_dir()?.join("uml");
    let dir = all.join(format!("{}-{:016x}", name.name(), configuration_hash()));
    if !dir.exists() {
        fs::create_dir_all(&all).with_context(|| format!("creating {}", all.display()))?;
        let lock = File::create(all.join(format!(".lock-{}", name.name())))
            .context("creating the lock of the build")?;
        lock.lock().context("locking the build")?;
        if !dir.exists() {
            build(name, &dir).with_context(|| format!("building user-mode Linux {}", name.name()))?;
        }
    }
    kernel::in_dir(&dir).with_context(|| {
        format!(
            "reading user-mode Linux in {} (delete that directory to build it again)",
            dir.display()
        )
    })
}

/// A hash of the configuration and the patches, but not of the version.
fn configuration_hash() -> u64 {
    let mut hasher = DefaultHasher::new();
    (CONFIGURATION, PATCHES).hash(&mut hasher);
    hasher.finish()
}

/// Fetches, patches, configures and compiles. The directory `into` appears only when it is complete.
fn build(name: KernelName, into: &Path) -> Result<()> {
    let beside = into.parent().context("the cache directory has a parent")?;
    let prefix = format!(".build-{}-", name.name());
    // This process has the lock, so existing directories are from a build that was killed.
    for entry in fs::read_dir(beside)?.flatten() {
        if entry.file_name().to_string_lossy().starts_with(&prefix) {
            fs::remove_dir_all(entry.path()).context("removing an unfinished build")?;
        }
    }
    let scratch = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(beside)
        .context("creating a scratch directory")?;
    progress::say(format_args!(
        "user-mode Linux {} is not in {} yet: fetching its sources…",
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
    let mut file = tempfile::tempfile().context("creating a scratch file")?;
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
        // These would be the flags of cargo.
        .env_remove("MAKEFLAGS")
        .env_remove("CARGO_MAKEFLAGS");
    command
}

/// Creates .config from [`CONFIGURATION`], and checks that it has all options.
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
            "the configuration of the kernel lacks {}: correct xtask/src/vm/uml/kernel.config",
            refused.join(", ")
        );
    }
    Ok(())
}

/// The first line of the last section of [`CONFIGURATION`].
const FORMER: &str = "# Options that later kernels have no more";

/// The options of `wanted` that `made` lacks.
fn refused<'a>(wanted: &'a str, made: &str) -> Vec<&'a str> {
    let made: Vec<&str> = made.lines().collect();
    let wanted = wanted.split(FORMER).next().unwrap_or(wanted);
    let asked = wanted.lines().filter(|line| line.starts_with("CONFIG_"));
    asked.filter(|line| !made.contains(line)).collect()
}

/// Compiles, and prints progress now and then.
fn compile(name: KernelName, sources: &Path, build: &Path) -> Result<()> {
    progress::say(format_args!(
        "compiling user-mode Linux {}, once per machine (about 8 CPU minutes)…",
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

/// Creates lib/modules/RELEASE with the program as `vmlinuz`, and with the lists that tell modprobe that everything is
/// built in.
fn install(build: &Path, tree: &Path) -> Result<()> {
    let release = fs::read_to_string(build.join("include/config/kernel.release"))
        .context("reading the release of the kernel")?;
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
    fn options_that_the_configuration_lacks_are_named() {
        let made = "CONFIG_NET=y\n# CONFIG_TUN is not set\nCONFIG_VETHX=y\n";
        let wanted =
            format!("# Devices.\nCONFIG_NET=y\nCONFIG_TUN=y\nCONFIG_VETH=y\n{FORMER}.\nCONFIG_OLD=y\n");
        assert_eq!(refused(&wanted, made), ["CONFIG_TUN=y", "CONFIG_VETH=y"]);
        assert!(CONFIGURATION.contains(FORMER));
    }

    #[test]
    fn patches_have_reasons() {
        for (file, patch) in PATCHES {
            let reason = patch.split("---").next().unwrap().trim();
            assert!(reason.ends_with('.'), "{file}");
        }
    }
}
