//! The kernel: its version, its configuration, its modules, and the capabilities of this process.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;
use nix::sys::statfs::{FsType, statfs};

use super::finding::Finding;
use super::overlay::Requirements;
use crate::cli::exit::Failure;
use crate::cli::privilege::{self, BPF, NET_ADMIN, PERFMON};
use crate::kernel::bpf::{self, NewerVersion};
use crate::net::Encapsulation;

/// Facts about the kernel.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// As `uname -r` prints it.
    pub(super) release: String,
    /// Whether it has BTF, which describes its types.
    pub(super) btf: bool,
    /// Whether it compiles BPF programs; `None`: unknown.
    pub(super) jit: Option<bool>,
    /// Which of [`MODULES`] it has, loaded or loadable, in their order; `None`: unknown.
    pub(super) modules: [Option<bool>; MODULES.len()],
    /// The directory for pins, and whether it is on a BPF file system.
    pub(super) bpffs: (PathBuf, bool),
    /// The dataplane of a newer version of Adit there.
    pub(super) newer: Option<NewerVersion>,
    /// Capabilities that are missing.
    pub(super) missing_capabilities: Vec<&'static str>,
}

/// Modules of devices, and the encapsulation that needs each; `None`: every agent needs it.
const MODULES: [(&str, Option<Encapsulation>); 6] = [
    ("dummy", None),
    ("geneve", Some(Encapsulation::Geneve)),
    ("vxlan", Some(Encapsulation::Vxlan)),
    ("ipip", Some(Encapsulation::Ipip)),
    ("ip6_tunnel", Some(Encapsulation::Ipip)),
    ("wireguard", Some(Encapsulation::WireGuard)),
];

/// linux/magic.h
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// The oldest kernel that the programs are tested on.
const OLDEST: (u32, u32) = (6, 1);

impl Facts {
    pub(super) fn gather(root: &Path, bpffs: &Path) -> Result<Facts, Failure> {
        let release = crate::kernel::release();
        let text = |path: &str| fs::read_to_string(root.join(path)).ok();
        let modules = MODULES.map(|(name, _)| has_module(root, &release, name));
        Ok(Facts {
            btf: root.join("sys/kernel/btf/vmlinux").exists(),
            jit: text("proc/sys/net/core/bpf_jit_enable").map(|value| value.trim() != "0"),
            modules,
            bpffs: (bpffs.to_owned(), is_bpffs(bpffs)),
            // If it can't be read, the finding `capabilities` gives the reason.
            newer: bpf::newer(bpffs).ok().flatten(),
            missing_capabilities: privilege::lacking(&[NET_ADMIN, BPF, PERFMON])
                .context("reading this process's capabilities")?,
            release,
        })
    }
}

pub(super) fn judge(facts: &Facts, requirements: &Requirements) -> Vec<Finding> {
    let mut findings = vec![release(&facts.release), btf(facts.btf)];
    findings.extend(facts.jit.map(jit));
    for ((name, encapsulation), has) in MODULES.iter().zip(facts.modules) {
        let needed = encapsulation.map_or(Some(true), |encapsulation| requirements.needs(encapsulation));
        findings.extend(module(name, has, needed, &facts.release));
    }
    findings.push(bpffs(&facts.bpffs.0, facts.bpffs.1, requirements.programs));
    findings.extend(facts.newer.as_ref().map(newer));
    findings.push(capabilities(&facts.missing_capabilities));
    findings
}

