//! The directories and names that a watch needs.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

/// A directory to watch, and the names in it that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interest {
    /// Without symbolic links: an inode is watched under one name.
    pub(super) directory: PathBuf,
    /// `None`: all names.
    pub(super) name: Option<OsString>,
}

impl Interest {
    /// Whether an event at a path must be reported.
    pub(super) fn covers(&self, path: &Path) -> bool {
        // The directory itself was created or deleted.
        if path == self.directory {
            return true;
        }
        if path.parent() != Some(&self.directory) {
            return false;
        }
        let (Some(wanted), Some(name)) = (&self.name, path.file_name()) else {
            return true;
        };
        // The files of a ConfigMap are links through `..data`, and only `..data` changes.
        name == wanted.as_os_str() || name.as_encoded_bytes().starts_with(b"..")
    }
}

/// The directories to watch for every change of a file or directory: the path, the target of its links, and
/// the parent directories of both.
pub(super) fn of(path: &Path) -> Vec<Interest> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut interests = Vec::new();
    let mut chain = vec![absolute.clone()];
    if let Ok(target) = fs::canonicalize(&absolute) {
        chain.push(target);
    }
    for path in &chain {
        interests.extend(in_parent(path));
    }
    if let Some(target) = chain.last().filter(|path| path.is_dir()) {
        interests.push(Interest {
            directory: target.clone(),
            name: None,
        });
    } else if let Some(parent) = absolute.parent() {
        // The directory of a file may be replaced as a whole.
        interests.extend(in_parent(parent));
    }
    interests.dedup();
    interests
}

/// The name of a path in its parent directory.
fn in_parent(path: &Path) -> Option<Interest> {
    let name = path.file_name()?.to_owned();
    let directory = fs::canonicalize(path.parent()?).ok()?;
    Some(Interest {
        directory,
        name: Some(name),
    })
}
