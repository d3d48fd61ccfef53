//! What in which directory is of interest to a watch.

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
    /// Whether an event at a path is one to tell of.
    pub(super) fn covers(&self, path: &Path) -> bool {
        // The directory itself came or went.
        if path == self.directory {
            return true;
        }
        if path.parent() != Some(&self.directory) {
            return false;
        }
        let (Some(wanted), Some(name)) = (&self.name, path.file_name()) else {
            return true;
        };
        // A ConfigMap's files are links through `..data`, which is what changes.
        name == wanted.as_os_str() || name.as_encoded_bytes().starts_with(b"..")
    }
}

/// What must be watched to learn of every change of a file or directory: it, what it links to, and what holds them.
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

/// A path's name in the directory that holds it.
fn in_parent(path: &Path) -> Option<Interest> {
    let name = path.file_name()?.to_owned();
    let directory = fs::canonicalize(path.parent()?).ok()?;
    Some(Interest {
        directory,
        name: Some(name),
    })
}
