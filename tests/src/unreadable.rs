//! Makes a file unreadable in several ways that also affect root, for whom file modes do not matter.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use nix::sys::stat::Mode;

/// The way in which the key is known to be missing.
pub const GONE: &str = "is gone";

/// The ways, each with a description.
const WAYS: [&str; 6] = [
    GONE,
    "is a directory",
    "is a link to itself",
    "is a FIFO",
    "can be read by its group",
    "is cut off",
];

/// Makes a file with a secret unreadable in each way, calls `meanwhile` with the description, and restores the file.
///
/// # Panics
/// If the file cannot be changed.
pub fn each_way(path: &Path, mut meanwhile: impl FnMut(&str)) {
    let text = fs::read(path).expect("it can be read at first");
    for way in WAYS {
        let done = match way {
            "can be read by its group" => fs::set_permissions(path, Permissions::from_mode(0o640)),
            "is cut off" => fs::write(path, &text[..text.len() / 2]),
            _ => fs::remove_file(path),
        };
        done.expect("the file is writable");
        match way {
            "is a directory" => fs::create_dir(path),
            "is a link to itself" => symlink(path, path),
            "is a FIFO" => nix::unistd::mkfifo(path, Mode::S_IRUSR).map_err(Into::into),
            _ => Ok(()),
        }
        .expect("the file is writable");
        meanwhile(way);
        // By a rename, so that readers never see an incomplete file.
        if path.is_dir() {
            fs::remove_dir(path).expect("it is empty");
        }
        let new = path.with_extension("new");
        fs::write(&new, &text).expect("the file is writable");
        fs::set_permissions(&new, Permissions::from_mode(0o600)).expect("the file is writable");
        fs::rename(new, path).expect("the file is writable");
    }
}
