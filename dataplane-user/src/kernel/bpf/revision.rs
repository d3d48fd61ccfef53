//! The numbers by which a change of programs or pins shows without an event.

use std::io;

use dataplane_ebpf::layout::names;

use super::attach::tcx_side;
use super::{Bpf, LinkNames, Mechanism, syscall};
use crate::kernel::KernelError;
use crate::kernel::revision::{ProgramRevision, Revisions};
use crate::model::Hook;
use crate::net::LinkName;

impl Bpf {
    /// Reads them: a few system calls a device and a map. With clsact only these devices are searched.
    ///
    /// # Errors
    /// When one can't be read.
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

    /// How often something changed on a device's hook; `None` without TCX, and where the device went meanwhile.
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
            revision => revision.map(Some).map_err(|error| {
                KernelError::new(format!("asking for the {hook} programs of {link}"), error)
            }),
        }
    }
}
