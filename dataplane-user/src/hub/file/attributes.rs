//! Extended attributes: what a file bears beside its bytes, its owner and its mode (xattr(7)).

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

/// The attribute that holds a POSIX ACL; it is there only where the ACL says more than the mode.
const ACL: &[u8] = b"system.posix_acl_access";
/// The most that a name list or a value takes (`XATTR_LIST_MAX` and `XATTR_SIZE_MAX`, linux/limits.h), in bytes.
const MOST: usize = 65_536;

/// What a file bears.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Whether it has an ACL.
    pub(super) has_acl: bool,
    named: Vec<(CString, Vec<u8>)>,
}

impl Attributes {
    /// Those of a file; none where there is no such file, or its file system knows none.
    pub(super) fn of(path: &Path) -> io::Result<Attributes> {
        let mut names = vec![0; MOST];
        let length = match listxattr(path, &mut names[..]) {
            Err(Errno::NOENT | Errno::OPNOTSUPP) => return Ok(Attributes::default()),
            length => length?,
        };
        let mut attributes = Attributes::default();
        for name in names[..length].split(|byte| *byte == 0) {
            attributes.has_acl |= name == ACL;
            if !is_copied(name) {
                continue;
            }
            let name = CString::new(name)?;
            let mut value = vec![0; MOST];
            let length = match getxattr(path, &name, &mut value[..]) {
                Err(Errno::NODATA) => continue,
                length => length?,
            };
            value.truncate(length);
            attributes.named.push((name, value));
        }
        Ok(attributes)
    }

    /// Gives them to another file.
    pub(super) fn copy_to(&self, file: &File) -> io::Result<()> {
        for (name, value) in &self.named {
            // A security module may have given it the same one already, and let nobody set it.
            let mut now = vec![0; MOST];
            let has = fgetxattr(file, name, &mut now[..]);
            if has.is_ok_and(|length| now[..length] == value[..]) {
                continue;
            }
            fsetxattr(file, name, value, XattrFlags::empty()).map_err(|error| {
                let name = OsStr::from_bytes(name.as_bytes()).display().to_string();
                let error = io::Error::from(error);
                io::Error::new(
                    error.kind(),
                    format!("its attribute {name} can't be kept: {error}"),
                )
            })?;
        }
        Ok(())
    }
}

/// What lies below `system.` is the file system's, and what integrity modules sign is of the former bytes.
fn is_copied(name: &[u8]) -> bool {
    !name.is_empty()
        && !name.starts_with(b"system.")
        && ![&b"security.ima"[..], b"security.evm"].contains(&name)
}
