//! Revisions: numbers that show a change of programs or pins without an event.

use std::io;

use dataplane_ebpf::layout::names;

use super::attach::tcx_side;
use super::{Bpf, LinkNames, Mechanism, syscall};
use crate::kernel::KernelError;
use crate::kernel::revision::{ProgramRevision, Revisions};
use crate::model::Hook;
use crate::net::LinkName;

impl Bpf {
    /// Reads the revisions, with a few system calls per device and map. With clsact only these devices are
    /// searched.
    ///
    /// # Errors
    /// When a revision can't be read.
    pub fn revisions<'l>(
        &self,
        links: &dyn LinkNames,
        devices: impl Iterator<Item = &'l LinkName>,
    ) -> Result<Revisions, KernelError> {
        let attached = self.attacher(links).observe(devices)?;
        let mut revisions = Revisions {
            dead_links: attached.dead.len(),
            ..Revisions::default()
        };
        for ((link, hook), id) in attached.programs {
            let hook_revision = self.hook_revision(links, &link, hook)?;
            let program = ProgramRevision {
                id,
                hook: hook_revision,
            };
            revisions.programs.insert((link, hook), program);
        }
        for name in names::PINNED_MAPS {
            let path = self.pins.maps.join(name);
            let id = match syscall::pinned_map_id(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => None,
                id => {
                    Some(id.map_err(|error| KernelError::new(format!("reading {}", path.display()), error))?)
                }
            };
            revisions.maps.insert(name, id);
        }
        Ok(revisions)
    }

    /// The number of changes on a hook of a device; `None` without TCX, or if the device was deleted
    /// meanwhile.
    fn hook_revision(
        &self,
        links: &dyn LinkNames,
        link: &LinkName,
        hook: Hook,
    ) -> Result<Option<u64>, KernelError> {
        let (Mechanism::Tcx, Some(ifindex)) = (self.mechanism, links.index(link)) else {
            return Ok(None);
        };
        match syscall::tcx_revision(ifindex, tcx_side(hook)) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            revision => revision
                .map(Some)
                .map_err(|error| KernelError::new(format!("listing the {hook} programs of {link}"), error)),
        }
    }
}
