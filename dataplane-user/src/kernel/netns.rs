//! Other network namespaces: finds them by the names that users write, and opens them for one reconciliation.
//!
//! A socket in another namespace is created on a thread of its own, which enters the namespace and ends; the
//! agent's thread never leaves its own namespace. Nothing stays open between reconciliations, because
//! otherwise the namespace of a container would outlive it.

mod back_off;
mod container;
mod open;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use netlink_sys::Socket as RawSocket;
use nix::sched::{CloneFlags, setns};

use self::back_off::BackOffs;
use self::container::Containers;
use super::netlink::{Bounds, Netlink};
use super::wireguard::{PrivateKeys, WireGuard};
use super::{KernelError, ObservationScope};
use crate::model::facts::Presence;
use crate::net::Namespace;

/// The directory of named namespaces.
const NAMES: &str = "/run/netns";
/// The ids that Adit gives to namespaces in its own namespace. After a restart the agent recognizes by them
/// where it may have created objects.
const NUMBERS: std::ops::Range<i32> = 1_730_000..1_740_000;

/// File system and inode, which are the same for each path of a namespace.
type Identity = (u64, u64);

/// The limits for reading another namespace, because the root user there decides how much there is to read.
const BOUNDS: Bounds = Bounds {
    bytes: 64 << 20,
    objects: 1 << 15,
};

/// The other namespaces of the agent.
#[derive(Default)]
pub(super) struct Namespaces {
    containers: Containers,
    /// Namespaces that are open in this reconciliation.
    open: BTreeMap<Namespace, Open>,
    /// Namespaces of which nothing is known in this reconciliation, each with the reason.
    unreadable: BTreeMap<Namespace, String>,
    /// Open namespaces that may be one of the unreadable ones under another name.
    uncertain: BTreeSet<Namespace>,
    back_offs: BackOffs,
    /// The files of namespaces that could not be read. They stay open until the reconciliation ends, because
    /// others know the descriptors.
    failed: Vec<File>,
    /// The identity of each namespace when it was found last.
    found: BTreeMap<Namespace, Identity>,
    own: Option<File>,
    /// The id of the agent's namespace in itself.
    own_number: Option<i32>,
}

/// A namespace that is open in this reconciliation.
pub(super) struct Open {
    file: File,
    pub(super) netlink: Netlink,
    wireguard: Option<WireGuard>,
    /// Its id in the agent's namespace.
    number: Option<i32>,
}

impl Open {
    /// The WireGuard adapter in this namespace, opened at the first call.
    pub(super) fn wireguard(&mut self, private_keys: &PrivateKeys) -> Result<&mut WireGuard, KernelError> {
        if self.wireguard.is_none() {
            let opened = wireguard(&self.file, private_keys.clone());
            let mut opened =
                opened.map_err(|error| KernelError::new("open a generic netlink socket", error))?;
            opened.bound(BOUNDS);
            self.wireguard = Some(opened);
        }
        Ok(self.wireguard.as_mut().expect("it was opened above"))
    }

