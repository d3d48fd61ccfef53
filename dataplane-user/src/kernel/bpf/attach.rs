//! Attaches programs to devices: with TCX if the kernel has it, else as a filter on a clsact qdisc. Both ways
//! a program is replaced in place, and other programs keep their position.
//!
//! A filter is managed by Adit if it has the priority and the handle of Adit, and if its program is pinned by
//! Adit or has the instructions of one of the programs of this process. The name of the program does not
//! count: kernels without names of programs have none.
//!
//! Devices are looked up in the network namespace of the calling thread.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::mem;
use std::path::{Path, PathBuf};

use aya::programs::links::{FdLink, Link as _, PinnedLink};
use aya::programs::tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact};
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};

use super::filter::{self, Filter};
use super::pins::{self, Pins};
use super::programs::{Programs, aya_error, program_error};
use super::{LinkNames, syscall};
use crate::kernel::KernelError;
use crate::model::Hook;
use crate::net::LinkName;

/// The priority and the handle of filters of Adit. They are fixed, so that a later process finds the filters
/// of an earlier one.
const PRIORITY: u16 = 173;
const HANDLE: TcHandle = TcHandle::new(0, 173);

/// The index of `lo`, the same in every namespace (`LOOPBACK_IFINDEX`, net/flow.h).
const LOOPBACK: u32 = 1;

/// How programs are attached to devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// TCX links, Linux 6.6.
    Tcx,
    /// Filters on a clsact qdisc.
    Clsact,
}

impl Mechanism {
    /// Finds out which mechanism the kernel has. A kernel without TCX does not know the query.
    ///
    /// The query asks for no program ids, so `CAP_NET_ADMIN` is enough, no matter which programs are on the
    /// device.
    ///
    /// # Errors
    /// When the answer is a different error, for example because a capability is missing.
    pub fn probe() -> Result<Mechanism, KernelError> {
        match syscall::tcx_revision(LOOPBACK, syscall::TCX_INGRESS) {
            Ok(_) => Ok(Mechanism::Tcx),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Mechanism::Clsact),
            Err(error) => Err(KernelError::new("testing whether the kernel has TCX", error)),
        }
    }
}

/// The result of an observation of devices.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// The programs of Adit, by kernel id.
    pub(super) programs: BTreeMap<(LinkName, Hook), u32>,
    /// Pins of links whose device was deleted or replaced, and of programs that no filter uses.
    pub(super) dead: Vec<PathBuf>,
}

/// Attaches, finds and detaches programs on the devices of one namespace.
pub(super) struct Attacher<'a> {
    pub(super) mechanism: Mechanism,
    pub(super) pins: &'a Pins,
    /// The pins of older ABI versions, whose links are also managed by Adit.
    pub(super) older: &'a BTreeMap<u32, Pins>,
    /// The tags of the programs of this process.
    pub(super) tags: BTreeSet<u64>,
    pub(super) links: &'a dyn LinkNames,
}

