//! Which modules a kernel must load for given modules, and in which order.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

/// The modules.dep and modules.builtin of a kernel (depmod(8), modules.dep(5)).
pub(super) struct Modules {
    /// By name: the file, relative to lib/modules/RELEASE, and the files it needs, the deepest last.
    files: BTreeMap<String, (String, Vec<String>)>,
    builtin: BTreeSet<String>,
}

impl Modules {
    /// Reads them from lib/modules/RELEASE.
    pub(super) fn read(dir: &Path) -> Result<Self> {
        let dep = fs::read_to_string(dir.join("modules.dep"))
            .with_context(|| format!("reading {}/modules.dep", dir.display()))?;
        Ok(Self::parse(
            &dep,
            &fs::read_to_string(dir.join("modules.builtin")).unwrap_or_default(),
        ))
    }

    fn parse(dep: &str, builtin: &str) -> Self {
        let entry = |line: &str| {
            let (file, needs) = line.split_once(':')?;
            let needs = needs.split_ascii_whitespace().map(str::to_owned).collect();
            Some((module_name(file), (file.to_owned(), needs)))
        };
        Self {
            files: dep.lines().filter_map(entry).collect(),
            builtin: builtin.lines().map(module_name).collect(),
        }
    }

    /// The files of `wanted` and of all their dependencies, each once and after its dependencies, without built-in
    /// modules.
    pub(super) fn load_order(&self, wanted: &[&str]) -> Result<Vec<String>> {
        let mut order: Vec<String> = Vec::new();
        for name in wanted {
            let Some((file, needs)) = self.files.get(*name) else {
                if self.builtin.contains(*name) {
                    continue;
                }
                bail!("this kernel has no module {name}");
            };
            for next in needs.iter().rev().chain([file]) {
                if !order.contains(next) {
                    order.push(next.clone());
                }
            }
        }
        Ok(order)
    }
}

/// `kernel/fs/9p/9p.ko.xz` is `9p`; hyphens count as underscores.
fn module_name(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEP: &str = "kernel/fs/9p/9p.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/fs/netfs/netfs.ko.xz\n\
                       kernel/net/9p/9pnet_virtio.ko.xz: kernel/net/9p/9pnet.ko.xz kernel/virtio/virtio.ko.xz\n\
                       kernel/drivers/virtio-pci.ko.xz:\n";

    #[test]
    fn dependencies_are_loaded_first_and_once() {
        let order = Modules::parse(DEP, "")
            .load_order(&["virtio_pci", "9pnet_virtio", "9p"])
            .unwrap();
        let files = [
            "kernel/drivers/virtio-pci.ko.xz",
            "kernel/virtio/virtio.ko.xz",
            "kernel/net/9p/9pnet.ko.xz",
            "kernel/net/9p/9pnet_virtio.ko.xz",
            "kernel/fs/netfs/netfs.ko.xz",
            "kernel/fs/9p/9p.ko.xz",
        ];
        assert_eq!(order, files);
    }

    #[test]
    fn built_in_modules_are_skipped_and_missing_ones_are_an_error() {
        let modules = Modules::parse(DEP, "kernel/fs/overlayfs/overlay.ko\n");
        assert_eq!(modules.load_order(&["overlay"]).unwrap(), [""; 0]);
        assert!(
            modules
                .load_order(&["btrfs"])
                .unwrap_err()
                .to_string()
                .contains("btrfs")
        );
    }
}
