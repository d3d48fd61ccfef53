//! Fetches a Debian kernel with the apt of the host, but with separate state: this needs no root, and the package lists
//! of the host stay as they are.
use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::host::{self, Distribution};
use crate::{child, progress};

const KEYRINGS: [&str; 2] = [
    "/usr/share/keyrings/debian-archive-keyring.gpg",
    "/usr/share/keyrings/debian-archive-keyring.pgp",
];

/// Fetches the generic kernel of a suite (the cloud kernel lacks 9p) and unpacks it to the directory `into`, which
/// appears only when it is complete.
pub(super) fn fetch(suite: &str, into: &Path) -> Result<()> {
    let beside = into.parent().context("the cache directory has a parent")?;
    let scratch = tempfile::Builder::new()
        .prefix(".fetch-")
        .tempdir_in(beside)
        .context("creating a scratch directory")?;
    let apt = Apt::new(&scratch.path().join("apt"), suite)?;
    let packages = kernel_packages(|package| apt.depends(package))?;
    let tree = scratch.path().join("tree");
    apt.unpack(&packages, &tree)?;
    index_modules(&tree)?;
    fs::rename(&tree, into).with_context(|| format!("moving the kernel to {}", into.display()))
}

/// Fetches the kernel sources of a suite and unpacks them below `into`. Returns the directory with the Makefile.
pub(super) fn fetch_sources(suite: &str, into: &Path) -> Result<PathBuf> {
    let apt = Apt::new(&into.join("apt"), suite)?;
    let depends = apt.depends("linux-source")?;
    let package = package_names(&depends).find(|name| name.starts_with("linux-source-"));
    let package = package.context("linux-source depends on no sources")?;
    let tree = into.join("tree");
    apt.unpack(&[package.to_owned()], &tree)?;
    child::run(
        Command::new("tar")
            .arg("--directory")
            .arg(into)
            .arg("--extract")
            .arg("--file")
            .arg(tree.join("usr/src").join(format!("{package}.tar.xz"))),
    )?;
    Ok(into.join(package))
}

/// Runs depmod, which the scripts of the package would do at installation.
pub(super) fn index_modules(tree: &Path) -> Result<()> {
    if !tree.join("lib").exists() {
        symlink("usr/lib", tree.join("lib")).context("linking lib")?;
    }
    let depmod = host::find_program("depmod").context("depmod is missing: run `cargo xtask setup`")?;
    for release in
        fs::read_dir(tree.join("lib/modules")).context("the downloaded packages contain no modules")?
    {
        child::run(
            Command::new(&depmod)
                .arg("-b")
                .arg(tree)
                .arg(release?.file_name()),
        )?;
    }
    Ok(())
}

/// The packages of the kernel: the dependencies of linux-image-amd64 whose names have a version.
fn kernel_packages(depends: impl Fn(&str) -> Result<String>) -> Result<Vec<String>> {
    let mut todo = vec!["linux-image-amd64".to_owned()];
    let mut seen = BTreeSet::new();
    while let Some(package) = todo.pop() {
        for dependency in package_names(&depends(&package)?) {
            if is_kernel_part(dependency) && seen.insert(dependency.to_owned()) {
                todo.push(dependency.to_owned());
            }
        }
    }
    if seen.is_empty() {
        bail!("the package linux-image-amd64 depends on no kernel");
    }
    Ok(seen.into_iter().collect())
}

