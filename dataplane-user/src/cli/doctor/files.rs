//! The state directory: only its owner may read the keys.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::finding::Finding;

/// The files of the state directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    /// Paths and permission bits.
    pub(super) files: Vec<(PathBuf, u32)>,
}

impl Facts {
    pub(super) fn gather(state: &Path) -> Facts {
        let mut files = Vec::new();
        collect(state, &mut files);
        files.sort();
        Facts { files }
    }
}

/// Follows no symbolic links.
fn collect(directory: &Path, files: &mut Vec<(PathBuf, u32)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(found) if found.is_dir() => collect(&entry.path(), files),
            Ok(found) if found.is_file() => files.push((entry.path(), found.permissions().mode() & 0o777)),
            _ => {}
        }
    }
}

pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let open = facts.files.iter().filter(|(_, mode)| mode & 0o077 != 0);
    let findings = open
        .map(|(path, mode)| {
            let path = path.display();
            Finding::error(
                "key file",
                format!("{path} has mode {mode:04o}: other users can read or write it"),
                format!("chmod 600 {path}; if another user may have read a key in it, create a new key"),
            )
        })
        .collect::<Vec<_>>();
    if findings.is_empty() {
        return vec![Finding::ok(
            "key file",
            format!(
                "{} files in the state directory, none of them accessible to other users",
                facts.files.len()
            ),
        )];
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::super::finding::tests::level;
    use super::*;

    #[test]
    fn a_key_that_others_may_read_is_found() {
        let state = tempfile::tempdir().unwrap();
        let key = state.path().join("keys/wg");
        fs::create_dir(state.path().join("keys")).unwrap();
        fs::write(&key, "secret").unwrap();
        for (mode, expected) in [(0o600, Level::Ok), (0o640, Level::Error), (0o602, Level::Error)] {
            fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
            let findings = judge(&Facts::gather(state.path()));
            assert_eq!(level(&findings, "key file"), expected, "{mode:o}");
            assert!(!findings[0].evidence.contains("secret"));
        }
        let nothing = judge(&Facts::gather(Path::new("/nowhere/at/all")));
        assert_eq!(level(&nothing, "key file"), Level::Ok);
    }
}
