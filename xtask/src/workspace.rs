//! Where the project's folders are, and how its packages are built.
use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// The folder with the workspace's Cargo.toml.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("xtask lies in the workspace")
}

/// Where cargo puts what it builds.
pub fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), |dir| root().join(dir))
}

/// The folder for what is costly to fetch or build: `$ADIT_CACHE_DIR`, else `$XDG_CACHE_HOME/adit`, else
/// `~/.cache/adit`. It outlives `cargo clean`.
pub fn cache_dir() -> Result<PathBuf> {
    let set = |name| {
        env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let dir = set("ADIT_CACHE_DIR")
        .or_else(|| Some(set("XDG_CACHE_HOME")?.join("adit")))
        .or_else(|| Some(set("HOME")?.join(".cache/adit")))
        .context("none of ADIT_CACHE_DIR, XDG_CACHE_HOME and HOME is set: nowhere to keep a cache")?;
    std::path::absolute(&dir).with_context(|| format!("the cache folder {}", dir.display()))
}

/// The cargo that runs this command, started in the workspace's root.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// A program that cargo built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// The cargo target's name, such as `adit` or a file's stem below tests/.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// Runs `cargo ARGS` (a `build`, or a `test --no-run`), its progress and its diagnostics shown, and returns the
/// programs that it built, in cargo's order.
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
        target: Option<Target>,
    }
    #[derive(Deserialize)]
    struct Target {
        name: String,
    }

    let mut found = Vec::new();
    for line in messages.lines().filter(|line| line.starts_with('{')) {
        let message: Message = serde_json::from_str(line).context("a message of cargo's")?;
        if let (Some(path), Some(target)) = (message.executable, message.target) {
            found.push(Executable {
                name: target.name,
                path,
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
            r#"{"reason":"compiler-artifact","target":{"name":"nix"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"adit"},"executable":"/t/release/adit"}"#,
            "\nrunning a build script\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let adit = Executable {
            name: "adit".into(),
            path: "/t/release/adit".into(),
        };
        assert_eq!(executables(messages).unwrap(), [adit]);
    }
}
