//! The directories of all ABI versions below `bpffs`: an older one's programs are taken over and its pins removed, a
//! newer one is left alone. All versions name their pins alike, so that a later one finds them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use dataplane_ebpf::layout::ABI_VERSION;

use super::pins::{self, Pins};
use crate::kernel::KernelError;

/// What the name of each of our maps begins with, in every version.
const MAP_PREFIX: &str = "adit_";

/// A newer version has been at work here: what its maps mean is not known to this one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{} is of a newer Adit (map ABI {version}, this one has {ABI_VERSION}); run that one, or have its `adit \
     uninstall` remove the dataplane",
    .directory.display()
)]
pub struct NewerVersion {
    /// Its directory.
    pub directory: PathBuf,
    /// Its ABI version.
    pub version: u32,
}

/// Looks for a newer version's directory below `bpffs`, whatever is in it.
///
/// # Errors
/// When `bpffs` can't be read; one that is not there is fine.
pub fn newer(bpffs: &Path) -> Result<Option<NewerVersion>, KernelError> {
    let newest = list(bpffs)?.pop_last();
    Ok(newest
        .filter(|(version, _)| *version > ABI_VERSION)
        .map(|(version, directory)| NewerVersion { directory, version }))
}

/// Refuses to go on beside a newer version.
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
    for (version, directory) in ours(bpffs)? {
        if version < ABI_VERSION {
            older.insert(version, Pins::of(directory));
        }
    }
    Ok(older)
}

/// The directories that hold nothing but pins of ours.
pub(super) fn ours(bpffs: &Path) -> Result<BTreeMap<u32, PathBuf>, KernelError> {
    let mut versions = BTreeMap::new();
    for (version, directory) in list(bpffs)? {
        if is_ours(&directory).map_err(|error| reading(&directory, error))? {
            versions.insert(version, directory);
        }
    }
    Ok(versions)
}

/// Everything that is named as a version's directory is.
pub(super) fn list(bpffs: &Path) -> Result<BTreeMap<u32, PathBuf>, KernelError> {
    let paths = pins::list_if_there(bpffs).map_err(|error| reading(bpffs, error))?;
    let versions = paths.into_iter().filter_map(|path| Some((version(&path)?, path)));
    Ok(versions.collect())
}

/// Somebody else may have a directory `v1` too where `bpffs` is not ours alone.
fn is_ours(directory: &Path) -> io::Result<bool> {
    if !fs::symlink_metadata(directory)?.is_dir() {
        return Ok(false);
    }
    let directories = [pins::MAPS, pins::LINKS, pins::PROGRAMS];
    let known = |path: &PathBuf| directories.iter().any(|name| path.ends_with(name));
    let our_map = |path: &PathBuf| name(path).starts_with(MAP_PREFIX);
    Ok(pins::list_if_there(directory)?.iter().all(known)
        && pins::list_if_there(&directory.join(pins::MAPS))?
            .iter()
            .all(our_map))
}

fn version(path: &Path) -> Option<u32> {
    let number = name(path).strip_prefix('v')?;
    let version = number.parse::<u32>().ok()?;
    // Neither `v01` nor `v+1`.
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
    fn versions_are_told_by_their_names() {
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
