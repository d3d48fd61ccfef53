//! Finds the directories of the project and builds its packages.
use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::child;

/// The directory with the Cargo.toml of the workspace.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// The target directory of cargo.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The directory for files that are slow to fetch or build: `$ADIT_CACHE_DIR`, else `$XDG_CACHE_HOME/adit`, else
/// `~/.cache/adit`. `cargo clean` does not delete it.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let dir = set("ADIT_CACHE_DIR")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("adit")))
        .or_else(|| Some(set("HOME")?.join(".cache/adit")))
        .context("there is no directory for the cache: set ADIT_CACHE_DIR, XDG_CACHE_HOME or HOME")?;
    std::path::absolute(&dir).with_context(|| format!("finding the cache directory {}", dir.display()))
}

/// The cargo that runs this command, started in the root of the workspace.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// A program that cargo built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// The name of the cargo target, such as `adit` or the stem of a file below tests/.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// The directory of its package.
    pub package: PathBuf,
    /// The kind of the cargo target: `lib`, `bin`, `test`, ….
    pub kind: String,
    /// Whether it is a test harness, not the program itself.
    pub harness: bool,
}

/// A build profile of `adit`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Profile {
    /// Optimised, as on nodes
    #[default]
    Release,
    /// Optimised a little and built faster, as in tests
    Quick,
}

/// Builds `adit` and returns its file.
pub fn adit(profile: Profile) -> Result<PathBuf> {
    let profile = match profile {
        Profile::Release => "release",
        Profile::Quick => "quick",
    };
    let built = build(&[
        "build",
        "--profile",
        profile,
        "--package",
        "dataplane-user",
        "--bin",
        "adit",
    ])?;
    let adit = built.into_iter().find(|program| program.name == "adit");
    Ok(adit.context("cargo built no `adit`")?.path)
}

/// A package of the workspace, as its Cargo.toml describes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its `[package.metadata]`.
    pub metadata: Option<serde_json::Value>,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

#[derive(Debug, Clone, Deserialize)]
struct Dependency {
    name: String,
    rename: Option<String>,
    kind: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

impl Package {
    /// The crates that its library and its programs may use: neither build- nor dev-dependencies.
    pub fn crates(&self) -> BTreeSet<String> {
        let ordinary = self
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.is_none());
        ordinary
            .map(|dependency| dependency.rename.as_ref().unwrap_or(&dependency.name))
            .map(|name| name.replace('-', "_"))
            .collect()
    }

    /// The names of its files below tests/.
    pub fn tests(&self) -> BTreeSet<&str> {
        let tests = self
            .targets
            .iter()
            .filter(|target| target.kind.iter().any(|kind| kind == "test"));
        tests.map(|target| target.name.as_str()).collect()
    }
}

/// The package of that name.
pub fn package(name: &str) -> Result<Package> {
    #[derive(Deserialize)]
    struct Metadata {
        packages: Vec<Package>,
    }
    let output = child::run(cargo().args(["metadata", "--no-deps", "--format-version", "1", "--quiet"]))?;
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("reading the metadata of cargo")?;
    let mut all = metadata.packages.into_iter();
    all.find(|package| package.name == name)
        .with_context(|| format!("no package {name} in the workspace"))
}

/// Runs `cargo ARGS` (a `build`, or a `test --no-run`), shows its progress and its diagnostics, and returns the programs
/// that it built, in the order of cargo.
pub fn build(args: &[&str]) -> Result<Vec<Executable>> {
    let output = cargo()
        .args(args)
        .arg("--message-format=json-render-diagnostics")
        .stderr(Stdio::inherit())
        .output()
        .context("starting cargo")?;
    if !output.status.success() {
        bail!("`cargo {}` failed", args.join(" "));
    }
    executables(&String::from_utf8_lossy(&output.stdout))
}

fn executables(messages: &str) -> Result<Vec<Executable>> {
    #[derive(Deserialize)]
    struct Message {
        executable: Option<PathBuf>,
        manifest_path: Option<PathBuf>,
        profile: Option<Profile>,
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Profile {
        test: bool,
    }

    let mut found = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).context("reading a message of cargo")?;
        if let (Some(path), Some(target)) = (message.executable, message.target) {
            let manifest = message.manifest_path.unwrap_or_default();
            found.push(Executable {
                name: target.name,
                path,
                package: manifest.parent().map(Path::to_owned).unwrap_or_default(),
                kind: target.kind.into_iter().next().unwrap_or_default(),
                harness: message.profile.is_some_and(|profile| profile.test),
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_artifacts_with_a_program_count() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"nix","kind":["lib"]},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","manifest_path":"/w/user/Cargo.toml","profile":{"test":false},"#,
            r#""target":{"name":"adit","kind":["bin"]},"executable":"/t/release/adit"}"#,
            "\nrunning a build script\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let adit = Executable {
            name: "adit".into(),
            path: "/t/release/adit".into(),
            package: "/w/user".into(),
            kind: "bin".into(),
            harness: false,
        };
        assert_eq!(executables(messages).unwrap(), [adit]);
    }
}
