//! Builds the BPF programs and tells `kernel/bpf/object.rs` where the object is.
//!
//! Three ways, the first that is possible: a prebuilt object (`ADIT_BPF_OBJECT`), a rustc that brings a core library
//! for BPF (`ADIT_BPF_RUSTC`, else `/usr/bin/rustc`, as Debian packages it), or a nightly toolchain of rustup's.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

use anyhow::{Context, Result, bail, ensure};

/// What rustup's nightly must be: one of 1.96's, whose LLVM is bpf-linker's (22).
const NIGHTLY: &str = "nightly-2026-04-01";
const LINKER_DIRECTORY: &str = "bpf-linker-0.13.0/bin";
const BINARY: &str = "adit-programs";

fn main() {
    if let Err(error) = run() {
        // Not by main's result, which adds a backtrace of the build script.
        eprintln!("error: {error:#}");
        exit(1);
    }
}

fn run() -> Result<()> {
    for variable in [
        "ADIT_BPF_OBJECT",
        "ADIT_BPF_RUSTC",
        "ADIT_BPF_LINKER",
        "ADIT_CACHE_DIR",
        "XDG_CACHE_HOME",
        "PATH",
    ] {
        println!("cargo:rerun-if-env-changed={variable}");
    }
    let manifest = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let workspace = manifest.parent().context("this package lies in a workspace")?;
    let programs = workspace.join("dataplane-ebpf");
    println!("cargo:rerun-if-changed={}", programs.join("src").display());
    println!("cargo:rerun-if-changed={}", programs.join("Cargo.toml").display());
    println!("cargo:rerun-if-changed=build.rs");

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let built = if let Some(object) = env::var_os("ADIT_BPF_OBJECT") {
        prebuilt(PathBuf::from(object))?
    } else if let Some(rustc) = packaged_rustc()? {
        build_with(&rustc, workspace, &out)?
    } else {
        build_with_nightly(&programs, &out)?
    };
    let object = out.join("adit.bpf.o");
    fs::copy(&built, &object).with_context(|| format!("copying {}", built.display()))?;
    println!("cargo:rustc-env=ADIT_BPF_OBJECT_PATH={}", object.display());
    Ok(())
}

fn prebuilt(object: PathBuf) -> Result<PathBuf> {
    println!("cargo:rerun-if-changed={}", object.display());
    ensure!(
        object.is_file(),
        "ADIT_BPF_OBJECT is {}, which is no file",
        object.display()
    );
    Ok(object)
}

/// The target that the kernel of this machine's byte order runs.
fn target() -> Result<&'static str> {
    match env::var("CARGO_CFG_TARGET_ENDIAN")?.as_str() {
        "little" => Ok("bpfel-unknown-none"),
        "big" => Ok("bpfeb-unknown-none"),
        other => bail!("no BPF target for byte order {other}"),
    }
}

/// A rustc whose sysroot has libcore for BPF. One that is named and has none is an error, one that is not is not.
fn packaged_rustc() -> Result<Option<PathBuf>> {
    let named = env::var_os("ADIT_BPF_RUSTC");
    let rustc = PathBuf::from(named.clone().unwrap_or_else(|| OsString::from("/usr/bin/rustc")));
    if has_core(&rustc)? {
        return Ok(Some(rustc));
    }
    ensure!(
        named.is_none(),
        "ADIT_BPF_RUSTC is {}, which has no core library for {}; on Debian: apt-get install rustc-web \
         libstd-rust-web-dev-bpf",
        rustc.display(),
        target()?
    );
    Ok(None)
}

fn has_core(rustc: &Path) -> Result<bool> {
    let Ok(output) = Command::new(rustc)
        .args(["--print", "sysroot"])
        .env_remove("RUSTUP_TOOLCHAIN")
        .output()
    else {
        return Ok(false);
    };
    let sysroot = PathBuf::from(String::from_utf8(output.stdout)?.trim());
    let Ok(libraries) = fs::read_dir(sysroot.join("lib/rustlib").join(target()?).join("lib")) else {
        return Ok(false);
    };
    Ok(libraries
        .flatten()
        .any(|library| library.file_name().to_string_lossy().starts_with("libcore-")))
}

/// The project's cache of what is costly to fetch.
fn cache() -> Option<PathBuf> {
    if let Some(directory) = env::var_os("ADIT_CACHE_DIR") {
        return Some(PathBuf::from(directory));
    }
    let base = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    Some(
        base.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?
            .join("adit"),
    )
}

