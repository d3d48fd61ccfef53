//! The peers that an operator withdrew by `adit route withdraw`: a file in the state directory with one id
//! per line, which is replaced as a whole.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::net::PeerId;

/// The file in the state directory.
pub const NAME: &str = "withdrawn";

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct WithdrawnError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The withdrawn peers; none if there is no file.
///
/// # Errors
/// If the file can't be read, or a line is not an id.
pub fn load(directory: &Path) -> Result<BTreeSet<PeerId>, WithdrawnError> {
    let path = directory.join(NAME);
    let text = match files::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        read => read.map_err(|source| WithdrawnError {
            path: path.clone(),
            source,
        })?,
    };
    let name = |line| {
        PeerId::new(line).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
    };
    let names = text.lines().map(name).collect::<io::Result<_>>();
    names.map_err(|source| WithdrawnError { path, source })
}

/// Writes the withdrawn peers. They are synced to the disk when this returns.
///
/// # Errors
/// If the file can't be written; then its previous content is unchanged.
pub fn store(directory: &Path, names: &BTreeSet<PeerId>) -> Result<(), WithdrawnError> {
    let lines = names.iter().map(|name| format!("{}\n", name.as_str()));
    let stored = files::replace(directory, NAME, &lines.collect::<String>());
    stored.map_err(|source| WithdrawnError {
        path: directory.join(NAME),
        source,
    })
}

/// Removes the file, so that no peer is withdrawn.
///
/// # Errors
/// If the file can't be removed.
pub fn forget(directory: &Path) -> Result<(), WithdrawnError> {
    let path = directory.join(NAME);
    files::remove(&path).map_err(|source| WithdrawnError { path, source })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn who_is_withdrawn_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("state");
        assert_eq!(load(&directory).unwrap(), BTreeSet::new());
        let names = BTreeSet::from(["a", "site/gateway-2"].map(|name| PeerId::new(name).unwrap()));
        store(&directory, &names).unwrap();
        assert_eq!(load(&directory).unwrap(), names);
        store(&directory, &BTreeSet::new()).unwrap();
        assert_eq!(load(&directory).unwrap(), BTreeSet::new());
        fs::write(directory.join(NAME), "no id\n").unwrap();
        assert!(load(&directory).unwrap_err().to_string().contains("withdrawn"));
    }
}
