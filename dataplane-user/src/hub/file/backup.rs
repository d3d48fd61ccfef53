//! The backup of a file: its content before the last change, in a file beside it.
//!
//! The backup has the ending `.bak`, or `.bak-` and the time if an administrator created `.bak`. The lock
//! file contains the ending and the hash of the backup that Adit wrote last, so a file that an administrator
//! created or changed is recognized.

use std::fs;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{HubError, Locked, beside, failed};
use crate::files;
use crate::net::hash::stable_hash;

/// Writes a backup with these bytes. A file that Adit did not write is never overwritten.
pub(super) fn keep(file: &mut Locked, former: &[u8]) -> Result<(), HubError> {
    let path = free(file).map_err(failed(&beside(&file.path, ".bak")))?;
    file.write(&path, former).map_err(failed(&path))?;
    let lock = beside(&file.path, ".lock");
    record(file, &path, former).map_err(failed(&lock))
}

/// The backup that was written last, if it is unchanged.
pub(super) fn last(file: &Locked) -> Option<PathBuf> {
    let mut text = String::new();
    let mut lock = &file.lock;
    lock.rewind().ok()?;
    lock.read_to_string(&mut text).ok()?;
    let (hash, ending) = text.trim_end().split_once(' ')?;
    let path = beside(&file.path, ending);
    let bytes = files::read(&path).ok()?;
    (format!("{:016x}", stable_hash(&bytes)) == hash).then_some(path)
}

/// The path of the next backup: that of the last backup, or an unused name.
fn free(file: &Locked) -> io::Result<PathBuf> {
    let plain = beside(&file.path, ".bak");
    // A dangling symbolic link is used by somebody, too.
    let is_free = |path: &PathBuf| match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
        found => found.map(|_| false),
    };
    if is_free(&plain)? {
        return Ok(plain);
    }
    if let Some(last) = last(file) {
        return Ok(last);
    }
    let dated = format!(".bak-{}", date(SystemTime::now()));
    let mut path = beside(&file.path, &dated);
    let mut number = 1;
    while !is_free(&path)? {
        number += 1;
        path = beside(&file.path, &format!("{dated}-{number}"));
    }
    Ok(path)
}

fn record(file: &Locked, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let whole = path.as_os_str().to_string_lossy();
    let ending = whole.strip_prefix(&*file.path.as_os_str().to_string_lossy());
    let text = format!("{:016x} {}\n", stable_hash(bytes), ending.unwrap_or_default());
    let mut lock = &file.lock;
    lock.rewind()?;
    lock.set_len(0)?;
    lock.write_all(text.as_bytes())
}

/// A time in UTC, such as `20251128T093000Z` (ISO 8601, basic format).
fn date(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (day, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin with March here, so that a leap day is the last day of its year. There are 719,468 days
    // between 0000-03-01 and 1970-01-01, and 146,097 days in 400 years.
    let day = day + 719_468;
    let (era, day_of_era) = (day / 146_097, day % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = era * 400 + year_of_era + next_year;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}{month:02}{day_of_month:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, wanted) in [
            (0, "19700101T000000Z"),
            (951_782_399, "20000228T235959Z"),
            (951_782_400, "20000229T000000Z"),
            (1_764_322_200, "20251128T093000Z"),
            (4_107_542_400, "21000301T000000Z"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), wanted);
        }
    }
}