fn release(release: &str) -> Finding {
    let evidence = format!("Linux {release}");
    match version(release) {
        Some(version) if version < OLDEST => Finding::error("kernel", evidence, "boot Linux 6.1 or newer"),
        Some(_) => Finding::ok("kernel", evidence),
        None => Finding::warning("kernel", evidence, "make sure that this is Linux 6.1 or newer"),
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn btf(there: bool) -> Finding {
    if there {
        return Finding::ok("btf", "/sys/kernel/btf/vmlinux exists");
    }
    let remedy = "boot a kernel with CONFIG_DEBUG_INFO_BTF=y; kernels of distributions have it";
    Finding::warning("btf", "/sys/kernel/btf/vmlinux does not exist", remedy)
}

fn jit(on: bool) -> Finding {
    if on {
        return Finding::ok("jit", "the kernel compiles BPF programs");
    }
    let remedy = "sysctl -w net.core.bpf_jit_enable=1";
    Finding::warning("jit", "the kernel interprets BPF programs, which is slow", remedy)
}

fn module(name: &str, has: Option<bool>, needed: Option<bool>, release: &str) -> Option<Finding> {
    let evidence = match has {
        Some(true) => return Some(Finding::ok("module", format!("the kernel has module {name}"))),
        Some(false) => format!("the kernel has no module {name}"),
        None => format!(
            "module {name} is not loaded, and its availability is unknown without /lib/modules/{release}"
        ),
    };
    let remedy = format!("modprobe {name}; if that fails, install the package with the kernel modules");
    match (has, needed) {
        (_, Some(false)) => None,
        (Some(false), Some(true)) => Some(Finding::error("module", evidence, remedy)),
        _ => Some(Finding::warning("module", evidence, remedy)),
    }
}

fn bpffs(path: &Path, there: bool, needed: Option<bool>) -> Finding {
    let path = path.display();
    if there {
        return Finding::ok("bpffs", format!("{path} is on a BPF file system"));
    }
    if needed == Some(false) {
        let evidence = format!("{path} is not on a BPF file system, and these manifests need none");
        return Finding::ok("bpffs", evidence);
    }
    let remedy = "mount -t bpf bpf /sys/fs/bpf, or name a directory on a BPF file system with --bpffs";
    Finding::error("bpffs", format!("{path} is not on a BPF file system"), remedy)
}

fn newer(found: &NewerVersion) -> Finding {
    let evidence = format!("a newer version of Adit created {}", found.directory.display());
    let remedy = "run the newer version, or remove the dataplane with its `adit uninstall`";
    Finding::error("bpffs", evidence, remedy)
}

fn capabilities(missing: &[&str]) -> Finding {
    if missing.is_empty() {
        return Finding::ok(
            "capabilities",
            "this process has all capabilities that an agent needs",
        );
    }
    let remedy =
        "run as root, or set AmbientCapabilities=CAP_NET_ADMIN CAP_BPF CAP_PERFMON in the systemd unit";
    Finding::error("capabilities", format!("missing: {}", missing.join(" ")), remedy)
}

/// Whether the kernel has a module. Loaded and built-in modules are below /sys/module, others in the lists of
/// the release. `None` if there are no lists.
pub(super) fn has_module(root: &Path, release: &str, name: &str) -> Option<bool> {
    if root.join("sys/module").join(name).exists() {
        return Some(true);
    }
    let lists = root.join("lib/modules").join(release);
    let lists = ["modules.dep", "modules.builtin"].map(|list| fs::read_to_string(lists.join(list)).ok());
    if lists.iter().all(Option::is_none) {
        return None;
    }
    let file = format!("/{name}.ko");
    Some(lists.iter().flatten().any(|list| list.contains(&file)))
}

/// Whether a directory is on a BPF file system. Checks its nearest existing parent, because the agent creates
/// it.
fn is_bpffs(path: &Path) -> bool {
    let there = path.ancestors().find_map(|directory| statfs(directory).ok());
    there.is_some_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;

    fn good() -> Facts {
        Facts {
            release: "6.12.1-amd64".to_owned(),
            btf: true,
            jit: Some(true),
            modules: [Some(true); MODULES.len()],
            bpffs: ("/sys/fs/bpf/adit".into(), true),
            newer: None,
            missing_capabilities: Vec::new(),
        }
    }

    fn judged(change: impl FnOnce(&mut Facts)) -> Vec<Finding> {
        let mut facts = good();
        change(&mut facts);
        judge(&facts, &Requirements::default())
    }

    #[test]
    fn a_good_kernel_is_fine() {
        let findings = judged(|_| ());
        assert!(
            findings.iter().all(|finding| finding.level == Level::Ok),
            "{findings:#?}"
        );
        assert_eq!(findings.len(), 5 + MODULES.len());
    }

    #[test]
    fn old_kernels_are_found() {
        for (release, expected) in [
            ("5.10.0-28-amd64", Level::Error),
            ("6.0.1", Level::Error),
            ("6.1.0", Level::Ok),
        ] {
            let findings = judged(|facts| facts.release = release.to_owned());
            assert_eq!(level(&findings, "kernel"), expected, "{release}");
        }
        assert_eq!(
            level(&judged(|f| f.release = "custom".to_owned()), "kernel"),
            Level::Warning
        );
    }

    #[test]
    fn missing_btf_jit_bpffs_and_capabilities_are_found() {
        assert_eq!(level(&judged(|f| f.btf = false), "btf"), Level::Warning);
        assert_eq!(level(&judged(|f| f.jit = Some(false)), "jit"), Level::Warning);
        assert_eq!(level(&judged(|f| f.bpffs.1 = false), "bpffs"), Level::Error);
        let needed = |needed| bpffs(Path::new("/sys/fs/bpf/adit"), false, needed).level;
        assert_eq!([Some(true), Some(false)].map(needed), [Level::Error, Level::Ok]);
        let findings = judged(|f| f.missing_capabilities = vec!["CAP_BPF"]);
        assert_eq!(level(&findings, "capabilities"), Level::Error);
    }

    #[test]
    fn a_newer_dataplane_is_found() {
        let newer = NewerVersion {
            directory: "/sys/fs/bpf/adit/v99".into(),
            version: 99,
        };
        let findings = judged(|f| f.newer = Some(newer));
        let bad = findings.iter().filter(|finding| finding.level == Level::Error);
        assert_eq!(bad.map(|finding| finding.check).collect::<Vec<_>>(), ["bpffs"]);
    }

    #[test]
    fn a_missing_module_is_as_bad_as_it_is_needed() {
        let of = |has, needed| module("geneve", has, needed, "6.12").map(|finding| finding.level);
        assert_eq!(of(Some(false), Some(true)), Some(Level::Error));
        assert_eq!(of(Some(false), None), Some(Level::Warning));
        assert_eq!(of(Some(false), Some(false)), None);
        assert_eq!(of(None, Some(true)), Some(Level::Warning));
    }

    #[test]
    fn modules_are_found_in_the_lists_of_the_release() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(has_module(root.path(), "6.12", "geneve"), None);
        let lists = root.path().join("lib/modules/6.12");
        fs::create_dir_all(&lists).unwrap();
        fs::write(
            lists.join("modules.dep"),
            "kernel/drivers/net/geneve.ko.xz: a.ko\n",
        )
        .unwrap();
        assert_eq!(has_module(root.path(), "6.12", "geneve"), Some(true));
        assert_eq!(has_module(root.path(), "6.12", "vxlan"), Some(false));
        fs::create_dir_all(root.path().join("sys/module/vxlan")).unwrap();
        assert_eq!(has_module(root.path(), "6.12", "vxlan"), Some(true));
    }
}
