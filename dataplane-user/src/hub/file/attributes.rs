//! Extended attributes of files (xattr(7)).

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

/// The attribute with a POSIX ACL. It exists only if the ACL has more entries than the mode expresses.
const ACL: &[u8] = b"system.posix_acl_access";
/// The largest size of a name list or a value, in bytes (`XATTR_LIST_MAX` and `XATTR_SIZE_MAX`,
/// linux/limits.h).
const MAX_SIZE: usize = 65_536;

/// The extended attributes of a file.
#[derive(Debug, Default)]
pub(super) struct Attributes {
    /// Whether the file has an ACL.
    pub(super) has_acl: bool,
    named: Vec<(CString, Vec<u8>)>,
}

impl Attributes {
    /// Reads the attributes of a file. There are none if the file does not exist or its file system has no
    /// attributes.
    pub(super) fn of(path: &Path) -> io::Result<Attributes> {
        let mut names = vec![0; MAX_SIZE];
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
            let mut value = vec![0; MAX_SIZE];
            let length = match getxattr(path, &name, &mut value[..]) {
                Err(Errno::NODATA) => continue,
                length => length?,
            };
            value.truncate(length);
            attributes.named.push((name, value));
        }
        Ok(attributes)
    }

    /// Sets the attributes on another file.
    pub(super) fn copy_to(&self, file: &File) -> io::Result<()> {
        for (name, value) in &self.named {
            // A security module may have set the same attribute already and may not allow to set it.
            let mut now = vec![0; MAX_SIZE];
            let has = fgetxattr(file, name, &mut now[..]);
            if has.is_ok_and(|length| now[..length] == value[..]) {
                continue;
            }
            fsetxattr(file, name, value, XattrFlags::empty()).map_err(|error| {
                let name = OsStr::from_bytes(name.as_bytes()).display().to_string();
                let error = io::Error::from(error);
                io::Error::new(error.kind(), format!("can't keep its attribute {name}: {error}"))
            })?;
        }
        Ok(())
    }
}

/// Whether an attribute is copied. Attributes in `system.` belong to the file system, and those of integrity
/// modules sign the former content.
fn is_copied(name: &[u8]) -> bool {
    !name.is_empty()
        && !name.starts_with(b"system.")
        && ![&b"security.ima"[..], b"security.evm"].contains(&name)
}
