//! Loads manifests from files and directories: the whole set or nothing.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::manifest::{self, ManifestError, ManifestFile};
use crate::files;
use crate::resource::Resources;

/// Why a file or its manifests can't be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// No paths were given.
    #[error("no manifests; give a file or a directory with manifests")]
    NoPaths,
    /// A path can't be read.
    #[error("{path}: can't be read: {source}", path = .path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file that was named by the user contains no manifest.
    #[error("{path}: contains no manifest", path = .0.display())]
    Empty(PathBuf),
    /// A manifest is invalid.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// All errors of a set, one per line; never empty.
#[derive(Debug, thiserror::Error)]
pub struct LoadErrors(pub Vec<LoadError>);

impl fmt::Display for LoadErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let newline = if index > 0 { "\n" } else { "" };
            write!(f, "{newline}{error}")?;
        }
        Ok(())
    }
}

/// The path that means the standard input.
pub const STANDARD_INPUT: &str = "-";

/// Loads the manifests of files, of directories (`*.yaml`, `*.yml`, `*.json`, without subdirectories) and of
/// the standard input (`-`). Blocks on file access.
///
/// An empty directory is an empty set of resources, because it may be filled later.
///
/// # Errors
/// All errors of the whole set.
pub fn load(paths: &[PathBuf]) -> Result<Resources, LoadErrors> {
    load_set(paths).map(|set| set.resources)
}

/// A complete, valid set of manifests.
#[derive(Debug)]
pub struct ManifestSet {
    /// The declared resources.
    pub resources: Resources,
    /// The files from which they were read.
    pub files: Vec<ManifestFile>,
}

/// As [`load`], and also returns the text of the files.
///
/// # Errors
/// As [`load`].
pub fn load_set(paths: &[PathBuf]) -> Result<ManifestSet, LoadErrors> {
    if paths.is_empty() {
        return Err(LoadErrors(vec![LoadError::NoPaths]));
    }
    let mut loader = Loader::default();
    for path in paths {
        loader.path(path);
    }
    let Loader {
        files, mut errors, ..
    } = loader;
    match manifest::read(&files, errors.is_empty()) {
        Ok(resources) if errors.is_empty() => Ok(ManifestSet { resources, files }),
        Ok(_) => Err(LoadErrors(errors)),
        Err(wrong) => {
            errors.extend(wrong.into_iter().map(LoadError::Manifest));
            Err(LoadErrors(errors))
        }
    }
}

#[derive(Default)]
struct Loader {
    files: Vec<ManifestFile>,
    errors: Vec<LoadError>,
    /// The canonical paths of the files that were read. A file to which several paths lead is read once.
    seen: BTreeSet<PathBuf>,
}

impl Loader {
    fn path(&mut self, path: &Path) {
        if path == Path::new(STANDARD_INPUT) {
            return self.standard_input();
        }
        let listed = fs::metadata(path).and_then(|metadata| {
            if metadata.is_dir() {
                manifests_in(path).map(Some)
            } else {
                Ok(None)
            }
        });
        match listed {
            Ok(Some(files)) => files.iter().for_each(|file| self.file(file, false)),
            Ok(None) => self.file(path, true),
            Err(source) => self.unreadable(path, source),
        }
    }

    /// Reads a file. A file that the user `named` must contain a manifest.
    fn file(&mut self, path: &Path, named: bool) {
        let read = fs::canonicalize(path).and_then(|canonical| {
            if self.seen.insert(canonical) {
                files::read_to_string(path).map(Some)
            } else {
                Ok(None)
            }
        });
        let text = match read {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(source) => return self.unreadable(path, source),
        };
        self.text(path, text, named);
    }

    /// Reads the standard input once, even if it is named several times. It must contain a manifest.
    fn standard_input(&mut self) {
        if !self.seen.insert(PathBuf::from(STANDARD_INPUT)) {
            return;
        }
        let name = "standard input";
        match io::read_to_string(io::stdin()) {
            Ok(text) => self.text(Path::new(name), text, true),
            Err(source) => self.unreadable(Path::new(name), source),
        }
    }

    fn text(&mut self, path: &Path, text: String, named: bool) {
        let file = ManifestFile {
            name: path.display().to_string().into(),
            text,
        };
        if named && manifest::count(&file) == Some(0) {
            self.errors.push(LoadError::Empty(path.to_owned()));
        }
        self.files.push(file);
    }

    fn unreadable(&mut self, path: &Path, source: io::Error) {
        self.errors.push(LoadError::Unreadable {
            path: path.to_owned(),
            source,
        });
    }
}

/// The manifest files of a directory, sorted by name, without hidden files and temporary files of editors.
fn manifests_in(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // `#a.yaml#` of Emacs, `a.yaml~` and `.a.yaml.swp` of vim, and files that are being written have
        // other endings.
        let named = path
            .extension()
            .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        // A dangling link is not a directory: it is listed, and reading it returns the error.
        if named && !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
