//! Writes cpio archives in the "newc" format that the kernel unpacks as its first root
//! (Documentation/driver-api/early-userspace/buffer-format.rst of the kernel). Archives may be concatenated.
use std::collections::BTreeSet;

use anyhow::{Context as _, Result};

const DIRECTORY: u32 = 0o040_755;
const CHARACTER_DEVICE: u32 = 0o020_600;
const FILE: u32 = 0o100_000;

/// An archive under construction. Paths are relative to the root, without a leading slash.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<String>,
}

impl Archive {
    /// Adds a file with these permissions, and the directories above it.
    pub(super) fn file(&mut self, path: &str, permissions: u32, data: &[u8]) -> Result<()> {
        self.parents(path)?;
        self.entry(path, FILE | permissions, data, (0, 0))
    }

    /// Adds an empty directory, and those above it.
    pub(super) fn directory(&mut self, path: &str) -> Result<()> {
        self.parents(path)?;
        if self.directories.insert(path.to_owned()) {
            self.entry(path, DIRECTORY, &[], (0, 0))?;
        }
        Ok(())
    }

    /// Adds a character device by its major and minor number.
    pub(super) fn device(&mut self, path: &str, number: (u32, u32)) -> Result<()> {
        self.parents(path)?;
        self.entry(path, CHARACTER_DEVICE, &[], number)
    }

    /// Closes the archive.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[], (0, 0))?;
        Ok(self.bytes)
    }

    fn parents(&mut self, path: &str) -> Result<()> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8], device: (u32, u32)) -> Result<()> {
        self.entries += 1;
        let size =
            u32::try_from(data.len()).with_context(|| format!("{path} is too large for a cpio archive"))?;
        let name_size = u32::try_from(path.len() + 1).context("the name is too long for a cpio archive")?;
        // inode, mode, uid, gid, links, mtime, size, device, device, rdev, rdev, length of the name, checksum.
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            size,
            0,
            0,
            device.0,
            device.1,
            name_size,
            0,
        ];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08X}").bytes());
        }
        self.bytes.extend(path.bytes().chain([0]));
        self.pad();
        self.bytes.extend(data);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn headers_names_and_data_are_aligned() {
        let mut archive = Archive::default();
        archive.file("a/b/init", 0o755, b"#!x").unwrap();
        archive.device("dev/console", (5, 1)).unwrap();
        let bytes = archive.finish().unwrap();
        let names: Vec<usize> = (0..bytes.len())
            .filter(|at| bytes[*at..].starts_with(b"070701"))
            .collect();
        // a, a/b, a/b/init, dev, dev/console, the trailer
        assert_eq!(names.len(), 6);
        assert!(names.iter().all(|at| at % 4 == 0));
    }

    #[test]
    fn busybox_lists_the_added_files() {
        let mut archive = Archive::default();
        archive.file("bin/tool", 0o755, b"12345").unwrap();
        archive.directory("proc").unwrap();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &archive.finish().unwrap()).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let listed = Command::new("busybox")
            .args(["cpio", "-t"])
            .stdin(file)
            .stderr(Stdio::null())
            .output();
        let Ok(listed) = listed else {
            eprintln!("skipped: no busybox");
            return;
        };
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "bin\nbin/tool\nproc\n");
    }
}
