//! The kernels to test on, and where their files are.
use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::fetch;
use crate::{progress, workspace};

/// A kernel, by the name that users give it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum KernelName {
    /// The oldest supported kernel; without TCX
    #[value(name = "6.1")]
    V6_1,
    /// The default kernel of the lab; with TCX
    #[default]
    #[value(name = "6.12")]
    V6_12,
    /// The newest kernel in the backports of Debian stable
    #[value(name = "latest")]
    Latest,
}

impl KernelName {
    /// The name, as `--kernel` accepts it.
    pub fn name(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Latest => "latest",
        }
    }

    /// The Debian suite whose linux-image-amd64 is this kernel.
    pub(super) fn suite(self) -> &'static str {
        match self {
            Self::V6_1 => "bookworm",
            Self::V6_12 => "bookworm-backports",
            Self::Latest => "trixie-backports",
        }
    }

    fn fits(self, release: &str) -> bool {
        self == Self::Latest
            || release
                .strip_prefix(self.name())
                .is_some_and(|rest| rest.starts_with(['.', '-']))
    }
}

/// The files of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kernel {
    /// The release, as `uname -r` prints it in the guest.
    pub(super) release: String,
    /// The bzImage.
    pub(super) image: PathBuf,
    /// lib/modules/RELEASE, with modules.dep.
    pub(super) modules: PathBuf,
}

/// Finds the files of a kernel: below `$ADIT_VM_KERNEL_DIR`, else in the cache. Fetches it into the cache if needed.
pub(super) fn locate(name: KernelName) -> Result<Kernel> {
    if let Some(dir) = env::var_os("ADIT_VM_KERNEL_DIR") {
        return in_named_dir(name, Path::new(&dir));
    }
    let kernels = workspace::cache_dir()?.join("kernels");
    let dir = kernels.join(name.name());
    if !dir.exists() {
        fs::create_dir_all(&kernels).with_context(|| format!("creating {}", kernels.display()))?;
        let lock = File::create(kernels.join(".lock")).context("creating the lock of the kernel cache")?;
        lock.lock().context("locking the kernel cache")?;
        if !dir.exists() {
            progress::say(format_args!(
                "fetching Debian's kernel {} ({})…",
                name.name(),
                name.suite()
            ));
            fetch::fetch(name.suite(), &dir).with_context(|| format!("fetching kernel {}", name.name()))?;
        }
    }
    let kernel = in_dir(&dir).with_context(|| {
        format!(
            "reading the cached kernel {} (delete that directory to fetch it again)",
            dir.display()
        )
    })?;
    Ok(kernel)
}

fn in_named_dir(name: KernelName, dir: &Path) -> Result<Kernel> {
    let own = dir.join(name.name());
    let kernel = in_dir(if own.is_dir() { &own } else { dir }).context("ADIT_VM_KERNEL_DIR")?;
    if !name.fits(&kernel.release) {
        bail!(
            "ADIT_VM_KERNEL_DIR: {} has Linux {}, not {}: put that kernel into its subdirectory {}, or use `--kernel latest`",
            dir.display(),
            kernel.release,
            name.name(),
            name.name()
        );
    }
    Ok(kernel)
}

/// Looks for lib/modules/RELEASE, and for the image in it or in boot/. Of several kernels, the running one is chosen.
pub(super) fn in_dir(dir: &Path) -> Result<Kernel> {
    let running = nix::sys::utsname::uname()
        .ok()
        .map(|name| name.release().to_string_lossy().into_owned());
    let mut found = Vec::new();
    for modules in ["lib/modules", "usr/lib/modules"].map(|below| dir.join(below)) {
        for entry in fs::read_dir(&modules).into_iter().flatten().flatten() {
            let release = entry.file_name().to_string_lossy().into_owned();
            let images = [
                entry.path().join("vmlinuz"),
                dir.join("boot").join(format!("vmlinuz-{release}")),
            ];
            let Some(image) = images.into_iter().find(|image| image.is_file()) else {
                continue;
            };
            found.push(Kernel {
                release,
                image,
                modules: entry.path(),
            });
        }
    }
    found.sort_by(|a, b| a.release.cmp(&b.release));
    found.dedup_by(|a, b| a.release == b.release);
    let index = match found.len() {
        0 => bail!(
            "{} has no lib/modules/RELEASE with a vmlinuz in it or in boot/",
            dir.display()
        ),
        1 => 0,
        _ => found
            .iter()
            .position(|kernel| Some(&kernel.release) == running.as_ref())
            .with_context(|| {
                format!(
                    "{} has several kernels, and none of them is the running one: leave only one",
                    dir.display()
                )
            })?,
    };
    let kernel = found.swap_remove(index);
    if !kernel.modules.join("modules.dep").is_file() {
        bail!(
            "{}/modules.dep is missing: run `depmod -b {} {}`",
            kernel.modules.display(),
            dir.display(),
            kernel.release
        );
    }
    Ok(kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_fits_its_releases_only() {
        assert!(KernelName::V6_1.fits("6.1.0-50-amd64") && !KernelName::V6_1.fits("6.12.9+bpo-amd64"));
        assert!(KernelName::V6_12.fits("6.12.9+bpo-amd64") && KernelName::Latest.fits("7.2.1"));
    }

    #[test]
    fn the_image_may_be_in_boot_or_beside_the_modules() {
        let dir = tempfile::tempdir().unwrap();
        let modules = dir.path().join("usr/lib/modules/6.1.7-x");
        fs::create_dir_all(&modules).unwrap();
        fs::write(modules.join("modules.dep"), "").unwrap();
        assert!(in_dir(dir.path()).is_err());

        fs::create_dir(dir.path().join("boot")).unwrap();
        fs::write(dir.path().join("boot/vmlinuz-6.1.7-x"), "").unwrap();
        assert_eq!(
            in_dir(dir.path()).unwrap().image,
            dir.path().join("boot/vmlinuz-6.1.7-x")
        );
        fs::write(modules.join("vmlinuz"), "").unwrap();
        assert_eq!(in_dir(dir.path()).unwrap().image, modules.join("vmlinuz"));
        assert!(in_named_dir(KernelName::V6_12, dir.path()).is_err());
    }
}
