//! Programs on devices: by TCX where the kernel has it, else by a filter on a clsact qdisc. Either way a program is
//! replaced in place, and other people's programs keep their place.
//!
//! A filter is Adit's where its priority and handle are, and its program is pinned as Adit's or has the instructions of one of this
//! process's programs. Its name is only for people: a kernel that does not take names of programs has none.
//!
//! Devices are looked up in the calling thread's network namespace.

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

/// Our filters' priority and handle: fixed, so that a later process finds what an earlier one left.
const PRIORITY: u16 = 173;
const HANDLE: TcHandle = TcHandle::new(0, 173);

/// The index of `lo`, the same in every namespace (`LOOPBACK_IFINDEX`, net/flow.h).
const LOOPBACK: u32 = 1;

/// How programs get onto devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// TCX links, Linux 6.6.
    Tcx,
    /// Filters on a clsact qdisc.
    Clsact,
}

impl Mechanism {
    /// Asks the kernel which one it has: one without TCX does not know the query.
    ///
    /// The query asks for no program ids, which takes `CAP_NET_ADMIN` alone, whosever programs are on the device.
    ///
    /// # Errors
    /// When the kernel answers neither way, as where a capability is missing.
    pub fn probe() -> Result<Mechanism, KernelError> {
        match syscall::tcx_revision(LOOPBACK, syscall::TCX_INGRESS) {
            Ok(_) => Ok(Mechanism::Tcx),
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(Mechanism::Clsact),
            Err(error) => Err(KernelError::new("asking the kernel for TCX", error)),
        }
    }
}

/// What was found on the devices.
#[derive(Debug, Default)]
pub(super) struct Attached {
    /// Our programs, by id.
    pub(super) programs: BTreeMap<(LinkName, Hook), u32>,
    /// Pins of links whose device is gone or another one, and of programs that no filter has.
    pub(super) dead: Vec<PathBuf>,
}

/// Attaches, finds and detaches: one namespace's devices.
pub(super) struct Attacher<'a> {
    pub(super) mechanism: Mechanism,
    pub(super) pins: &'a Pins,
    /// Those of older ABI versions, whose links are ours too.
    pub(super) older: &'a BTreeMap<u32, Pins>,
    /// The tags of this process's programs.
    pub(super) tags: BTreeSet<u64>,
    pub(super) links: &'a dyn LinkNames,
}

impl Attacher<'_> {
    /// Finds our programs; with clsact only on these devices.
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
                if let Some(program) = self.our_filter(link, hook)? {
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

    /// Puts a hook's program on a device that has none of ours there.
    pub(super) fn attach(
        &self,
        programs: &mut Programs,
        link: &LinkName,
        hook: Hook,
    ) -> Result<(), KernelError> {
        let doing = format!("attaching the {hook} program to {link}");
        match self.mechanism {
            Mechanism::Tcx => self.attach_tcx(&doing, programs.program(link, hook)?, (link, hook)),
            Mechanism::Clsact => {
                self.pin_program(&doing, programs, (link, hook))?;
                attach_filter(&doing, programs.program(link, hook)?, (link, hook))
            }
        }
    }

    /// Replaces our program on a device by this process's; every packet goes by the one or the other.
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
                self.pin_program(&doing, programs, (link, hook))?;
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

    /// Takes our program off a device; a clsact qdisc stays, because others may use it too. None there is fine.
    pub(super) fn detach(&self, link: &LinkName, hook: Hook) -> Result<(), KernelError> {
        if self.mechanism == Mechanism::Tcx {
            let all = [self.pins].into_iter().chain(self.older.values());
            let mut pinned = all.map(|pins| pins.link(link, hook)).filter(|pin| pin.exists());
            return pinned.try_for_each(|pin| pins::remove_link(&pin));
        }
        if self.our_filter(link, hook)?.is_none() {
            return Ok(());
        }
        let doing = format!("detaching the {hook} program from {link}");
        let filter = filter_link(link, hook).map_err(|error| KernelError::new(&doing, error))?;
        filter.detach().map_err(|error| program_error(&doing, &error))?;
        self.pins.remove_programs(link, hook, None)
    }

    /// Pins the program that a hook's filter is about to get, so that the filter is known as Adit's from its first moment on.
    fn pin_program(
        &self,
        doing: &str,
        programs: &mut Programs,
        (link, hook): (&LinkName, Hook),
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
        (link, hook): (&LinkName, Hook),
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
        // Until it is pinned, the link goes when this process does.
        let owned = FdLink::try_from(owned).map_err(|error| aya_error(doing, &error))?;
        owned
            .pin(&pin)
            .map(drop)
            .map_err(|error| aya_error(doing, &error))
    }

    /// Moves an older version's pin of a link that is on this device to ours; whether there was one. The link stays
    /// attached, so its program can be replaced in place.
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

    /// The program's id of a pinned link, if that is on this very device: a link survives its device, and a device
    /// of the same name may be another one.
    fn live_link(&self, link: &LinkName, pin: &Path) -> Result<Option<u32>, KernelError> {
        let tcx = match syscall::tcx_link(pin) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            tcx => tcx.map_err(|error| KernelError::new(format!("reading {}", pin.display()), error))?,
        };
        let live = tcx.filter(|tcx| tcx.ifindex != 0 && self.links.index(link) == Some(tcx.ifindex));
        Ok(live.map(|tcx| tcx.program))
    }

    /// The program's id of our filter on a device.
    fn our_filter(&self, link: &LinkName, hook: Hook) -> Result<Option<u32>, KernelError> {
        let Some(filter) = self.filter(link, hook)? else {
            return Ok(None);
        };
        let mut all = [self.pins].into_iter().chain(self.older.values());
        let is_pinned = all.any(|pins| pins.program(link, hook, filter.program).exists());
        let ours = is_pinned || self.tags.contains(&filter.tag);
        Ok(ours.then_some(filter.program))
    }

    /// The filter in the place of ours on a device, whosever it is.
    fn filter(&self, link: &LinkName, hook: Hook) -> Result<Option<Filter>, KernelError> {
        let Some(ifindex) = self.links.index(link) else {
            return Ok(None);
        };
        find_filter(ifindex, hook)
            .map_err(|error| KernelError::new(format!("reading the {hook} filters of {link}"), error))
    }
}

fn find_filter(ifindex: u32, hook: Hook) -> io::Result<Option<Filter>> {
    filter::find(ifindex, hook, (PRIORITY, u32::from(HANDLE).into()))
}

/// Whether a filter stands in the place of ours on a device, whosever it is.
pub(super) fn has_filter(ifindex: u32, hook: Hook) -> io::Result<bool> {
    Ok(find_filter(ifindex, hook)?.is_some())
}

/// A hook's `enum bpf_attach_type` with TCX.
pub(super) fn tcx_side(hook: Hook) -> u32 {
    match hook {
        Hook::Ingress => syscall::TCX_INGRESS,
        Hook::Egress => syscall::TCX_EGRESS,
    }
}

fn attach_filter(
    doing: &str,
    program: &mut SchedClassifier,
    (link, hook): (&LinkName, Hook),
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

/// Lets go of a link without undoing it: a filter's is forgotten, because dropping it deletes the filter; a TCX
/// link's descriptor is closed, its pin holds the link.
fn keep(link: SchedClassifierLink) {
    if <&FdLink>::try_from(&link).is_err() {
        mem::forget(link);
    }
}
