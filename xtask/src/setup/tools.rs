//! The external programs and libraries that Adit needs: how to detect them, and which packages contain them.
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Need, linker};
use crate::{child, host};

/// An external program or library.
pub(super) struct Tool {
    /// For messages: the name of the program, or a description.
    pub(super) name: &'static str,
    needs: &'static [Need],
    /// The Debian packages, separated by blanks.
    pub(super) debian: &'static str,
    /// The Fedora packages; `None` if Fedora has none.
    pub(super) fedora: Option<&'static str>,
    present: fn(&'static str) -> bool,
}

/// The build script that compiles the BPF programs, which names the toolchain.
const BUILD_SCRIPT: &str = include_str!("../../../dataplane-user/build.rs");

const VM: &[Need] = &[Need::Vm];
const NETWORK: &[Need] = &[Need::Lab, Need::Test];

/// All tools.
pub(super) static ALL: [Tool; 28] = [
    Tool {
        name: "a Rust compiler with a core library for BPF",
        needs: &[Need::Build],
        debian: "rustc-web libstd-rust-web-dev-bpf",
        fedora: None,
        present: |_| is_bpf_prebuilt() || has_bpf_compiler(),
    },
    Tool {
        name: "LLVM 22",
        needs: &[Need::Build],
        debian: "llvm-22-dev",
        fedora: Some("llvm-devel"),
        present: |_| is_bpf_prebuilt() || linker::users_own().is_some() || linker::llvm_is_there(),
    },
    program(
        "qemu-system-x86_64",
        VM,
        "qemu-system-x86",
        "qemu-system-x86-core",
    ),
    program("depmod", VM, "kmod", "kmod"),
    program("xz", VM, "xz-utils", "xz"),
    program("zstd", VM, "zstd", "zstd"),
    Tool {
        name: "busybox (a static one)",
        needs: VM,
        debian: "busybox-static",
        fedora: Some("busybox"),
        present: |_| host::find_program("busybox").is_some_and(|file| host::is_static_program(&file)),
    },
    Tool {
        name: "the keyring of the Debian archive",
        needs: VM,
        debian: "debian-archive-keyring",
        fedora: Some("debian-keyring"),
        present: |_| {
            let fetched = env::var_os("ADIT_VM_KERNEL_DIR").is_none();
            !fetched
                || Path::new("/usr/share/keyrings/debian-archive-keyring.gpg").exists()
                || Path::new("/usr/share/keyrings/debian-archive-keyring.pgp").exists()
        },
    },
    Tool {
        name: "apt-get (or a directory with a kernel in ADIT_VM_KERNEL_DIR)",
        needs: VM,
        debian: "apt",
        fedora: Some("apt dpkg"),
        present: |_| env::var_os("ADIT_VM_KERNEL_DIR").is_some() || host::find_program("apt-get").is_some(),
    },
    // User-mode Linux is built from its sources.
    Tool {
        name: "a C compiler and the headers of the C library",
        needs: VM,
        debian: "gcc libc6-dev",
        fedora: Some("gcc glibc-devel"),
        present: |_| host::find_program("gcc").is_some() && Path::new("/usr/include/stdio.h").exists(),
    },
    program("make", VM, "make", "make"),
    program("flex", VM, "flex", "flex"),
    program("bison", VM, "bison", "bison"),
    program("bc", VM, "bc", "bc"),
    program("patch", VM, "patch", "patch"),
    program("unshare", VM, "util-linux", "util-linux"),
    program("ip", NETWORK, "iproute2", "iproute"),
    program("ping", NETWORK, "iputils-ping", "iputils"),
    program("nft", NETWORK, "nftables", "nftables"),
    program("bpftool", NETWORK, "bpftool", "bpftool"),
    program("tcpdump", NETWORK, "tcpdump", "tcpdump"),
    program("strace", &[Need::Test], "strace", "strace"),
    program("crun", &[Need::Test], "crun", "crun"),
    program("podman", &[Need::Test], "podman", "podman"),
    Tool {
        name: "dockerd (only in CI, because installing it changes the firewall of the machine)",
        needs: &[Need::Test],
        debian: "docker.io",
        fedora: Some("moby-engine"),
        present: |_| {
            let in_ci = env::var("CI").is_ok_and(|ci| ci == "true");
            !in_ci || host::find_program("dockerd").is_some()
        },
    },
    program("wg", &[Need::Test], "wireguard-tools", "wireguard-tools"),
    program("iptables-save", &[Need::Test], "iptables", "iptables-nft"),
    program(
        "promtool",
        &[Need::Test],
        "prometheus",
        "golang-github-prometheus",
    ),
];

const fn program(
    name: &'static str,
    needs: &'static [Need],
    debian: &'static str,
    fedora: &'static str,
) -> Tool {
    Tool {
        name,
        needs,
        debian,
        fedora: Some(fedora),
        present: |name| host::find_program(name).is_some(),
    }
}

/// The tools that one of these needs asks for and that are missing.
pub(super) fn missing(needs: &[Need]) -> Vec<&'static Tool> {
    let wanted = ALL
        .iter()
        .filter(|tool| tool.needs.iter().any(|need| needs.contains(need)));
    wanted.filter(|tool| !(tool.present)(tool.name)).collect()
}

