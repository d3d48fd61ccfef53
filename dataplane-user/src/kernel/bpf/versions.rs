//! The directories of all ABI versions below `bpffs`. Programs of an older version are replaced and its pins
//! removed. A newer version is not changed. All versions name their pins alike, so that a later one finds
//! them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dataplane_ebpf::layout::ABI_VERSION;

use super::pins::{self, Pins};
use crate::kernel::KernelError;

/// The prefix of the names of all maps of Adit, in every version.
const MAP_PREFIX: &str = "adit_";

/// A newer version has created pins, and this version does not know the meaning of its maps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} was created by a newer Adit (map ABI {version}, this one has {ABI_VERSION}); run the newer one, or remove \
     the dataplane with `adit uninstall` of the newer one",
    .directory.display()
)]
pub struct NewerVersion {
    /// Its directory.
    pub directory: PathBuf,
    /// Its ABI version.
    pub version: u32,
}

/// Finds the directory of a newer version below `bpffs`, whatever it contains.
///
/// # Errors
/// When `bpffs` can't be read; a missing one is no error.
pub fn newer(bpffs: &Path) -> Result<Option<NewerVersion>, KernelError> {
    let newest = list(bpffs)?.pop_last();
    Ok(newest
        .filter(|(version, _)| *version > ABI_VERSION)
        .map(|(version, directory)| NewerVersion { directory, version }))
}

/// Fails if there is a newer version.
pub(super) fn refuse_newer(bpffs: &Path) -> Result<(), KernelError> {
    match newer(bpffs)? {
        None => Ok(()),
        Some(newer) => Err(KernelError::new(
            format!("using {} for pins", bpffs.display()),
            io::Error::other(newer),
        )),
    }
}

/// The pins of older versions.
pub(super) fn older(bpffs: &Path) -> Result<BTreeMap<u32, Pins>, KernelError> {
    let mut older = BTreeMap::new();
    for (version, directory) in managed(bpffs)? {
        if version < ABI_VERSION {
            older.insert(version, Pins::of(directory));
        }
    }
    Ok(older)
}

/// The directories of versions that contain only pins of Adit.
pub(super) fn managed(bpffs: &Path) -> Result<BTreeMap<u32, PathBuf>, KernelError> {
    let mut versions = BTreeMap::new();
    for (version, directory) in list(bpffs)? {
        if is_managed(&directory).map_err(|error| reading(&directory, error))? {
            versions.insert(version, directory);
        }
    }
    Ok(versions)
}

/// All directories with the name of a version.
pub(super) fn list(bpffs: &Path) -> Result<BTreeMap<u32, PathBuf>, KernelError> {
    let paths = pins::list_if_there(bpffs).map_err(|error| reading(bpffs, error))?;
    let versions = paths.into_iter().filter_map(|path| Some((version(&path)?, path)));
    Ok(versions.collect())
}

/// Whether a directory contains only pins of Adit. If `bpffs` is shared, another program may also have a
/// directory `v1`.
fn is_managed(directory: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(directory)?.is_dir() {
        return Ok(false);
    }
    let directories = [pins::MAPS, pins::LINKS, pins::PROGRAMS];
    let known = |path: &PathBuf| directories.iter().any(|name| path.ends_with(name));
    let is_map_of_adit = |path: &PathBuf| name(path).starts_with(MAP_PREFIX);
    Ok(pins::list_if_there(directory)?.iter().all(known)
        && pins::list_if_there(&directory.join(pins::MAPS))?
            .iter()
            .all(is_map_of_adit))
}

fn version(path: &Path) -> Option<u32> {
    let number = name(path).strip_prefix('v')?;
    let version = number.parse::<u32>().ok()?;
    // This excludes `v01` and `v+1`.
    (version.to_string() == number).then_some(version)
}

fn name(path: &Path) -> &str {
    path.file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default()
}

fn reading(path: &Path, error: io::Error) -> KernelError {
    KernelError::new(format!("reading {}", path.display()), error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_their_names() {
        assert_eq!(version(Path::new("/x/v1")), Some(1));
        assert_eq!(version(Path::new("/x/v12")), Some(12));
        for other in ["v", "v01", "v+1", "v-1", "v1a", "1", "carry", "v99999999999"] {
            assert_eq!(version(&Path::new("/x").join(other)), None, "{other}");
        }
    }

    #[test]
    fn older_ones_are_listed_newer_ones_refused_and_others_left_alone() {
        let bpffs = tempfile::tempdir().unwrap();
        let path = bpffs.path();
        assert_eq!(newer(&path.join("nowhere")).unwrap(), None);
        fs::create_dir_all(path.join("v0/maps/adit_nh")).unwrap();
        fs::create_dir_all(path.join("v0/links/adit0-egress")).unwrap();
        fs::create_dir_all(path.join("carry")).unwrap();
        fs::create_dir_all(path.join(format!("v{ABI_VERSION}/maps"))).unwrap();
        assert_eq!(older(path).unwrap().into_keys().collect::<Vec<_>>(), [0]);
        refuse_newer(path).unwrap();

        fs::create_dir_all(path.join("v1/maps/somebody_else")).unwrap();
        assert_eq!(older(path).unwrap().into_keys().collect::<Vec<_>>(), [0]);
        fs::create_dir_all(path.join("v0/further")).unwrap();
        assert!(older(path).unwrap().is_empty());

        let directory = path.join(format!("v{}", ABI_VERSION + 1));
        fs::create_dir(&directory).unwrap();
        let error = refuse_newer(path).unwrap_err().to_string();
        assert!(error.contains(directory.to_str().unwrap()), "{error}");
        assert!(error.contains("adit uninstall"), "{error}");
    }
}
