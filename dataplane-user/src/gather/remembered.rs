//! The namespaces that may have managed objects, also those of earlier processes. `adit uninstall` and the
//! next start of the agent search them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tracing::warn;

use crate::net::Namespace;
use crate::source::namespaces::{self, NamespacesError};

/// The namespaces in the file of the state directory, and those of this process.
#[derive(Debug)]
pub(super) struct Remembered {
    state_directory: PathBuf,
    all: BTreeSet<Namespace>,
    /// The content of the file; `None` if it could not be read yet, and is not changed.
    file: Option<BTreeSet<Namespace>>,
    /// The last error about the file that was logged.
    logged: Option<String>,
}

impl Remembered {
    pub(super) fn new(state_directory: &Path) -> Remembered {
        Remembered {
            state_directory: state_directory.to_owned(),
            all: BTreeSet::new(),
            file: None,
            logged: None,
        }
    }

    /// All remembered namespaces and those that are wanted now. With `store`, these are stored in the file
    /// first.
    pub(super) fn with(&mut self, wanted: &BTreeSet<Namespace>, store: bool) -> BTreeSet<Namespace> {
        if self.file.is_none() {
            let loaded = namespaces::load(&self.state_directory);
            self.file = self.log_error(loaded);
            self.all.extend(self.file.iter().flatten().cloned());
        }
        self.all.extend(wanted.iter().cloned());
        if store {
            self.store();
        }
        self.all.clone()
    }

    /// Forgets those that are not kept, also in the file.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&Namespace) -> bool) {
        self.all.retain(is_kept);
        self.store();
    }

    fn store(&mut self) {
        if self.file.as_ref().is_none_or(|file| *file == self.all) {
            return;
        }
        let stored = namespaces::store(&self.state_directory, &self.all);
        if self.log_error(stored).is_some() {
            self.file = Some(self.all.clone());
        }
    }

    /// Logs an error once.
    fn log_error<T>(&mut self, result: Result<T, NamespacesError>) -> Option<T> {
        let error = match result {
            Ok(value) => return Some(value),
            Err(error) => error.to_string(),
        };
        if self.logged.as_ref() != Some(&error) {
            warn!("a later `adit uninstall` may not find all namespaces with objects of Adit: {error}");
            self.logged = Some(error);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_remembered_across_processes_until_forgotten() {
        let state = tempfile::tempdir().unwrap();
        let set = |pids: &[u32]| {
            pids.iter()
                .map(|pid| Namespace::Pid(*pid))
                .collect::<BTreeSet<_>>()
        };
        let stored = || namespaces::load(state.path()).unwrap();
        assert_eq!(Remembered::new(state.path()).with(&set(&[1]), false), set(&[1]));
        assert_eq!(stored(), set(&[]), "nothing is changed");
        assert_eq!(Remembered::new(state.path()).with(&set(&[1]), true), set(&[1]));
        let mut next = Remembered::new(state.path());
        assert_eq!(next.with(&set(&[2]), true), set(&[1, 2]));
        next.retain(|namespace| *namespace == Namespace::Pid(2));
        assert_eq!(stored(), set(&[2]));

        // A file that can't be read is not changed, and read once that is possible.
        let path = state.path().join(namespaces::NAME);
        std::fs::write(&path, "odd\n").unwrap();
        let mut third = Remembered::new(state.path());
        assert_eq!(third.with(&set(&[3]), true), set(&[3]));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "odd\n");
        namespaces::store(state.path(), &set(&[4])).unwrap();
        assert_eq!(third.with(&set(&[3]), true), set(&[3, 4]));
        assert_eq!(stored(), set(&[3, 4]));
    }
}
