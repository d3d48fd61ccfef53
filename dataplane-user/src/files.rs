//! Reads and replaces files with names from users. Only regular files are read. A FIFO, a device or a
//! directory is an error at once, without blocking and without opening it.

use std::fs::{self, DirBuilder, File, FileType, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use crate::limits;

/// Opens a regular file for reading; symbolic links are followed.
///
/// # Errors
/// When it does not exist, is not a regular file, or can't be opened.
pub fn open(path: &Path) -> io::Result<File> {
    let found = find(path)?;
    let kind = found.metadata()?.file_type();
    if !kind.is_file() {
        let text = format!("it is {}, not a regular file", name(kind));
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    open_found(&found)
}

/// Reads a regular file of at most 64 MiB.
///
/// # Errors
/// As [`open`], or when it can't be read, is larger, or is not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    // The original error would contain the bytes, which may be secret.
    String::from_utf8(read(path)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The same for a file that need not be UTF-8.
///
/// # Errors
/// As [`open`], or when it can't be read or is larger.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    // A growing buffer would leave copies of its content in memory, which may be keys.
    let room = file.metadata()?.len().min(limits::TEXT_FILE_BYTES) + 1;
    let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
    let read = file.take(limits::TEXT_FILE_BYTES + 1).read_to_end(&mut bytes)?;
    fits(read).map(|()| bytes)
}

fn fits(read: usize) -> io::Result<()> {
    if u64::try_from(read).is_ok_and(|read| read > limits::TEXT_FILE_BYTES) {
        let text = format!("it is larger than {} MiB", limits::TEXT_FILE_BYTES >> 20);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, text));
    }
    Ok(())
}

/// A handle to the object of a path, to find out its kind (`O_PATH`, open(2)). The object itself is not
/// opened, so no driver is called and no FIFO blocks.
///
/// # Errors
/// When it does not exist or can't be reached.
pub(crate) fn find(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_PATH)
        .open(path)
}

/// Opens the object of a handle, even if the path leads to another one meanwhile.
///
/// # Errors
/// When it can't be opened; never `NotFound`.
pub(crate) fn open_found(found: &File) -> io::Result<File> {
    let path = format!("/proc/self/fd/{}", found.as_raw_fd());
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("/proc is not mounted"),
        _ => error,
    })
}

/// The process that has locked an open file or directory (flock(2)), for messages.
pub(crate) fn locked_by(file: &File) -> String {
    let hidden = || "a process of another PID namespace".to_owned();
    locker(file).map_or_else(hidden, |process| format!("process {process}"))
}

fn locker(file: &File) -> Option<u32> {
    let inode = file.metadata().ok()?.ino().to_string();
    let locks = fs::read_to_string("/proc/locks").ok()?;
    // `1: FLOCK  ADVISORY  WRITE 707 00:1a:5087 0 EOF`: the process, and device and inode of the file. The
    // device is not compared, because that of stat(2) is another one on some file systems.
    let mut holders = locks.lines().filter_map(|line| {
        let words = line.split_whitespace().collect::<Vec<_>>();
        let [_, "FLOCK", _, "WRITE", process, place, ..] = words[..] else {
            return None;
        };
        let found = place.rsplit(':').next()? == inode;
        found.then(|| process.parse().ok()).flatten()
    });
    holders.next()
}

/// The kind of a file, for messages.
pub(crate) fn name(kind: FileType) -> &'static str {
    if kind.is_file() {
        "a regular file"
    } else if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Replaces a file of the state directory atomically, mode 0600. Creates the directory, mode 0700, if there
/// is none. The file is on disk when this returns.
///
/// # Errors
/// When it can't be written; the previous file stays.
pub fn replace(directory: &Path, file: &str, text: &str) -> io::Result<()> {
    if !directory.exists() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    // Created with mode 0600.
    let mut new = tempfile::Builder::new()
        .prefix(&format!(".{file}."))
        .tempfile_in(directory)?;
    new.write_all(text.as_bytes())?;
    new.as_file().sync_all()?;
    new.persist(directory.join(file)).map_err(|error| error.error)?;
    File::open(directory)?.sync_all()
}

/// Removes a file, if there is one.
///
/// # Errors
/// When it can't be removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use nix::sys::stat::Mode;

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_nothing_blocks() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "text").unwrap();
        symlink(at("file"), at("link")).unwrap();
        assert_eq!(read_to_string(&at("file")).unwrap(), "text");
        assert_eq!(read_to_string(&at("link")).unwrap(), "text");

        nix::unistd::mkfifo(&at("fifo"), Mode::S_IRUSR).unwrap();
        symlink("loop", at("loop")).unwrap();
        let refused = |path: &Path| {
            let error = read(path).unwrap_err().to_string();
            assert_eq!(read_to_string(path).unwrap_err().to_string(), error);
            error
        };
        assert!(refused(&at("fifo")).contains("a FIFO, not a regular file"));
        assert!(refused(directory.path()).contains("a directory, not"));
        assert!(refused(Path::new("/dev/zero")).contains("a device, not"));
        assert_eq!(
            read_to_string(&at("loop")).unwrap_err().raw_os_error(),
            Some(libc::ELOOP)
        );
        assert_eq!(
            read_to_string(&at("none")).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
    }

    #[test]
    fn a_file_is_replaced_atomically_with_mode_0600() {
        let root = tempfile::tempdir().unwrap();
        let state = root.path().join("lib/state");
        replace(&state, "file", "one").unwrap();
        replace(&state, "file", "two").unwrap();
        assert_eq!(read_to_string(&state.join("file")).unwrap(), "two");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&state), mode(&state.join("file"))), (0o700, 0o600));
        assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
        remove(&state.join("file")).unwrap();
        remove(&state.join("file")).unwrap();
    }
}
