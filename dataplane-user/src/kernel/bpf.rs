//! The BPF adapter: programs on devices, and the maps that they read.
//!
//! The maps are pinned and outlive the process, so each observation reads them back. Only one process may
//! write below a `bpffs` directory, which is locked therefore. Calls
//! look devices up in the network namespace of the calling thread, to which the names in [`LinkNames`] must
//! belong.

mod attach;
pub mod carry;
mod codec;
mod filter;
mod inspect;
mod log;
mod maps;
mod needed;
pub mod object;
mod pins;
mod prefixes;
mod programs;
mod revision;
mod slots;
mod snapshot;
mod syscall;
mod tables;
mod versions;

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::attach::{Attached, Attacher};
use self::maps::Maps;
use self::pins::Pins;
use self::programs::Programs;
use self::snapshot::{Garbage, Snapshot};
use self::tables::Tables;
use super::KernelError;
use crate::limits;
use crate::model::change::{
    BpfChange, ClassChange, DeleteVersion, Existence, GroupChange, NextHopChange, NextHopOperation,
    ProgramChange, ProgramOperation, RestorePins, SourceChange, Write,
};
use crate::model::{Attachment, Hook, KernelState, Owner, ProgramVersion};
use crate::net::LinkName;

pub use self::attach::Mechanism;
pub use self::inspect::{
    ClassEntry, CounterReport, Dump, GroupEntry, LookupResult, LookupTarget, MapUsage, NextHopEntry,
    PrefixEntry, SourceEntry, VerdictCount, name_sources,
};
pub use self::log::LogReader;
pub(crate) use self::needed::is_pinned;
pub(super) use self::needed::{is_attached, missing_file_system};
pub use self::pins::{is_locked, lock, uninstall};
pub use self::versions::{NewerVersion, newer};

/// The current names and indexes of devices.
pub trait LinkNames {
    /// The name of the device with this index.
    fn name(&self, index: u32) -> Option<LinkName>;
    /// The index of the device with this name.
    fn index(&self, name: &LinkName) -> Option<u32>;
}

impl LinkNames for BTreeMap<LinkName, u32> {
    fn name(&self, index: u32) -> Option<LinkName> {
        self.iter()
            .find_map(|(name, known)| (*known == index).then(|| name.clone()))
    }

    fn index(&self, name: &LinkName) -> Option<u32> {
        self.get(name).copied()
    }
}

/// Options for [`Bpf::open`].
#[derive(Clone, Debug)]
pub struct BpfOptions {
    /// The directory of Adit on a BPF file system, for example `/sys/fs/bpf/adit`.
    pub bpffs: PathBuf,
    /// Whether the programs log; see [`Bpf::take_log`].
    pub log: bool,
    /// Read only: nothing is created or written. An attached program is current if its instructions are those
    /// of this binary, no matter which process loaded it.
    pub compare_by_tag: bool,
    /// How long a freed slot is not reused.
    pub slot_rest: Duration,
}

impl BpfOptions {
    /// The options of an agent: without logging, and a freed slot is not reused for a second.
    #[must_use]
    pub fn new(bpffs: impl Into<PathBuf>) -> BpfOptions {
        BpfOptions {
            bpffs: bpffs.into(),
            log: false,
            compare_by_tag: false,
            slot_rest: limits::SLOT_REUSE_DELAY,
        }
    }
}

/// The pinned maps, and the programs of this process.
#[derive(Debug)]
pub struct Bpf {
    pins: Pins,
    /// The pins of older ABI versions in the last observation.
    older: BTreeMap<u32, Pins>,
    mechanism: Mechanism,
    maps: Option<Maps>,
    programs: Option<Programs>,
    /// `None` if it only reads.
    tables: Option<Tables>,
    compare_by_tag: bool,
    /// The lock of the directory; `None` if it only reads.
    lock: Option<File>,
    /// The devices with a filter whose program is not pinned, in the last observation.
    unpinned: Vec<(LinkName, Hook)>,
    /// Garbage in the last observation that must be deleted before anything is written.
    leftovers: Option<Leftovers>,
}

/// Garbage that an observation found and no state can express.
#[derive(Debug, Default)]
struct Leftovers {
    garbage: Garbage,
    dead_pins: Vec<PathBuf>,
}

