//! The files that belong to the project.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::child;

/// Text files by their paths below the root.
pub(super) type Files = BTreeMap<PathBuf, String>;

/// All files that git tracks or would track; in an unpacked archive, all but the target directory. Skips binary files.
pub(super) fn tracked(root: &Path) -> Result<Files> {
    let paths = match git(root) {
        Some(paths) => paths,
        None => walk(root)?,
    };
    let mut files = Files::new();
    for path in paths {
        let whole = root.join(&path);
        // Git still lists deleted files before the deletion is committed.
        if !whole.is_file() {
            continue;
        }
        let bytes = fs::read(&whole).with_context(|| format!("reading {}", whole.display()))?;
        if let Ok(text) = String::from_utf8(bytes) {
            files.insert(path, text);
        }
    }
    Ok(files)
}

fn git(root: &Path) -> Option<Vec<PathBuf>> {
    let mut command = Command::new("git");
    // In containers the clone often belongs to another user.
    command.args(["-c", "safe.directory=*", "ls-files", "-z"]);
    command.args(["--cached", "--others", "--exclude-standard"]);
    let output = child::run(command.current_dir(root)).ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let paths = text.split_terminator('\0').map(PathBuf::from);
    Some(paths.collect())
}

fn walk(root: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))? {
            let path = entry?.path();
            let below = path.strip_prefix(root).expect("it was found there").to_owned();
            if path.is_dir() && below != Path::new("target") && !path.is_symlink() {
                folders.push(path);
            } else if path.is_file() {
                found.push(below);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unpacked_archive_is_walked() {
        let root = tempfile::tempdir().unwrap();
        for (file, text) in [("a.rs", "x"), ("sub/b.md", "y"), ("target/c", "z")] {
            let whole = root.path().join(file);
            fs::create_dir_all(whole.parent().unwrap()).unwrap();
            fs::write(whole, text).unwrap();
        }
        let mut paths = walk(root.path()).unwrap();
        paths.sort();
        assert_eq!(paths, [Path::new("a.rs"), Path::new("sub/b.md")]);
    }
}