/// The packages of these tools, each once.
pub(super) fn packages(tools: &[&Tool], of: impl Fn(&Tool) -> &'static str) -> Vec<&'static str> {
    let mut all: Vec<&str> = tools
        .iter()
        .flat_map(|tool| of(tool).split(' '))
        .filter(|name| !name.is_empty())
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Whether `$ADIT_BPF_OBJECT` names a prebuilt object, so that nothing is compiled for BPF.
pub(super) fn is_bpf_prebuilt() -> bool {
    env::var_os("ADIT_BPF_OBJECT").is_some()
}

/// Whether a compiler for BPF is installed: `$ADIT_BPF_RUSTC`, rustc-web of Debian, or the [`nightly`] toolchain with
/// the sources of the standard library.
fn has_bpf_compiler() -> bool {
    if let Some(rustc) = env::var_os("ADIT_BPF_RUSTC") {
        let asked = child::run(Command::new(rustc).args(["--print", "sysroot"]));
        return asked
            .is_ok_and(|output| has_bpf_core(Path::new(String::from_utf8_lossy(&output.stdout).trim())));
    }
    Path::new("/usr/bin/rustc").exists() && has_bpf_core(Path::new("/usr")) || has_nightly_sources()
}

fn has_bpf_core(sysroot: &Path) -> bool {
    let libraries = sysroot.join("lib/rustlib/bpfel-unknown-none/lib");
    files(&libraries)
        .iter()
        .any(|name| name.starts_with("libcore-") && name.ends_with(".rlib"))
}

/// The nightly toolchain that can build the BPF programs, by the name that rustup knows. Its LLVM must be the version
/// that bpf-linker uses, so no other nightly will do. dataplane-user/build.rs decides which one it is.
pub(super) fn nightly() -> &'static str {
    let named = |line: &'static str| line.strip_prefix("const NIGHTLY: &str = \"")?.strip_suffix("\";");
    BUILD_SCRIPT
        .lines()
        .find_map(named)
        .expect("dataplane-user/build.rs has a constant NIGHTLY")
}

fn has_nightly_sources() -> bool {
    let home = env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".rustup")));
    let Some(toolchains) = home.map(|home| home.join("toolchains")) else {
        return false;
    };
    let core = |name: &String| {
        toolchains
            .join(name)
            .join("lib/rustlib/src/rust/library/core")
            .is_dir()
    };
    files(&toolchains)
        .iter()
        .any(|name| is_toolchain(name, nightly()) && core(name))
}

/// Whether the directory `name` below `toolchains` has this toolchain: rustup appends the target triple of the host.
fn is_toolchain(name: &str, toolchain: &str) -> bool {
    name.strip_prefix(toolchain)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// The names of the entries of a directory; empty if it cannot be read.
pub(super) fn files(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_nightly_is_accepted() {
        let toolchain = nightly();
        assert!(toolchain.starts_with("nightly-20"), "{toolchain}");
        assert!(is_toolchain(toolchain, toolchain));
        assert!(is_toolchain(
            &format!("{toolchain}-x86_64-unknown-linux-gnu"),
            toolchain
        ));
        assert!(!is_toolchain("nightly-x86_64-unknown-linux-gnu", toolchain));
        assert!(!is_toolchain(&format!("{toolchain}1"), toolchain));
    }

    #[test]
    fn packages_are_sorted_and_listed_once() {
        let tools: Vec<&Tool> = ALL
            .iter()
            .filter(|tool| tool.needs.contains(&Need::Build))
            .collect();
        let twice = [tools.clone(), tools].concat();
        assert_eq!(
            packages(&twice, |tool| tool.debian),
            ["libstd-rust-web-dev-bpf", "llvm-22-dev", "rustc-web"]
        );
    }

    #[test]
    fn only_a_core_library_for_bpf_counts() {
        let sysroot = tempfile::tempdir().unwrap();
        let libraries = sysroot.path().join("lib/rustlib/bpfel-unknown-none/lib");
        fs::create_dir_all(&libraries).unwrap();
        assert!(!has_bpf_core(sysroot.path()));
        fs::write(libraries.join("libcore-0123.rlib"), "").unwrap();
        assert!(has_bpf_core(sysroot.path()));
    }
}
