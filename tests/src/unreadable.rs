//! Ways in which a file can't be read for a while, also for root, whom no mode stops.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nix::sys::stat::Mode;

/// The way in which it is known that there is no key.
pub const GONE: &str = "is gone";

/// What becomes of a file, in a few words.
const WAYS: [&str; 6] = [
    GONE,
    "is a directory",
    "is a link to itself",
    "is a FIFO",
    "can be read by its group",
    "is cut off",
];

/// Makes a file with a secret unreadable in each way, calls `meanwhile` with the way, and puts the file back.
///
/// # Panics
/// When the file can't be changed.
pub fn each_way(path: &Path, mut meanwhile: impl FnMut(&str)) {
    let text = fs::read(path).expect("it can be read at first");
    for way in WAYS {
        let done = match way {
            "can be read by its group" => fs::set_permissions(path, Permissions::from_mode(0o640)),
            "is cut off" => fs::write(path, &text[..text.len() / 2]),
            _ => fs::remove_file(path),
        };
        done.expect("a file of the test's");
        match way {
            "is a directory" => fs::create_dir(path),
            "is a link to itself" => symlink(path, path),
            "is a FIFO" => nix::unistd::mkfifo(path, Mode::S_IRUSR).map_err(Into::into),
            _ => Ok(()),
        }
        .expect("a file of the test's");
        meanwhile(way);
        // By a rename, so that nobody sees half of it.
        if path.is_dir() {
            fs::remove_dir(path).expect("it is empty");
        }
        let new = path.with_extension("new");
        fs::write(&new, &text).expect("a file of the test's");
        fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("a file of the test's");
        fs::rename(new, path).expect("a file of the test's");
    }
}
