//! Facts about this machine that files tell: distribution, programs, privileges.
use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The content of /etc/os-release.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Distribution {
    /// `ID`, such as `debian`, `ubuntu` or `fedora`.
    pub id: String,
    /// `ID_LIKE`: the distributions that it is derived from, separated by blanks.
    pub like: String,
    /// `VERSION_CODENAME`, such as `bookworm`; may be empty.
    pub codename: String,
}

impl Distribution {
    /// The distribution of this machine.
    pub fn of_host() -> Self {
        Self::parse(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    /// Whether this is the distribution `id` or derived from it.
    pub fn is(&self, id: &str) -> bool {
        self.id == id || self.like.split(' ').any(|like| like == id)
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            let found = text
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            found
                .unwrap_or_default()
                .trim()
                .trim_matches(['"', '\''])
                .to_owned()
        };
        Self {
            id: value("ID"),
            like: value("ID_LIKE"),
            codename: value("VERSION_CODENAME"),
        }
    }
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Where programs are: the directories of `$PATH`, then those for administrators, which `$PATH` often lacks.
pub fn program_dirs() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administrators).collect()
}

/// The path of a program.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let mut files = program_dirs().into_iter().map(|dir| dir.join(name));
    files.find(|file| is_executable(file))
}

/// Whether this is a regular file that somebody may execute.
pub fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Whether this file is a 64-bit ELF program that needs no dynamic linker.
pub fn is_static_program(file: &Path) -> bool {
    fs::read(file).is_ok_and(|bytes| has_no_interpreter(&bytes).unwrap_or(false))
}

/// Walks the program headers of a little-endian ELF64 image (System V ABI, "Program Header"); `None` when it's not one.
fn has_no_interpreter(elf: &[u8]) -> Option<bool> {
    const PT_INTERP: u32 = 3;
    let u16_at = |at: usize| Some(u16::from_le_bytes(elf.get(at..at + 2)?.try_into().ok()?));
    let u32_at = |at: usize| Some(u32::from_le_bytes(elf.get(at..at + 4)?.try_into().ok()?));

    if elf.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let table = usize::try_from(u32_at(0x20)?).ok()?;
    let (size, count) = (usize::from(u16_at(0x36)?), usize::from(u16_at(0x38)?));
    for index in 0..count {
        if u32_at(table + index * size)? == PT_INTERP {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_is_read_quoted_and_unquoted() {
        let ubuntu =
            Distribution::parse("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=\"debian\"\nVERSION_CODENAME=noble\n");
        assert!(ubuntu.is("debian") && ubuntu.is("ubuntu") && !ubuntu.is("fedora"));
        assert_eq!(ubuntu.codename, "noble");
        assert_eq!(Distribution::parse(""), Distribution::default());
    }

    #[test]
    fn this_test_needs_a_dynamic_linker() {
        assert!(!is_static_program(&env::current_exe().unwrap()));
        assert_eq!(has_no_interpreter(b"#!/bin/sh"), None);
    }

    #[test]
    fn a_program_without_interpreter_is_static() {
        let mut elf = vec![0; 0x40 + 2 * 0x38];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        (elf[0x20], elf[0x36], elf[0x38], elf[0x40]) = (0x40, 0x38, 2, 1);
        assert_eq!(has_no_interpreter(&elf), Some(true));
        elf[0x40 + 0x38] = 3;
        assert_eq!(has_no_interpreter(&elf), Some(false));
    }
}