    /// The descriptor of the namespace; valid while it is open.
    pub(super) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Namespaces {
    /// Opens the wanted namespaces and those where Adit may have created objects. Returns the presence of the
    /// wanted ones.
    pub(super) async fn open_namespaces(
        &mut self,
        wanted: &ObservationScope,
        here: &mut Netlink,
    ) -> Result<BTreeMap<Namespace, Presence>, KernelError> {
        self.open.clear();
        self.failed.clear();
        self.unreadable.clear();
        self.uncertain.clear();
        self.containers.begin();
        let own = File::open("/proc/thread-self/ns/net")
            .map_err(|error| KernelError::new("open the agent's network namespace", error))?;
        let mut first = BTreeMap::new();
        let identified = identity(&own);
        let identified =
            identified.map_err(|error| KernelError::new("identify the agent's network namespace", error))?;
        first.insert(identified, None);
        let mut presence = BTreeMap::new();
        for namespace in &wanted.namespaces {
            let found = self.find(namespace, &mut first).await;
            if let Some(why) = found.unknown() {
                self.unreadable.insert(namespace.clone(), why);
            }
            presence.insert(namespace.clone(), found);
        }
        if wanted.changes {
            self.mark(here).await?;
        }
        if self.guard_unknown(&presence, &mut first) {
            for namespace in wanted.remembered.difference(&wanted.namespaces) {
                let found = self.find(namespace, &mut first).await;
                presence.insert(namespace.clone(), found);
            }
            for (namespace, file) in self.leftovers(here).await? {
                // A failure to enter it is ignored, because no manifest needs this namespace.
                self.enter(&namespace, file, &mut first);
            }
        }
        self.found.retain(|namespace, _| {
            wanted.namespaces.contains(namespace) || wanted.remembered.contains(namespace)
        });
        let mut files = vec![own.as_fd()];
        files.extend(self.open.values().map(|open| open.file.as_fd()));
        let mut numbers = here.numbers(&files).await?.into_iter();
        self.own_number = numbers.next().flatten();
        for (open, number) in self.open.values_mut().zip(numbers) {
            open.number = number;
        }
        let mut ends = Ends::from([(None, own.as_raw_fd())]);
        for (namespace, open) in &self.open {
            ends.insert(Some(namespace.clone()), open.file.as_raw_fd());
        }
        for (namespace, open) in &mut self.open {
            open.netlink.set_ends(ends.clone(), Some(namespace.clone()));
        }
        here.set_ends(ends, None);
        self.own = Some(own);
        Ok(presence)
    }

    /// Protects desired namespaces that can't be found now, and their objects: another name of such a namespace must
    /// not be taken for a namespace without desired objects. Returns `false` if
    /// their identity is not known, so that any namespace may be one of them.
    fn guard_unknown(
        &mut self,
        presence: &BTreeMap<Namespace, Presence>,
        first: &mut BTreeMap<Identity, Option<Namespace>>,
    ) -> bool {
        let mut all_known = true;
        let unknown = presence.iter().filter(|(_, found)| found.unknown().is_some());
        for (namespace, found) in unknown {
            match self.found.get(namespace) {
                Some(last) => {
                    let is = first.entry(*last).or_insert_with(|| Some(namespace.clone()));
                    self.uncertain.extend(is.clone());
                }
                // The namespace to which its path led before may have any name now. A former process or
                // container, in contrast, has ended if it runs in the agent's namespace now.
                None => all_known &= *found == Presence::Own && !matches!(namespace, Namespace::Path(_)),
            }
        }
        if !all_known {
            self.uncertain.extend(self.open.keys().cloned());
        }
        all_known
    }

    /// Records that an open namespace can't be read; its objects stay unchanged for a while.
    pub(super) fn failed(&mut self, namespace: &Namespace, why: String) {
        let open = self.open.remove(namespace);
        self.failed.extend(open.map(|open| open.file));
        self.back_offs.failed(namespace, why.clone(), Instant::now());
        self.unreadable.insert(namespace.clone(), why);
    }

    /// The namespaces of which nothing is known, each with the reason.
    pub(super) fn unreadable(&self) -> &BTreeMap<Namespace, String> {
        &self.unreadable
    }

    /// The open namespaces that may be one of the unreadable ones.
    pub(super) fn uncertain(&self) -> &BTreeSet<Namespace> {
        &self.uncertain
    }

    /// Records that a namespace could be read.
    pub(super) fn was_read(&mut self, namespace: &Namespace) {
        self.back_offs.read(namespace);
    }

    /// Closes all namespaces, and passes to `here` what was observed in them, to which their events are
    /// compared.
    pub(super) fn close(&mut self, here: &Netlink) {
        let seen = std::mem::take(&mut self.open).into_values();
        let seen = seen.filter_map(|mut open| Some((open.number?, open.netlink.take_interest())));
        here.set_elsewhere(seen.collect(), self.own_number);
        self.failed.clear();
        self.own = None;
    }

    /// The open namespaces.
    pub(super) fn open(&mut self) -> impl Iterator<Item = (&Namespace, &mut Open)> {
        self.open.iter_mut()
    }

    pub(super) fn get(&mut self, namespace: &Namespace) -> Option<&mut Open> {
        self.open.get_mut(namespace)
    }

    /// The descriptors of all open namespaces; `None` is the agent's own.
    pub(super) fn files(&self) -> Result<Vec<(Option<Namespace>, OwnedFd)>, KernelError> {
        let others = self.open.iter();
        let others = others.map(|(name, open)| (Some(name.clone()), &open.file));
        let own = self.own.iter().map(|own| (None, own));
        let copies = own
            .chain(others)
            .map(|(name, file)| Ok((name, file.as_fd().try_clone_to_owned()?)));
        copies
            .collect::<io::Result<_>>()
            .map_err(|error| KernelError::new("duplicate the file descriptors of namespaces", error))
    }

    /// Finds a namespace and opens it.
    async fn find(
        &mut self,
        namespace: &Namespace,
        first: &mut BTreeMap<Identity, Option<Namespace>>,
    ) -> Presence {
        match self.file(namespace).await {
            Err(presence) => presence,
            Ok(file) => self.enter(namespace, file, first),
        }
    }

    /// Opens the file of a namespace, or returns why that is impossible now.
    async fn file(&mut self, namespace: &Namespace) -> Result<File, Presence> {
        let path = match namespace {
            Namespace::Name(name) => Path::new(NAMES).join(name),
            Namespace::Path(path) => PathBuf::from(path),
            Namespace::Pid(pid) => of_process(*pid),
            Namespace::Container { runtime, name } => of_process(self.containers.pid(*runtime, name).await?),
        };
        open::open(&path)
    }

    /// Opens netlink in a namespace, unless it is the agent's own or already open under another name.
    fn enter(
        &mut self,
        namespace: &Namespace,
        file: File,
        first: &mut BTreeMap<Identity, Option<Namespace>>,
    ) -> Presence {
        let identity = match identity(&file) {
            Ok(identity) => identity,
            Err(error) => return Presence::Unknown(error.to_string()),
        };
        let known = first.get(&identity);
        if known == Some(&None) {
            return Presence::Own;
        }
        self.found.insert(namespace.clone(), identity);
        if let Some(Some(other)) = known {
            return Presence::There(other.clone());
        }
        let opened = match self.back_offs.why(namespace, Instant::now()) {
            Some(why) => Err(why.to_owned()),
            None => match netlink(&file) {
                Ok(netlink) => Ok(netlink),
                Err(error) if error.raw_os_error() == Some(libc::EPERM) => return Presence::Denied,
                Err(error) => return Presence::Unknown(error.to_string()),
            },
        };
        first.insert(identity, Some(namespace.clone()));
        match opened {
            Ok(mut netlink) => {
                netlink.bound(BOUNDS);
                let open = Open {
                    file,
                    netlink,
                    wireguard: None,
                    number: None,
                };
                self.open.insert(namespace.clone(), open);
            }
            Err(why) => drop(self.unreadable.insert(namespace.clone(), why)),
        }
        Presence::There(namespace.clone())
    }

    /// Gives each open namespace an id of Adit before anything is created there. A namespace that has an id
    /// already, for example of a container with its own network, keeps it; objects of Adit there end with the
    /// namespace.
    async fn mark(&mut self, here: &mut Netlink) -> Result<(), KernelError> {
        let files = self
            .open
            .values()
            .map(|open| open.file.as_fd())
            .collect::<Vec<_>>();
        let numbers = here.numbers(&files).await?;
        let mut taken = numbers.iter().flatten().copied().collect::<BTreeSet<_>>();
        for (file, number) in files.iter().zip(&numbers) {
            if number.is_some() {
                continue;
            }
            for number in NUMBERS {
                if taken.insert(number) && here.give_number(*file, number).await? {
                    break;
                }
                let found = here.numbers(&[*file]).await?;
                if found.first().is_some_and(Option::is_some) {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Namespaces that no manifest names and that may contain objects of Adit: named ones with an id of Adit.
    async fn leftovers(&mut self, here: &mut Netlink) -> Result<Vec<(Namespace, File)>, KernelError> {
        let names = fs::read_dir(NAMES).into_iter().flatten().filter_map(Result::ok);
        let named = names.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            Some((Namespace::Name(name), open::open(&entry.path()).ok()?))
        });
        let mut named = named.collect::<Vec<_>>();
        named.sort_by(|(a, _), (b, _)| a.cmp(b));
        let files = named.iter().map(|(_, file)| file.as_fd()).collect::<Vec<_>>();
        let numbers = here.numbers(&files).await?;
        drop(files);
        let marked = named.into_iter().zip(numbers);
        let marked = marked.filter(|(_, number)| number.is_some_and(|number| NUMBERS.contains(&number)));
        Ok(marked.map(|(named, _)| named).collect())
    }
}

fn of_process(pid: u32) -> PathBuf {
    format!("/proc/{pid}/ns/net").into()
}

fn identity(file: &File) -> io::Result<Identity> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

fn netlink(file: &File) -> io::Result<Netlink> {
    let socket = inside(file, Netlink::connect)?;
    Netlink::of_socket(socket, identity(file)?.1)
}

fn wireguard(file: &File, private_keys: PrivateKeys) -> io::Result<WireGuard> {
    let socket = inside(file, WireGuard::connect)?;
    WireGuard::of_socket(socket, identity(file)?.1, private_keys)
}

/// Opens a socket in a namespace, on a thread that ends afterwards.
fn inside(file: &File, connect: fn() -> io::Result<RawSocket>) -> io::Result<RawSocket> {
    let enter = || {
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
        connect()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, enter)?;
        let panicked = |_| Err(io::Error::other("the thread that enters the namespace panicked"));
        thread.join().unwrap_or_else(panicked)
    })
}

/// Descriptors of namespaces by name, for creating veth pairs.
pub(super) type Ends = BTreeMap<Option<Namespace>, RawFd>;
