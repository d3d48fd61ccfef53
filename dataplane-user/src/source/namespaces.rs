//! The other namespaces in which objects of Adit may exist: a file in the state directory. It only tells
//! where to look. The marks of the objects tell whether Adit manages them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;
use crate::net::{Namespace, Runtime};

/// The file in the state directory.
pub const NAME: &str = "namespaces";

/// Why the file can't be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", .path.display())]
pub struct NamespacesError {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// The namespaces in the file; empty if there is no file.
///
/// # Errors
/// If the file can't be read, or a line is not a namespace.
pub fn load(directory: &Path) -> Result<BTreeSet<Namespace>, NamespacesError> {
    let path = directory.join(NAME);
    let text = match files::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        read => read,
    };
    let parsed = text.and_then(|text| {
        let lines = text.lines().zip(1..);
        let namespace = |(line, number): (&str, u32)| {
            let invalid = || {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("line {number} is not a namespace"),
                )
            };
            parse(line).ok_or_else(invalid)
        };
        lines.map(namespace).collect()
    });
    parsed.map_err(|source| NamespacesError { path, source })
}

/// Writes the namespaces. They are synced to the disk when this returns.
///
/// # Errors
/// If the file can't be written; then its previous content is unchanged.
pub fn store(directory: &Path, namespaces: &BTreeSet<Namespace>) -> Result<(), NamespacesError> {
    let lines = namespaces.iter().map(|namespace| render(namespace) + "\n");
    let stored = files::replace(directory, NAME, &lines.collect::<String>());
    stored.map_err(|source| NamespacesError {
        path: directory.join(NAME),
        source,
    })
}

/// Removes the file.
///
/// # Errors
/// If it can't be removed.
pub fn forget(directory: &Path) -> Result<(), NamespacesError> {
    let path = directory.join(NAME);
    if matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        // On a read-only file system, the removal of a missing file would fail too.
        return Ok(());
    }
    files::remove(&path).map_err(|source| NamespacesError { path, source })
}

/// A namespace as one line: its kind, then names and paths as JSON strings, which have no line breaks.
fn render(namespace: &Namespace) -> String {
    let quoted = |text: &String| serde_json::Value::String(text.clone()).to_string();
    match namespace {
        Namespace::Name(name) => format!("name {}", quoted(name)),
        Namespace::Path(path) => format!("path {}", quoted(path)),
        Namespace::Pid(pid) => format!("pid {pid}"),
        Namespace::Container { runtime, name } => {
            format!("container {} {}", runtime.name(), quoted(name))
        }
    }
}

fn parse(line: &str) -> Option<Namespace> {
    let unquoted = |text: &str| serde_json::from_str::<String>(text).ok();
    let (kind, rest) = line.split_once(' ')?;
    match kind {
        "name" => unquoted(rest).map(Namespace::Name),
        "path" => unquoted(rest).map(Namespace::Path),
        "pid" => rest.parse().ok().map(Namespace::Pid),
        "container" => {
            let (program, name) = rest.split_once(' ')?;
            let runtime = Runtime::ALL
                .into_iter()
                .find(|runtime| runtime.name() == program)?;
            let name = unquoted(name)?;
            Some(Namespace::Container { runtime, name })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_of_all_kinds_are_read_back() {
        let state = tempfile::tempdir().unwrap();
        assert_eq!(load(state.path()).unwrap(), BTreeSet::new());
        let containers = Runtime::ALL.map(|runtime| Namespace::Container {
            runtime,
            name: "web-1".to_owned(),
        });
        let named = [
            Namespace::Name("a b".to_owned()),
            Namespace::Path("/run/x \"y\"\npid 1".to_owned()),
            Namespace::Pid(7),
        ];
        let all = containers.into_iter().chain(named).collect();
        store(state.path(), &all).unwrap();
        assert_eq!(load(state.path()).unwrap(), all);
        forget(state.path()).unwrap();
        assert_eq!(load(state.path()).unwrap(), BTreeSet::new());
        for odd in ["name", "pid x", "path /x", "container lxc \"a\"", "name \"a\" b"] {
            std::fs::write(state.path().join(NAME), format!("pid 1\n{odd}\n")).unwrap();
            let error = load(state.path()).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }
}