impl Bpf {
    /// Loads the programs with the pinned maps, and creates missing maps. Maps keep their content, and
    /// attached programs continue to run; programs of an earlier process are observed as stale.
    ///
    /// # Errors
    /// When the directory is not on a BPF file system or contains pins of a newer version, when a pinned map
    /// differs from what this version needs, or when the kernel refuses a program (with the end of the
    /// verifier log).
    pub fn open(options: &BpfOptions) -> Result<Bpf, KernelError> {
        versions::refuse_newer(&options.bpffs)?;
        let pins = Pins::below(&options.bpffs);
        let mechanism = Mechanism::probe()?;
        if options.compare_by_tag {
            return Ok(Bpf {
                older: BTreeMap::new(),
                maps: found(Maps::open(&pins.maps, false))?,
                programs: Some(Programs::load(None, false)?),
                tables: None,
                compare_by_tag: true,
                lock: None,
                unpinned: Vec::new(),
                leftovers: None,
                pins,
                mechanism,
            });
        }
        pins.create(&options.bpffs)?;
        let lock = lock(&options.bpffs)?;
        maps::check_pins(&pins.maps)?;
        let programs = Programs::load(Some(&pins.maps), options.log)?;
        let maps = Maps::open(&pins.maps, true)?;
        Ok(Bpf {
            older: BTreeMap::new(),
            tables: Some(Tables::new(&maps, options.slot_rest)),
            maps: Some(maps),
            programs: Some(programs),
            compare_by_tag: false,
            lock: Some(lock),
            unpinned: Vec::new(),
            leftovers: None,
            pins,
            mechanism,
        })
    }

    /// Opens the pinned maps for reading, with or without a running agent. Attached programs are all observed
    /// as stale.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when nothing is pinned; else as [`Bpf::open`].
    pub fn open_read_only(bpffs: impl Into<PathBuf>) -> Result<Bpf, KernelError> {
        let pins = Pins::below(&bpffs.into());
        Ok(Bpf {
            older: BTreeMap::new(),
            maps: Some(Maps::open(&pins.maps, false)?),
            mechanism: Mechanism::probe()?,
            programs: None,
            tables: None,
            compare_by_tag: false,
            lock: None,
            unpinned: Vec::new(),
            leftovers: None,
            pins,
        })
    }

    /// How programs are attached on this kernel.
    #[must_use]
    pub fn mechanism(&self) -> Mechanism {
        self.mechanism
    }

    /// The log of the programs; it can be taken once. It is empty unless opened with [`BpfOptions::log`].
    ///
    /// # Errors
    /// When it was already taken, or this handle has no programs.
    pub fn take_log(&mut self) -> Result<LogReader, KernelError> {
        let programs = self
            .programs
            .as_mut()
            .ok_or_else(|| read_only("reading the log"))?;
        programs.take_log()
    }

    /// Reads classes, next hops, groups, prefixes, sources and attachments into the state. The state must
    /// contain the links already: without TCX only managed devices are searched for programs.
    ///
    /// A prefix whose target can't be decoded is not in the state. The next [`Bpf::execute`] first sets it to
    /// no target (its packets are dropped, and no shorter prefix is used instead). If the prefix is desired,
    /// the diff then sets its target; otherwise the next reconciliation deletes it.
    ///
    /// If there are pins of older versions, their programs are observed as stale. Then no program that is
    /// attached counts as current only because its instructions are equal: it may read the maps of the older
    /// version.
    ///
    /// # Errors
    /// When something can't be read, or there are pins of a newer version.
    pub fn observe(&mut self, links: &dyn LinkNames, state: &mut KernelState) -> Result<(), KernelError> {
        versions::refuse_newer(self.pins.bpffs())?;
        self.older = versions::older(self.pins.bpffs())?;
        state.older_versions = self.older.keys().copied().collect();
        let managed = state.links.iter().filter(|(_, link)| link.owner == Owner::Adit);
        let attached = self.attacher(links).observe(managed.map(|(name, _)| name))?;
        state.attachments = self.versions(&attached)?;
        if let (Some(maps), Some(programs), Some(_)) = (&self.maps, &self.programs, &self.tables) {
            self.unpinned = self.attacher(links).unpinned(&attached, programs)?;
            state.unpinned = !self.unpinned.is_empty() || !maps.are_pinned(&self.pins.maps)?;
        }
        let snapshot = match &self.maps {
            Some(maps) => Snapshot::read(maps)?,
            None => Snapshot::default(),
        };
        state.classes = snapshot
            .classes
            .values()
            .map(|(class, ifindex)| (*class, links.name(*ifindex)))
            .collect();
        state.next_hops = snapshot.next_hops.values().cloned().collect();
        state.down = snapshot.down.clone();
        state.groups = snapshot
            .groups
            .values()
            .map(|(group, _)| Arc::clone(group))
            .collect();
        if let Some(tables) = &mut self.tables {
            tables.rebuild(&snapshot);
        }
        let Snapshot {
            prefixes,
            sources,
            garbage,
            ..
        } = snapshot;
        state.prefixes = prefixes;
        state.sources = sources.into_keys().collect();
        self.leftovers = Some(Leftovers {
            garbage,
            dead_pins: attached.dead,
        });
        Ok(())
    }