/// Since Linux 7 the image, its modules and the common files are separate packages.
fn is_kernel_part(package: &str) -> bool {
    ["linux-image-", "linux-base-", "linux-binary-", "linux-modules-"]
        .iter()
        .filter_map(|prefix| package.strip_prefix(prefix))
        .any(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// The names in a `Depends` field with entries such as `name:arch (= version) | other`: the first of alternatives.
fn package_names(depends: &str) -> impl Iterator<Item = &str> {
    let end = |c: char| !(c.is_ascii_alphanumeric() || "+-.".contains(c));
    depends
        .split(',')
        .map(move |entry| entry.trim().split(end).next().unwrap_or_default())
}

/// apt with one suite of one mirror, whose files are all below one directory.
struct Apt {
    options: Vec<String>,
}

impl Apt {
    fn new(state: &Path, suite: &str) -> Result<Self> {
        let keyring = KEYRINGS.into_iter().find(|file| Path::new(file).exists());
        let keyring = keyring
            .context("the keyring of the Debian archive is missing: install debian-archive-keyring")?;
        let mirror = mirror()?;
        for below in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(state.join(below)).context("creating the directories of apt")?;
        }
        let sources = format!("deb [arch=amd64 signed-by={keyring}] {mirror} {suite} main\n");
        fs::write(state.join("sources.list"), sources).context("writing the sources.list of apt")?;
        fs::write(state.join("status"), "").context("writing the status file of apt")?;

        let dir = state
            .to_str()
            .context("the path of the cache directory is not UTF-8: set ADIT_CACHE_DIR")?;
        let options = [
            format!("Dir::State={dir}"),
            format!("Dir::State::Lists={dir}/lists"),
            format!("Dir::State::status={dir}/status"),
            format!("Dir::Cache={dir}/cache"),
            format!("Dir::Etc::SourceList={dir}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".into(),
            "Dir::Etc::Preferences=/dev/null".into(),
            "Dir::Etc::PreferencesParts=/dev/null".into(),
            "APT::Architecture=amd64".into(),
            "APT::Architectures=amd64".into(),
            "APT::Sandbox::User=".into(),
            "Acquire::Languages=none".into(),
            "Acquire::Retries=3".into(),
            "Debug::NoLocking=1".into(),
        ];
        let apt = Self {
            options: options.into(),
        };
        child::run(apt.command("apt-get").arg("update"))?;
        Ok(apt)
    }

    /// Downloads packages and unpacks them into one tree.
    fn unpack(&self, packages: &[String], tree: &Path) -> Result<()> {
        progress::say(format_args!("downloading {}…", packages.join(", ")));
        let debs = tempfile::tempdir_in(tree.parent().context("finding the directory for downloads")?)?;
        child::run(
            self.command("apt-get")
                .arg("download")
                .args(packages)
                .current_dir(debs.path()),
        )?;
        for deb in fs::read_dir(debs.path())? {
            child::run(Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(tree))?;
        }
        Ok(())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("LC_ALL", "C.UTF-8")
            .arg("-qq")
            .args(self.options.iter().flat_map(|option| ["-o", option]));
        command
    }

    fn depends(&self, package: &str) -> Result<String> {
        let shown = child::run(
            self.command("apt-cache")
                .args(["show", "--no-all-versions", package]),
        )?;
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        let depends = text.lines().find_map(|line| line.strip_prefix("Depends:"));
        Ok(depends.unwrap_or_default().trim().to_owned())
    }
}

/// The mirror for packages: `$ADIT_VM_DEBIAN_MIRROR`, else the one that this Debian host uses for its own release.
fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var("ADIT_VM_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    let host = Distribution::of_host();
    if host.id != "debian" {
        bail!(
            "apt of this host has no Debian mirror: set ADIT_VM_DEBIAN_MIRROR to one, or ADIT_VM_KERNEL_DIR to a \
             directory with boot/vmlinuz-RELEASE and lib/modules/RELEASE"
        );
    }
    let shown = child::run(Command::new("apt-get").args(["update", "--print-uris"]))?;
    let uris = String::from_utf8_lossy(&shown.stdout);
    let found = mirror_among(&uris, &host.codename);
    found.with_context(|| {
        format!(
            "apt of this host has no source for {}: set ADIT_VM_DEBIAN_MIRROR to a Debian mirror",
            host.codename
        )
    })
}

/// Finds the mirror in lines such as `'MIRROR/dists/bookworm/InRelease' file 0`.
fn mirror_among(uris: &str, codename: &str) -> Option<String> {
    uris.lines().find_map(|line| {
        let (mirror, rest) = line.strip_prefix('\'')?.split_once("/dists/")?;
        (rest.split('/').next() == Some(codename)).then(|| mirror.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn package_names_are_found_in_a_depends_field() {
        let field = "kmod, linux-base (>= 4.3~), initramfs-tools (>= 0.120+deb8u2) | linux-initramfs-tool, libc6:amd64";
        let names: Vec<&str> = package_names(field).collect();
        assert_eq!(names, ["kmod", "linux-base", "initramfs-tools", "libc6"]);
    }

    #[test]
    fn all_packages_of_a_split_kernel_are_found() {
        let depends = |package: &str| {
            Ok(match package {
                "linux-image-amd64" => "linux-image-7.2.1+deb13-amd64 (= 7.2.1-1)",
                "linux-image-7.2.1+deb13-amd64" => {
                    "linux-binary-7.2.1+deb13-amd64 (= 7.2.1-1), linux-modules-7.2.1+deb13-amd64, linux-base (>= 4)"
                }
                "linux-modules-7.2.1+deb13-amd64" => "linux-base-7.2.1+deb13-amd64, linux-image-7.2.1+deb13-amd64",
                _ => "",
            }
            .to_owned())
        };
        let parts =
            ["base", "binary", "image", "modules"].map(|part| format!("linux-{part}-7.2.1+deb13-amd64"));
        assert_eq!(kernel_packages(depends).unwrap(), parts);
        assert!(kernel_packages(|_| Ok("linux-base".into())).is_err());
    }

    #[test]
    fn the_mirror_is_that_of_the_release_of_the_host() {
        let uris = "'http://m.example/security/dists/bookworm-security/InRelease' a 0\n\
                    'http://m.example/debian/dists/bookworm/InRelease' b 0\n";
        assert_eq!(
            mirror_among(uris, "bookworm").as_deref(),
            Some("http://m.example/debian")
        );
        assert_eq!(mirror_among(uris, "trixie"), None);
    }
}
