//! Opens the file of a network namespace. This never blocks, and files of other kinds are refused.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, RawFd};
use std::path::Path;

use nix::sys::statfs::{NSFS_MAGIC, fstatfs};

use crate::files;
use crate::model::facts::Presence;

/// Opens a namespace. The error tells whether it is absent, inaccessible or unknown, with the reason.
pub(super) fn open(path: &Path) -> Result<File, Presence> {
    let why = |error: &io::Error| format!("{}: {error}", path.display());
    let failed = |error: io::Error| match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::ESRCH) => Presence::Absent(why(&error)),
        Some(libc::EACCES | libc::EPERM) => Presence::Denied,
        _ => Presence::Unknown(why(&error)),
    };
    let other = |what: &str| {
        let path = path.display();
        Presence::Unknown(format!("{path} is {what}, not a network namespace"))
    };
    let found = files::find(path).map_err(failed)?;
    let system = fstatfs(&found).map_err(|error| failed(error.into()))?;
    if system.filesystem_type() != NSFS_MAGIC {
        let kind = found.metadata().map_err(failed)?.file_type();
        return Err(other(files::name(kind)));
    }
    let file = files::open_found(&found).map_err(failed)?;
    match kind(file.as_raw_fd()).map_err(failed)? {
        libc::CLONE_NEWNET => Ok(file),
        _ => Err(other("another kind of namespace")),
    }
}

/// The kind of a namespace, as a flag of clone(2) (`NS_GET_NSTYPE`, ioctl_ns(2)).
#[expect(unsafe_code, reason = "an ioctl")]
fn kind(namespace: RawFd) -> io::Result<libc::c_int> {
    /// linux/nsfs.h
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: the descriptor is open, and this request takes no argument.
    let kind = unsafe { libc::ioctl(namespace, NS_GET_NSTYPE) };
    if kind < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(kind)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_network_namespaces_are_opened_and_nothing_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let own = Path::new("/proc/thread-self/ns/net");
        assert!(open(own).is_ok());
        symlink(own, at("link")).unwrap();
        assert!(open(&at("link")).is_ok());

        nix::unistd::mkfifo(&at("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("loop", at("loop")).unwrap();
        let unknown = |path: &Path| match open(path) {
            Err(Presence::Unknown(why)) => why,
            other => panic!("{other:?}"),
        };
        assert!(unknown(&at("fifo")).contains("a FIFO"));
        assert!(unknown(&at("file")).contains("a regular file"));
        assert!(unknown(directory.path()).contains("a directory"));
        assert!(unknown(Path::new("/dev/zero")).contains("a device"));
        assert!(unknown(Path::new("/proc/thread-self/ns/uts")).contains("another kind"));
        unknown(&at("loop"));
        assert!(matches!(open(&at("none")), Err(Presence::Absent(_))));
        assert!(matches!(open(&at("file/below")), Err(Presence::Absent(_))));
        assert!(matches!(
            open(Path::new("/proc/0/ns/net")),
            Err(Presence::Absent(_))
        ));
    }
}