    /// The number of garbage objects in the last observation, which no state can express: undecodable slots,
    /// prefixes without target, pins of links whose device was deleted. [`Bpf::execute`] deletes them, even
    /// without changes.
    #[must_use]
    pub fn leftovers(&self) -> usize {
        self.leftovers
            .as_ref()
            .map_or(0, |leftovers| leftovers.garbage.len() + leftovers.dead_pins.len())
    }

    /// Executes changes in order and continues after failures; one result per change. Garbage of the last
    /// observation is deleted first; if that fails, nothing is written.
    pub fn execute<C: Borrow<BpfChange>>(
        &mut self,
        links: &dyn LinkNames,
        changes: &[C],
    ) -> Vec<Result<(), KernelError>> {
        if let Err(error) = self.clean_up(links) {
            let again = || error.again().about(&"cleaning up the maps before the changes");
            return changes.iter().map(|_| Err(again())).collect();
        }
        let mut results = Vec::with_capacity(changes.len());
        let go_together = |a: &C, b: &C| prefixes::go_together(a.borrow(), b.borrow());
        for run in changes.chunk_by(go_together) {
            let of_prefixes = run.iter().filter_map(|change| match change.borrow() {
                BpfChange::Prefix(change) => Some(change),
                _ => None,
            });
            let of_prefixes = of_prefixes.collect::<Vec<_>>();
            if let (Some(maps), Some(tables), false) = (&self.maps, &mut self.tables, of_prefixes.is_empty())
            {
                results.extend(prefixes::execute(maps, tables, &of_prefixes));
            } else {
                results.extend(run.iter().map(|change| self.execute_one(links, change.borrow())));
            }
        }
        results
    }

    /// All counters, summed over the CPUs.
    ///
    /// # Errors
    /// When nothing is pinned or a map can't be read.
    pub fn counters(&self) -> Result<CounterReport, KernelError> {
        inspect::counters(self.maps()?)
    }

    /// The usage of each map whose number of entries varies.
    ///
    /// # Errors
    /// When nothing is pinned or a map can't be read.
    pub fn usage(&self) -> Result<Vec<MapUsage>, KernelError> {
        inspect::usage(self.maps()?)
    }

    /// Looks an address up with the kernel's own lookup, and follows the target to its next hops.
    ///
    /// # Errors
    /// When nothing is pinned or a map can't be read.
    pub fn lookup(&self, address: IpAddr) -> Result<LookupResult, KernelError> {
        inspect::lookup(self.maps()?, address)
    }

    /// The content of all maps.
    ///
    /// # Errors
    /// When nothing is pinned or a map can't be read.
    pub fn dump(&self) -> Result<Dump, KernelError> {
        inspect::dump(self.maps()?)
    }

