//! The paths of pins: `<bpffs>/v<ABI>/maps/<map>` for maps, `<bpffs>/v<ABI>/links/<device>-<hook>` for TCX
//! links, and `<bpffs>/v<ABI>/programs/<device>-<hook>-<program id>` for programs of clsact filters. The
//! carry map is next to the directories of the versions. These paths are the same in all versions of the ABI.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use dataplane_ebpf::layout::{ABI_VERSION, carry};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::{syscall, versions};
use crate::files;
use crate::kernel::KernelError;
use crate::model::Hook;
use crate::net::LinkName;

/// The names of the directories of a version, the same in every version.
pub(super) const MAPS: &str = "maps";
pub(super) const LINKS: &str = "links";
pub(super) const PROGRAMS: &str = "programs";

/// The directories of one ABI version.
#[derive(Clone, Debug)]
pub(super) struct Pins {
    /// The parent of the other directories.
    directory: PathBuf,
    /// Pinned maps, by name.
    pub(super) maps: PathBuf,
    /// Pinned TCX links.
    pub(super) links: PathBuf,
    /// Pinned programs of clsact filters: the name of a pin tells with which program a filter is managed by
    /// Adit.
    programs: PathBuf,
}

/// A pinned program of a clsact filter.
#[derive(Clone, Debug)]
pub(super) struct ProgramPin {
    pub(super) link: LinkName,
    pub(super) hook: Hook,
    /// The kernel id of the program, which is not reused while the pin exists.
    pub(super) id: u32,
    pub(super) path: PathBuf,
}

impl Pins {
    /// The directories of this version.
    pub(super) fn below(bpffs: &Path) -> Pins {
        Pins::of(bpffs.join(format!("v{ABI_VERSION}")))
    }

    /// The directories below the directory of a version.
    pub(super) fn of(directory: PathBuf) -> Pins {
        Pins {
            maps: directory.join(MAPS),
            links: directory.join(LINKS),
            programs: directory.join(PROGRAMS),
            directory,
        }
    }

    /// The directory that contains all versions.
    pub(super) fn bpffs(&self) -> &Path {
        self.directory.parent().unwrap_or(&self.directory)
    }

    /// Creates the directories.
    pub(super) fn create(&self, bpffs: &Path) -> Result<(), KernelError> {
        check_file_system(bpffs)?;
        for directory in [&self.maps, &self.links, &self.programs] {
            // Other users must not be able to lock the directory.
            let created = DirBuilder::new().recursive(true).mode(0o700).create(directory);
            created.map_err(|error| KernelError::new(format!("creating {}", directory.display()), error))?;
        }
        let owner = fs::metadata(bpffs).map(|found| found.uid());
        let owner =
            owner.map_err(|error| KernelError::new(format!("checking {}", bpffs.display()), error))?;
        if owner != 0 && owner != nix::unistd::geteuid().as_raw() {
            let text = format!("it belongs to user {owner}, who could replace the pins: remove it");
            let error = io::Error::new(io::ErrorKind::PermissionDenied, text);
            return Err(KernelError::new(
                format!("using {} for pins", bpffs.display()),
                error,
            ));
        }
        Ok(())
    }

    /// The path of the pin of a link on a device.
    pub(super) fn link(&self, link: &LinkName, hook: Hook) -> PathBuf {
        self.links.join(format!("{link}-{hook}"))
    }

    /// Lists the pinned links with device, hook and path. Files with other names are ignored.
    pub(super) fn list_links(&self) -> Result<Vec<(LinkName, Hook, PathBuf)>, KernelError> {
        let parse = |path: PathBuf| {
            let (link, hook) = device_and_hook(path.file_name()?.to_str()?)?;
            Some((link, hook, path))
        };
        Ok(list_or_fail(&self.links)?.into_iter().filter_map(parse).collect())
    }

    /// The path of the pin of a program in a filter on a device.
    pub(super) fn program(&self, link: &LinkName, hook: Hook, id: u32) -> PathBuf {
        self.programs.join(format!("{link}-{hook}-{id}"))
    }

    /// Lists the pinned programs of clsact filters. Files with other names are ignored.
    pub(super) fn list_programs(&self) -> Result<Vec<ProgramPin>, KernelError> {
        let parse = |path: PathBuf| {
            let (name, id) = path.file_name()?.to_str()?.rsplit_once('-')?;
            let ((link, hook), id) = (device_and_hook(name)?, id.parse().ok()?);
            Some(ProgramPin { link, hook, id, path })
        };
        let paths = list_or_fail(&self.programs)?;
        Ok(paths.into_iter().filter_map(parse).collect())
    }

    /// Removes the pins of programs for a hook of a device, except that of the program with the id `kept`.
    pub(super) fn remove_programs(
        &self,
        link: &LinkName,
        hook: Hook,
        kept: Option<u32>,
    ) -> Result<(), KernelError> {
        for pin in self.list_programs()? {
            if (&pin.link, pin.hook) == (link, hook) && Some(pin.id) != kept {
                fs::remove_file(&pin.path).map_err(|error| removing(&pin.path, error))?;
            }
        }
        Ok(())
    }