impl Attacher<'_> {
    /// Finds the programs of Adit; with clsact only on these devices.
    pub(super) fn observe<'l>(
        &self,
        devices: impl Iterator<Item = &'l LinkName>,
    ) -> Result<Attached, KernelError> {
        let mut found = Attached::default();
        if self.mechanism == Mechanism::Tcx {
            for (link, hook, pin) in self.pins.list_links()? {
                match self.live_link(&link, &pin)? {
                    Some(program) => drop(found.programs.insert((link, hook), program)),
                    None => found.dead.push(pin),
                }
            }
            for older in self.older.values().rev() {
                for (link, hook, pin) in older.list_links()? {
                    if !found.programs.contains_key(&(link.clone(), hook))
                        && let Some(program) = self.live_link(&link, &pin)?
                    {
                        found.programs.insert((link, hook), program);
                    }
                }
            }
            return Ok(found);
        }
        for link in devices {
            for hook in [Hook::Egress, Hook::Ingress] {
                if let Some(program) = self.managed_filter(link, hook)? {
                    found.programs.insert((link.clone(), hook), program);
                }
            }
        }
        for pin in self.pins.list_programs()? {
            let filter = self.filter(&pin.link, pin.hook)?;
            if filter.is_none_or(|filter| filter.program != pin.id) {
                found.dead.push(pin.path);
            }
        }
        Ok(found)
    }

    /// Attaches the program of a hook to a device that has no program of Adit there.
    pub(super) fn attach(
        &self,
        programs: &mut Programs,
        link: &LinkName,
        hook: Hook,
    ) -> Result<(), KernelError> {
        let doing = format!("attaching the {hook} program to {link}");
        match self.mechanism {
            Mechanism::Tcx => self.attach_tcx(&doing, programs.program(link, hook)?, link, hook),
            Mechanism::Clsact => {
                self.pin_program(&doing, programs, link, hook)?;
                attach_filter(&doing, programs.program(link, hook)?, link, hook)
            }
        }
    }

    /// Replaces the program of Adit on a device by that of this process. Every packet is handled by the one
    /// or the other.
    pub(super) fn replace(
        &self,
        programs: &mut Programs,
        link: &LinkName,
        hook: Hook,
    ) -> Result<(), KernelError> {
        let doing = format!("replacing the {hook} program of {link}");
        let old = match self.mechanism {
            Mechanism::Tcx => {
                let pin = self.pins.link(link, hook);
                if self.live_link(link, &pin)?.is_none() && !self.adopt_older(link, hook)? {
                    return Err(KernelError::new(
                        doing,
                        io::Error::from_raw_os_error(libc::ENODEV),
                    ));
                }
                let pinned = PinnedLink::from_pin(pin).map_err(|error| aya_error(&doing, &error))?;
                SchedClassifierLink::try_from(FdLink::from(pinned))
                    .map_err(|error| aya_error(&doing, &error))?
            }
            Mechanism::Clsact => {
                self.pin_program(&doing, programs, link, hook)?;
                filter_link(link, hook).map_err(|error| KernelError::new(&doing, error))?
            }
        };
        let program = programs.program(link, hook)?;
        program
            .attach_to_link(old)
            .and_then(|id| program.take_link(id))
            .map(keep)
            .map_err(|error| program_error(&doing, &error))?;
        if self.mechanism == Mechanism::Clsact {
            let kept = programs.identity(link, hook).map(|identity| identity.id);
            self.pins.remove_programs(link, hook, kept)?;
        }
        Ok(())
    }

    /// Detaches the program of Adit from a device. A clsact qdisc stays, because others may use it, too. It
    /// is no error if there is no program.
    pub(super) fn detach(&self, link: &LinkName, hook: Hook) -> Result<(), KernelError> {
        if self.mechanism == Mechanism::Tcx {
            let all = [self.pins].into_iter().chain(self.older.values());
            let mut pinned = all.map(|pins| pins.link(link, hook)).filter(|pin| pin.exists());
            return pinned.try_for_each(|pin| pins::remove_link(&pin));
        }
        if self.managed_filter(link, hook)?.is_none() {
            return Ok(());
        }
        let doing = format!("detaching the {hook} program from {link}");
        let filter = filter_link(link, hook).map_err(|error| KernelError::new(&doing, error))?;
        filter.detach().map_err(|error| program_error(&doing, &error))?;
        self.pins.remove_programs(link, hook, None)
    }

    /// The devices whose clsact filter has the program of this process, although it is not pinned. The pin of a
    /// renamed device has its former name.
    ///
    /// # Errors
    /// When the pins can't be listed.
    pub(super) fn unpinned(
        &self,
        attached: &Attached,
        programs: &Programs,
    ) -> Result<Vec<(LinkName, Hook)>, KernelError> {
        if self.mechanism == Mechanism::Tcx {
            return Ok(Vec::new());
        }
        let pins = self.pins.list_programs()?;
        let is_pinned = |link: &LinkName, hook: Hook, id: u32| {
            let mut pins = pins.iter().filter(|pin| (pin.hook, pin.id) == (hook, id));
            let is_former = |name: &LinkName| !attached.programs.contains_key(&(name.clone(), hook));
            pins.any(|pin| pin.link == *link || is_former(&pin.link))
        };
        let own = attached.programs.iter().filter(|((link, hook), id)| {
            let identity = programs.identity(link, *hook);
            identity.is_some_and(|identity| identity.id == **id)
        });
        let lost = own.filter(|((link, hook), id)| !is_pinned(link, *hook, **id));
        Ok(lost.map(|(key, _)| key.clone()).collect())
    }

    /// Pins a program before it gets a filter, so that the filter is known as managed by Adit from the
    /// beginning.
    pub(super) fn pin_program(
        &self,
        doing: &str,
        programs: &mut Programs,
        link: &LinkName,
        hook: Hook,
    ) -> Result<(), KernelError> {
        let Some(identity) = programs.identity(link, hook) else {
            return Ok(());
        };
        let pin = self.pins.program(link, hook, identity.id);
        if pin.exists() {
            return Ok(());
        }
        let pinned = programs.program(link, hook)?.pin(&pin);
        pinned.map_err(|error| aya_error(doing, &error))
    }

    fn attach_tcx(
        &self,
        doing: &str,
        program: &mut SchedClassifier,
        link: &LinkName,
        hook: Hook,
    ) -> Result<(), KernelError> {
        let pin = self.pins.link(link, hook);
        if pin.exists() {
            if self.live_link(link, &pin)?.is_some() {
                return Err(KernelError::new(
                    doing,
                    io::Error::from_raw_os_error(libc::EEXIST),
                ));
            }
            pins::remove_link(&pin)?;
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::first());
        let owned = program
            .attach_with_options(link.as_str(), side(hook), order)
            .and_then(|id| program.take_link(id))
            .map_err(|error| program_error(doing, &error))?;
        // Until it is pinned, the link ends with this process.
        let owned = FdLink::try_from(owned).map_err(|error| aya_error(doing, &error))?;
        owned
            .pin(&pin)
            .map(drop)
            .map_err(|error| aya_error(doing, &error))
    }

    /// Moves the pin of a link on this device from an older version to this one; returns whether there was
    /// one. The link stays attached, so its program can be replaced in place.
    fn adopt_older(&self, link: &LinkName, hook: Hook) -> Result<bool, KernelError> {
        for older in self.older.values().rev() {
            let pin = older.link(link, hook);
            if self.live_link(link, &pin)?.is_some() {
                fs::rename(&pin, self.pins.link(link, hook))
                    .map_err(|error| KernelError::new(format!("adopting {}", pin.display()), error))?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The id of the program of a pinned link, if the link is on this device: a link survives its device, and
    /// a device of the same name may be a different one.
    fn live_link(&self, link: &LinkName, pin: &Path) -> Result<Option<u32>, KernelError> {
        let tcx = match syscall::tcx_link(pin) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            tcx => tcx.map_err(|error| KernelError::new(format!("reading {}", pin.display()), error))?,
        };
        let live = tcx.filter(|tcx| tcx.ifindex != 0 && self.links.index(link) == Some(tcx.ifindex));
        Ok(live.map(|tcx| tcx.program))
    }

    /// The id of the program in the filter of Adit on a device.
    fn managed_filter(&self, link: &LinkName, hook: Hook) -> Result<Option<u32>, KernelError> {
        let Some(filter) = self.filter(link, hook)? else {
            return Ok(None);
        };
        let mut all = [self.pins].into_iter().chain(self.older.values());
        let is_pinned = all.any(|pins| pins.program(link, hook, filter.program).exists());
        let managed = is_pinned || self.tags.contains(&filter.tag);
        Ok(managed.then_some(filter.program))
    }

    /// The filter with the priority and handle of Adit on a device, managed by Adit or not.
    fn filter(&self, link: &LinkName, hook: Hook) -> Result<Option<Filter>, KernelError> {
        let Some(ifindex) = self.links.index(link) else {
            return Ok(None);
        };
        find_filter(ifindex, hook)
            .map_err(|error| KernelError::new(format!("reading the {hook} filters of {link}"), error))
    }
}

fn find_filter(ifindex: u32, hook: Hook) -> io::Result<Option<Filter>> {
    filter::find(ifindex, hook, PRIORITY, u32::from(HANDLE).into())
}

/// Whether a device has a filter with the priority and handle of Adit, managed by Adit or not.
pub(super) fn has_filter(ifindex: u32, hook: Hook) -> io::Result<bool> {
    Ok(find_filter(ifindex, hook)?.is_some())
}

/// The `enum bpf_attach_type` of a hook with TCX.
pub(super) fn tcx_side(hook: Hook) -> u32 {
    match hook {
        Hook::Ingress => syscall::TCX_INGRESS,
        Hook::Egress => syscall::TCX_EGRESS,
    }
}

fn attach_filter(
    doing: &str,
    program: &mut SchedClassifier,
    link: &LinkName,
    hook: Hook,
) -> Result<(), KernelError> {
    match qdisc_add_clsact(link.as_str()).map_err(|error| aya_error(doing, &error)) {
        Err(error) if error.errno() != Some(libc::EEXIST) => return Err(error),
        _ => {}
    }
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: HANDLE,
        classid: None,
    });
    program
        .attach_with_options(link.as_str(), side(hook), options)
        .and_then(|id| program.take_link(id))
        .map(keep)
        .map_err(|error| program_error(doing, &error))
}

fn filter_link(link: &LinkName, hook: Hook) -> io::Result<SchedClassifierLink> {
    SchedClassifierLink::attached(link.as_str(), side(hook), PRIORITY, HANDLE, None)
}

fn side(hook: Hook) -> TcAttachType {
    match hook {
        Hook::Egress => TcAttachType::Egress,
        Hook::Ingress => TcAttachType::Ingress,
    }
}

/// Drops the value of a link without detaching it. That of a filter is forgotten, because dropping it would
/// delete the filter. That of TCX is closed, because its pin keeps the link.
fn keep(link: SchedClassifierLink) {
    if <&FdLink>::try_from(&link).is_err() {
        mem::forget(link);
    }
}
