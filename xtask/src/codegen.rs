//! `cargo xtask codegen`: writes the documents that are generated from the sources.

mod layout;
mod map_abi;
mod source;

use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::{progress, workspace};

/// The map ABI, for programs that read or write the maps without this code.
pub(crate) const DOCUMENT: &str = "docs/MAP-ABI.md";

/// The fields of manifests, as tables in a page and as a JSON schema: `adit` itself prints both.
const MANIFESTS: [(&str, &[&str]); 2] = [
    (
        "docs/MANIFESTS.md",
        &["schema", "--document", "docs/MANIFESTS.md"],
    ),
    ("docs/manifests.schema.json", &["schema"]),
];

/// Generate docs/MAP-ABI.md, docs/MANIFESTS.md and docs/manifests.schema.json from the sources.
#[derive(clap::Args)]
pub struct Args {
    /// Write nothing; exit with 1 if a document is not up to date
    #[arg(long)]
    check: bool,
}

/// Exits with 1 if `--check` finds a difference.
pub fn run(args: &Args) -> Result<ExitCode> {
    let root = workspace::root();
    if !args.check {
        write(root)?;
        for (document, arguments) in MANIFESTS {
            replace(root, document, &by_adit(root, arguments)?)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let mut stale = first_stale_line(root)?.map(|line| (DOCUMENT, line));
    for (document, arguments) in MANIFESTS {
        let written = fs::read_to_string(root.join(document)).unwrap_or_default();
        let line = first_difference(&written, &by_adit(root, arguments)?);
        stale = stale.or(line.map(|line| (document, line)));
    }
    let Some((document, line)) = stale else {
        return Ok(ExitCode::SUCCESS);
    };
    println!("{document}:{line}: not up to date: run `cargo xtask codegen`");
    Ok(ExitCode::FAILURE)
}

/// The output of `adit`, built from the sources.
fn by_adit(root: &Path, arguments: &[&str]) -> Result<String> {
    let mut cargo = Command::new("cargo");
    cargo.args([
        "run",
        "--quiet",
        "--package",
        "dataplane-user",
        "--bin",
        "adit",
        "--",
    ]);
    let output = cargo
        .args(arguments)
        .current_dir(root)
        .stderr(Stdio::inherit())
        .output()?;
    ensure!(output.status.success(), "`adit {}` failed", arguments.join(" "));
    Ok(String::from_utf8(output.stdout)?)
}

fn replace(root: &Path, document: &str, text: &str) -> Result<()> {
    let file = root.join(document);
    if fs::read_to_string(&file).unwrap_or_default() == text {
        return Ok(());
    }
    fs::write(&file, text).with_context(|| format!("writing {}", file.display()))?;
    progress::say(format_args!("wrote {document}"));
    Ok(())
}

/// Writes the map ABI document if it is not up to date.
pub(crate) fn write(root: &Path) -> Result<()> {
    if first_stale_line(root)?.is_none() {
        return Ok(());
    }
    let file = root.join(DOCUMENT);
    let folder = file.parent().context("the document has a directory")?;
    fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    fs::write(&file, map_abi::render(root)?).with_context(|| format!("writing {}", file.display()))?;
    progress::say(format_args!("wrote {DOCUMENT}"));
    Ok(())
}

/// The first line, counted from 1, that differs from the sources; `None` if the document is up to date.
pub(crate) fn first_stale_line(root: &Path) -> Result<Option<usize>> {
    let written = fs::read_to_string(root.join(DOCUMENT)).unwrap_or_default();
    Ok(first_difference(&written, &map_abi::render(root)?))
}

fn first_difference(one: &str, other: &str) -> Option<usize> {
    if one == other {
        return None;
    }
    let same = one.lines().zip(other.lines()).take_while(|(a, b)| a == b);
    Some(same.count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_reported_by_its_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some(2));
        assert_eq!(first_difference("a\n", "a\nb\n"), Some(2));
        assert_eq!(first_difference("", "a\n"), Some(1));
    }

    #[test]
    fn a_changed_document_is_stale_until_it_is_written() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(
            workspace::root().join("dataplane-ebpf"),
            root.path().join("dataplane-ebpf"),
        )
        .unwrap();
        assert_eq!(first_stale_line(root.path()).unwrap(), Some(1));
        write(root.path()).unwrap();
        assert_eq!(first_stale_line(root.path()).unwrap(), None);

        let file = root.path().join(DOCUMENT);
        let text = fs::read_to_string(&file).unwrap();
        let line = text
            .lines()
            .position(|line| line.contains("`source_mac`"))
            .unwrap()
            + 1;
        fs::write(&file, text.replace("`source_mac`", "`source_mca`")).unwrap();
        assert_eq!(first_stale_line(root.path()).unwrap(), Some(line));
    }
}
