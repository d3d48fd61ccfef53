//! The other namespaces in which something of ours may be: a file in the state directory. It only says where to look; what is
//! ours there, its marks say.

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

/// Where something may be; nowhere, where there is no file.
///
/// # Errors
/// When it can't be read, or a line is no namespace.
pub fn load(directory: &Path) -> Result<BTreeSet<Namespace>, NamespacesError> {
    let path = directory.join(NAME);
    let text = match files::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        read => read,
    };
    let parsed = text.and_then(|text| {
        let lines = text.lines().zip(1..);
        let namespace = |(line, number): (&str, u32)| {
            let odd = || {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("line {number} is no namespace"),
                )
            };
            parse(line).ok_or_else(odd)
        };
        lines.map(namespace).collect()
    });
    parsed.map_err(|source| NamespacesError { path, source })
}

/// Writes where something may be; on the disk when this returns.
///
/// # Errors
/// When it can't be written; what was there stays.
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
/// When it can't be removed.
pub fn forget(directory: &Path) -> Result<(), NamespacesError> {
    let path = directory.join(NAME);
    if matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound) {
        // On a read-only file system to remove it would fail all the same.
        return Ok(());
    }
    files::remove(&path).map_err(|source| NamespacesError { path, source })
}

/// A namespace in a line: its kind, and names and paths as JSON has them, without line breaks.
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
