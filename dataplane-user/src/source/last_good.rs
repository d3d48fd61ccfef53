//! The manifests that were accepted last, kept in the state directory. The agent starts with them if the
//! current manifests are rejected. They are in one file with mode 0600, which is replaced as a whole.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::manifest::{self, ManifestFile};
use crate::files;
use crate::net::NodeName;
use crate::resource::{Intent, Resources};

/// The file in the state directory.
pub const NAME: &str = "last-good.json";

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct LastGoodError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    files: Vec<KeptFile>,
}

#[derive(Serialize, Deserialize)]
struct KeptFile {
    name: String,
    text: String,
}

/// The resources that were accepted last; `None` if none were ever accepted.
///
/// # Errors
/// If the file can't be read, or this version rejects the manifests in it.
pub fn load(directory: &Path) -> Result<Option<Resources>, LastGoodError> {
    let path = directory.join(NAME);
    let read = || {
        let text = match files::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let kept: Kept = serde_json::from_slice(&text)?;
        let files = kept.files.into_iter().map(|file| ManifestFile {
            name: file.name.into(),
            text: file.text,
        });
        manifest::read(&files.collect::<Vec<_>>(), true)
            .map(Some)
            .map_err(|errors| {
                let errors = errors.iter().map(ToString::to_string);
                io::Error::new(io::ErrorKind::InvalidData, errors.collect::<Vec<_>>().join("\n"))
            })
    };
    read().map_err(|source| LastGoodError {
        path: path.clone(),
        source,
    })
}

/// The intent for a node, from the resources that were accepted last; `None` if none were ever accepted.
///
/// # Errors
/// As [`load`], or if the resources do not contain the node.
pub fn intent(directory: &Path, node: NodeName) -> Result<Option<Intent>, LastGoodError> {
    let resources = load(directory)?;
    let intent = resources.map(|resources| Intent::new(resources, node));
    intent.transpose().map_err(|problem| LastGoodError {
        path: directory.join(NAME),
        source: io::Error::new(io::ErrorKind::InvalidData, problem.to_string()),
    })
}

/// Stores the files of an accepted set. They are synced to the disk when this returns.
///
/// # Errors
/// If they can't be written; then the previous set is unchanged.
pub fn store(directory: &Path, files: &[ManifestFile]) -> Result<(), LastGoodError> {
    let kept = files.iter().map(|file| KeptFile {
        name: file.name.to_string(),
        text: file.text.clone(),
    });
    let kept = Kept {
        files: kept.collect(),
    };
    let stored = serde_json::to_string(&kept)
        .map_err(io::Error::from)
        .and_then(|text| files::replace(directory, NAME, &text));
    stored.map_err(|source| LastGoodError {
        path: directory.join(NAME),
        source,
    })
}

/// Deletes the stored set.
///
/// # Errors
/// If the file can't be deleted.
pub fn forget(directory: &Path) -> Result<(), LastGoodError> {
    let path = directory.join(NAME);
    files::remove(&path).map_err(|source| LastGoodError { path, source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const NETWORK: &str = "\
apiVersion: adit.dev/v1alpha1
kind: TunnelNetwork
metadata: {name: net}
spec: {prefixes: [10.0.0.0/8]}
";

    fn file(name: &str, text: &str) -> ManifestFile {
        ManifestFile {
            name: name.into(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn the_last_good_set_is_read_back_and_only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("state");
        assert_eq!(load(&directory).unwrap(), None);
        let second = NETWORK.replace("net}", "other}").replace("10.", "11.");
        let files = [file("a.yaml", NETWORK), file("b.yaml", &second)];
        store(&directory, &files).unwrap();
        let expected = manifest::read(&files, true).unwrap();
        assert_eq!(load(&directory).unwrap(), Some(expected));
        let mode = fs::metadata(directory.join(NAME)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            fs::read_dir(&directory).unwrap().count(),
            1,
            "no other file is left"
        );
        forget(&directory).unwrap();
        forget(&directory).unwrap();
        assert_eq!(load(&directory).unwrap(), None);
    }

    #[test]
    fn a_file_that_is_damaged_is_an_error_that_names_it() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(NAME), "{").unwrap();
        assert!(load(directory.path()).unwrap_err().to_string().contains(NAME));
        store(directory.path(), &[file("a.yaml", "kind: Nothing\n")]).unwrap();
        let error = load(directory.path()).unwrap_err().to_string();
        assert!(error.contains(NAME) && error.contains("a.yaml:1"), "{error}");
    }
}
