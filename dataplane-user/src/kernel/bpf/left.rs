//! Whether BPF concerns this process at all: whether there is a BPF file system, and whether something of Adit's may be left in
//! the kernel by an earlier process.

use std::io;
use std::path::Path;

use super::attach::{self, Mechanism};
use super::pins::check_file_system;
use super::{LinkNames, syscall, versions};
use crate::kernel::KernelError;
use crate::model::Hook;
use crate::net::LinkName;

/// Why nothing can be pinned in our directory, with the command that mends it; `None`: it is on a BPF file system, or would be made
/// on one.
///
/// # Errors
/// When that can't be told.
pub(in crate::kernel) fn missing_file_system(bpffs: &Path) -> Result<Option<String>, KernelError> {
    match check_file_system(bpffs) {
        Ok(()) => Ok(None),
        Err(error) if error.source.kind() == io::ErrorKind::Unsupported => Ok(Some(error.to_string())),
        Err(error) => Err(error),
    }
}

/// Whether a version's pins are below our directory.
///
/// # Errors
/// When it can't be read; that it is not there is fine.
pub(crate) fn is_pinned(bpffs: &Path) -> Result<bool, KernelError> {
    Ok(!versions::list(bpffs)?.is_empty())
}

/// Whether a program may be on one of these devices, which are ours, though no pins can be seen: they may be on a BPF file system
/// that is mounted elsewhere. With TCX it takes privileges to tell whose programs are on a device: any counts.
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
                // It went meanwhile.
                Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
                Err(error) => {
                    return Err(KernelError::new(
                        format!("asking for the {hook} programs of {link}"),
                        error,
                    ));
                }
            }
        }
    }
    Ok(false)
}