    fn execute_one(&mut self, links: &dyn LinkNames, change: &BpfChange) -> Result<(), KernelError> {
        let attacher = Attacher {
            mechanism: self.mechanism,
            pins: &self.pins,
            older: &self.older,
            tags: self.programs.as_ref().map(Programs::tags).unwrap_or_default(),
            links,
        };
        let (Some(maps), Some(tables), Some(programs)) = (&self.maps, &mut self.tables, &mut self.programs)
        else {
            return Err(KernelError::of_change(io::Error::from_raw_os_error(libc::EROFS)));
        };
        if self.lock.is_none() && !matches!(change, BpfChange::Pins(_)) {
            let text = "the directory of pins was removed and is in use by another process";
            return Err(KernelError::of_change(io::Error::new(
                io::ErrorKind::ResourceBusy,
                text,
            )));
        }
        match change {
            BpfChange::Program(ProgramChange(link, hook, operation)) => match operation {
                ProgramOperation::Attach => attacher.attach(programs, link, *hook),
                ProgramOperation::Replace | ProgramOperation::TakeOver => {
                    attacher.replace(programs, link, *hook)
                }
                ProgramOperation::Detach => attacher.detach(link, *hook),
            },
            BpfChange::Pins(RestorePins) => {
                let bpffs = self.pins.bpffs();
                self.pins.create(bpffs)?;
                // The locked directory may be another one, which was removed.
                self.lock = None;
                self.lock = Some(lock(bpffs)?);
                maps.pin(&self.pins.maps)?;
                for (link, hook) in &self.unpinned {
                    attacher.pin_program("pinning the programs", programs, link, *hook)?;
                }
                Ok(())
            }
            BpfChange::Version(DeleteVersion(version)) => {
                self.older.remove(version).map_or(Ok(()), |pins| pins.remove())
            }
            BpfChange::Class(ClassChange(class, Write::Put(link))) => {
                let ifindex = links.index(link).ok_or_else(|| {
                    let source = io::Error::from_raw_os_error(libc::ENODEV);
                    KernelError::new(format!("writing a class for {link}"), source)
                })?;
                tables.put_class(maps, class, ifindex)
            }
            BpfChange::Class(ClassChange(class, Write::Delete)) => tables.delete_class(maps, class),
            BpfChange::NextHop(NextHopChange(next_hop, NextHopOperation::Put)) => {
                tables.put_next_hop(maps, next_hop)
            }
            BpfChange::NextHop(NextHopChange(next_hop, NextHopOperation::SetDown(down))) => {
                tables.set_state(maps, next_hop, *down)
            }
            BpfChange::NextHop(NextHopChange(next_hop, NextHopOperation::Delete)) => {
                tables.delete_next_hop(maps, next_hop)
            }
            BpfChange::Group(GroupChange(group, Existence::Create)) => tables.put_group(maps, group),
            BpfChange::Group(GroupChange(group, Existence::Delete)) => tables.delete_group(maps, group),
            BpfChange::Prefix(change) => {
                let mut results = prefixes::execute(maps, tables, &[change]);
                results.pop().unwrap_or(Ok(()))
            }
            BpfChange::Source(SourceChange(source, Existence::Create)) => {
                maps.sources.put(codec::encode_source(source)?)
            }
            BpfChange::Source(SourceChange(source, Existence::Delete)) => {
                maps.sources.delete(codec::encode_source(source)?)
            }
        }
    }

    /// Observes if that was not done yet, then deletes the garbage of the last observation.
    fn clean_up(&mut self, links: &dyn LinkNames) -> Result<(), KernelError> {
        if self.tables.is_none() {
            return Ok(());
        }
        if self.leftovers.is_none() {
            self.observe(links, &mut KernelState::default())?;
        }
        let found = self.leftovers();
        let (Some(maps), Some(tables), Some(leftovers)) = (&self.maps, &mut self.tables, &mut self.leftovers)
        else {
            return Ok(());
        };
        if found == 0 {
            return Ok(());
        }
        tracing::warn!(
            count = found,
            "deleting map entries and pins that an interrupted process left behind"
        );
        let garbage = &leftovers.garbage;
        prefixes::empty(maps, &garbage.prefixes)?;
        prefixes::remove(maps, &garbage.emptied)?;
        tables.sweep(maps, garbage)?;
        for pin in &leftovers.dead_pins {
            pins::remove_link(pin)?;
        }
        *leftovers = Leftovers::default();
        Ok(())
    }

    fn versions(&self, attached: &Attached) -> Result<BTreeMap<(LinkName, Hook), Attachment>, KernelError> {
        let mut versions = BTreeMap::new();
        for ((link, hook), program) in &attached.programs {
            let own = self
                .programs
                .as_ref()
                .and_then(|programs| programs.identity(link, *hook));
            let current = match own {
                None => false,
                Some(own) if self.compare_by_tag && self.older.is_empty() => {
                    programs::tag_of(*program)? == Some(own.tag)
                }
                Some(own) => *program == own.id,
            };
            let version = if current {
                ProgramVersion::Current
            } else {
                ProgramVersion::Stale
            };
            versions.insert((link.clone(), *hook), Attachment { version });
        }
        Ok(versions)
    }

    fn attacher<'a>(&'a self, links: &'a dyn LinkNames) -> Attacher<'a> {
        Attacher {
            mechanism: self.mechanism,
            pins: &self.pins,
            older: &self.older,
            tags: self.programs.as_ref().map(Programs::tags).unwrap_or_default(),
            links,
        }
    }

    fn maps(&self) -> Result<&Maps, KernelError> {
        self.maps.as_ref().ok_or_else(|| {
            let directory = self.pins.maps.display();
            KernelError::new(
                format!("finding maps in {directory}"),
                io::ErrorKind::NotFound.into(),
            )
        })
    }
}

/// Converts "nothing is pinned" to `None`.
fn found(maps: Result<Maps, KernelError>) -> Result<Option<Maps>, KernelError> {
    match maps {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(None),
        maps => maps.map(Some),
    }
}

fn read_only(doing: &str) -> KernelError {
    KernelError::new(doing, io::Error::from_raw_os_error(libc::EROFS))
}