    /// Removes all pins and the directories. Programs that these links attach are detached. Missing files are
    /// no error.
    pub(super) fn remove(&self) -> Result<(), KernelError> {
        let listed = |directory: &Path| list_if_there(directory).map_err(|error| removing(directory, error));
        for pin in listed(&self.links)? {
            remove_link(&pin)?;
        }
        for pin in listed(&self.maps)?.into_iter().chain(listed(&self.programs)?) {
            fs::remove_file(&pin).map_err(|error| removing(&pin, error))?;
        }
        for directory in [&self.links, &self.maps, &self.programs, &self.directory] {
            match fs::remove_dir(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(removing(directory, error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// Locks the directory of Adit on a BPF file system until the value is dropped: processes of different network
/// namespaces may see the same directory.
///
/// # Errors
/// When it can't be opened, or another process has locked it ([`is_locked`]).
pub fn lock(bpffs: &Path) -> Result<File, KernelError> {
    let failed = |error| KernelError::new(format!("locking {}", bpffs.display()), error);
    let directory = File::open(bpffs).map_err(failed)?;
    match directory.try_lock() {
        Ok(()) => Ok(directory),
        Err(TryLockError::Error(error)) => Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            let text = format!(
                "it is in use by {}, an agent or command of another network namespace; each network namespace needs a \
                 directory of its own (--bpffs)",
                files::locked_by(&directory)
            );
            Err(failed(io::Error::new(io::ErrorKind::ResourceBusy, text)))
        }
    }
}

/// Whether this is the error of [`lock`] while another process has locked the directory.
#[must_use]
pub fn is_locked(error: &KernelError) -> bool {
    error.errno().is_none() && error.source.kind() == io::ErrorKind::ResourceBusy
}

/// Removes everything that any version of Adit has pinned below `bpffs`, and the directories. Programs that
/// are still attached with TCX are detached; filters of clsact devices stay until they or their device are
/// deleted. Files that Adit did not create stay, and so does the directory that contains them.
///
/// # Errors
/// When a pin or directory of Adit can't be removed. Missing ones are no error.
pub fn uninstall(bpffs: &Path) -> Result<(), KernelError> {
    let there = bpffs.try_exists();
    if !there.map_err(|error| KernelError::new(format!("checking {}", bpffs.display()), error))? {
        return Ok(());
    }
    for directory in versions::managed(bpffs)?.into_values() {
        Pins::of(directory).remove()?;
    }
    let carried = bpffs.join(carry::DIRECTORY);
    for (path, remove) in [
        (
            carried.join(carry::NAME),
            fs::remove_file as fn(PathBuf) -> io::Result<()>,
        ),
        (carried, fs::remove_dir),
    ] {
        match remove(path.clone()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(removing(&path, error)),
            _ => {}
        }
    }
    match fs::remove_dir(bpffs).map_err(|error| (error.raw_os_error(), error)) {
        // It is a mount point, or contains files that Adit did not create.
        Ok(()) | Err((Some(libc::EBUSY | libc::ENOTEMPTY), _)) => Ok(()),
        Err((_, error)) => Err(removing(bpffs, error)),
    }
}

/// Detaches a pinned link at once and removes its pin. Removing the pin alone would detach the link only some
/// time later.
pub(super) fn remove_link(pin: &Path) -> Result<(), KernelError> {
    match syscall::detach_link(pin) {
        // Its device does not exist any more, or it can't be detached: then it is enough to remove the pin.
        Ok(()) => {}
        Err(error)
            if matches!(
                error.raw_os_error(),
                Some(libc::ENOLINK | libc::EOPNOTSUPP | libc::EINVAL)
            ) => {}
        Err(error) => {
            return Err(KernelError::new(format!("detaching {}", pin.display()), error));
        }
    }
    fs::remove_file(pin).map_err(|error| removing(pin, error))
}

fn removing(path: &Path, error: io::Error) -> KernelError {
    KernelError::new(format!("removing {}", path.display()), error)
}

/// Refuses a directory that is not on a BPF file system, or would not be created on one.
pub(super) fn check_file_system(bpffs: &Path) -> Result<(), KernelError> {
    let existing = bpffs
        .ancestors()
        .find(|path| path.exists())
        .unwrap_or_else(|| Path::new("/"));
    let found = statfs(existing)
        .map_err(|errno| KernelError::new(format!("checking {}", existing.display()), errno.into()))?;
    if found.filesystem_type() == BPF_FS_MAGIC {
        return Ok(());
    }
    // The usual directory is /sys/fs/bpf/adit, whose parent has to be mounted.
    let mount_point = if bpffs.starts_with("/sys/fs/bpf") {
        Path::new("/sys/fs/bpf")
    } else {
        bpffs
    };
    Err(KernelError::new(
        format!("using {} for pins", bpffs.display()),
        io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "{} is not on a BPF file system; run `mount -t bpf bpf {}`",
                existing.display(),
                mount_point.display()
            ),
        ),
    ))
}

fn device_and_hook(name: &str) -> Option<(LinkName, Hook)> {
    let (link, hook) = name.rsplit_once('-')?;
    let hook = [Hook::Egress, Hook::Ingress]
        .into_iter()
        .find(|known| known.to_string() == hook)?;
    Some((LinkName::new(link).ok()?, hook))
}

fn list_or_fail(directory: &Path) -> Result<Vec<PathBuf>, KernelError> {
    list_if_there(directory)
        .map_err(|error| KernelError::new(format!("reading {}", directory.display()), error))
}

/// The paths in a directory, sorted by name; empty if the directory does not exist.
pub(super) fn list_if_there(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}
