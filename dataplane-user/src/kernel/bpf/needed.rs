//! Finds out whether this process needs BPF at all: whether there is a BPF file system, and whether an
//! earlier process may have left objects of Adit in the kernel.

use std::io;
use std::path::Path;

use super::attach::{self, Mechanism};
use super::pins::check_file_system;
use super::{LinkNames, syscall, versions};
use crate::kernel::KernelError;
use crate::model::Hook;
use crate::net::LinkName;

/// Why nothing can be pinned in the directory of Adit, with the command that solves it; `None` if the
/// directory is on a BPF file system, or would be created on one.
///
/// # Errors
/// When the file system can't be examined.
pub(in crate::kernel) fn missing_file_system(bpffs: &Path) -> Result<Option<String>, KernelError> {
    match check_file_system(bpffs) {
        Ok(()) => Ok(None),
        Err(error) if error.source.kind() == io::ErrorKind::Unsupported => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether the directory of Adit contains pins of any version.
///
/// # Errors
/// When it can't be read; a missing directory is no error.
pub(crate) fn is_pinned(bpffs: &Path) -> Result<bool, KernelError> {
    Ok(!versions::list(bpffs)?.is_empty())
}

/// Whether one of these managed devices may have a program although no pins are visible: they may be on a BPF
/// file system that is mounted elsewhere. With TCX it takes privileges to find out which programs are on a
/// device, so any program counts.
///
/// # Errors
/// When a device can't be asked.
pub(in crate::kernel) fn is_attached<'l>(
    links: &dyn LinkNames,
    devices: impl Iterator<Item = &'l LinkName>,
) -> Result<bool, KernelError> {
    let mut devices = devices.peekable();
    if devices.peek().is_none() {
        return Ok(false);
    }
    let mechanism = match Mechanism::probe() {
        Err(error) if error.errno() == Some(libc::ENOSYS) => return Ok(false),
        mechanism => mechanism?,
    };
    for link in devices {
        let Some(ifindex) = links.index(link) else {
            continue;
        };
        for hook in [Hook::Egress, Hook::Ingress] {
            let found = match mechanism {
                Mechanism::Tcx => {
                    syscall::tcx_programs(ifindex, attach::tcx_side(hook)).map(|count| count > 0)
                }
                Mechanism::Clsact => attach::has_filter(ifindex, hook),
            };
            match found {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                // The device was deleted meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => {
                    return Err(KernelError::new(
                        format!("listing the {hook} programs of {link}"),
                        error,
                    ));
                }
            }
        }
    }
    Ok(false)
}