fn linker() -> Result<PathBuf> {
    if let Some(linker) = env::var_os("ADIT_BPF_LINKER") {
        let linker = PathBuf::from(linker);
        ensure!(
            linker.is_file(),
            "ADIT_BPF_LINKER is {}, which is no file",
            linker.display()
        );
        return Ok(linker);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    cache()
        .map(|cache| cache.join(LINKER_DIRECTORY))
        .into_iter()
        .chain(env::split_paths(&path))
        .map(|directory| directory.join("bpf-linker"))
        .find(|linker| linker.is_file())
        .context(
            "bpf-linker is missing: run `cargo xtask setup`, or install LLVM 22 (apt-get install llvm-22-dev) and then \
             LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker --version 0.13.0 --no-default-features \
             --features llvm-22",
        )
}

/// Runs this very cargo with that rustc, in a target directory of its own: the one in use is locked.
fn build_with(rustc: &Path, workspace: &Path, out: &Path) -> Result<PathBuf> {
    let target = target()?;
    let target_directory = out.join("bpf");
    let architecture = env::var("CARGO_CFG_TARGET_ARCH")?;
    let flags = [
        format!(
            "--cfg=bpf_target_arch=\"{}\"",
            architecture.replace("riscv64gc", "riscv64")
        ),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Clinker={}", linker()?.display()),
    ];
    let mut cargo = Command::new(env::var_os("CARGO").context("cargo runs this")?);
    cargo
        .current_dir(workspace)
        .args([
            "build",
            "--package",
            "dataplane-ebpf",
            "--bin",
            BINARY,
            "--features",
            "programs",
            "--release",
        ])
        .args(["--target", target, "--target-dir"])
        .arg(&target_directory)
        .env("RUSTC", rustc)
        // aya-ebpf needs inline assembly for BPF, which is unstable; nothing else may use what is.
        .env("RUSTC_BOOTSTRAP", "aya_ebpf")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // Empty rather than unset, so that no configuration file brings a wrapper back.
        .env("RUSTC_WRAPPER", "")
        .env("RUSTC_WORKSPACE_WRAPPER", "");
    for variable in [
        "RUSTUP_TOOLCHAIN",
        "RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        cargo.env_remove(variable);
    }
    if workspace.join("Cargo.lock").is_file() {
        cargo.arg("--locked");
    }
    let output = cargo.output().with_context(|| format!("running {cargo:?}"))?;
    ensure!(
        output.status.success(),
        "building the BPF programs failed:\n{}\n(the command was {cargo:?})",
        String::from_utf8_lossy(&output.stderr)
    );
    let said = String::from_utf8_lossy(&output.stderr);
    for line in said.lines().filter(|line| line.starts_with("warning")) {
        println!("cargo:warning={line}");
    }
    Ok(target_directory.join(target).join("release").join(BINARY))
}

fn build_with_nightly(programs: &Path, out: &Path) -> Result<PathBuf> {
    const ADVICE: &str = "no compiler for BPF: run `cargo xtask setup`, or on Debian `apt-get install rustc-web \
        libstd-rust-web-dev-bpf llvm-22-dev`, or with rustup `rustup toolchain install";
    let package = aya_build::Package {
        name: "dataplane-ebpf",
        root_dir: programs.to_str().context("the workspace's path is UTF-8")?,
        features: &["programs"],
        ..Default::default()
    };
    let linker = linker()?;
    let path = env::join_paths(
        linker
            .parent()
            .map(PathBuf::from)
            .into_iter()
            .chain(env::split_paths(&env::var_os("PATH").unwrap_or_default())),
    )?;
    let nightly = Command::new("rustup")
        .args(["run", NIGHTLY, "rustc", "--version"])
        .output();
    ensure!(
        nightly.is_ok_and(|output| output.status.success()),
        "{ADVICE} {NIGHTLY} --component rust-src`"
    );
    set_path(&path);
    aya_build::build_ebpf([package], aya_build::Toolchain::Custom(NIGHTLY))?;
    Ok(out.join(BINARY))
}

/// aya-build finds the linker by PATH only.
#[expect(unsafe_code, reason = "set_var is unsafe where there are other threads")]
fn set_path(path: &OsString) {
    // SAFETY: the build script has one thread.
    unsafe { env::set_var("PATH", path) };
}
