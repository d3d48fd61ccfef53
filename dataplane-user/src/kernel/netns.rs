//! Other network namespaces: found as users name them, opened for a pass, and let go of after it.
//!
//! A socket for another namespace is made on a thread of its own, which enters the namespace and ends: the agent's
//! thread never leaves its own. Nothing is held between two passes, or a container's namespace would outlive it.

mod container;
mod open;
mod rest;

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

use self::container::Containers;
use self::rest::Rests;
use super::netlink::{Bounds, Netlink};
use super::wireguard::{PrivateKeys, WireGuard};
use super::{KernelError, Wanted};
use crate::model::facts::Presence;
use crate::net::Namespace;

/// Where namespaces have names.
const NAMES: &str = "/run/netns";
/// The numbers that we give namespaces in our own: by these a later start knows where we may have left something.
const NUMBERS: std::ops::Range<i32> = 1_730_000..1_740_000;

/// Which file system and inode: the same for each way to a namespace.
type Identity = (u64, u64);

/// What one reading of another namespace may bring at most: whoever is root there decides how much there is.
const BOUNDS: Bounds = Bounds {
    bytes: 64 << 20,
    objects: 1 << 15,
};

/// The namespaces that are looked at.
#[derive(Default)]
pub(super) struct Namespaces {
    containers: Containers,
    /// In this pass.
    open: BTreeMap<Namespace, Open>,
    /// Those of which nothing is known in this pass, and why.
    unreadable: BTreeMap<Namespace, String>,
    /// Those that are open and may be one of these by another name.
    uncertain: BTreeSet<Namespace>,
    rests: Rests,
    /// The files of those that could not be read: their descriptors are known to others until the pass ends.
    failed: Vec<File>,
    /// Where each was found last.
    found: BTreeMap<Namespace, Identity>,
    own: Option<File>,
    /// The number of the own one in itself.
    own_number: Option<i32>,
}

/// A namespace in this pass.
pub(super) struct Open {
    file: File,
    pub(super) netlink: Netlink,
    wireguard: Option<WireGuard>,
    /// Its number in the own one.
    number: Option<i32>,
}

impl Open {
    /// Its WireGuard devices' interface, opened when it is first asked for.
    pub(super) fn wireguard(&mut self, private_keys: &PrivateKeys) -> Result<&mut WireGuard, KernelError> {
        if self.wireguard.is_none() {
            let opened = wireguard(&self.file, private_keys.clone());
            let mut opened =
                opened.map_err(|error| KernelError::new("open a generic netlink socket", error))?;
            opened.bound(BOUNDS);
            self.wireguard = Some(opened);
        }
        Ok(self.wireguard.as_mut().expect("it is there now"))
    }

    /// The namespace, as long as it is open.
    pub(super) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl Namespaces {
    /// Opens those that are wanted and those where we may have left something, and says what became of them.
    pub(super) async fn look_for(
        &mut self,
        wanted: &Wanted,
        here: &mut Netlink,
    ) -> Result<BTreeMap<Namespace, Presence>, KernelError> {
        self.open.clear();
        self.failed.clear();
        self.unreadable.clear();
        self.uncertain.clear();
        self.containers.begin();
        let own = File::open("/proc/thread-self/ns/net")
            .map_err(|error| KernelError::new("open the own network namespace", error))?;
        let mut first = BTreeMap::new();
        let identified = identity(&own);
        let identified = identified.map_err(|error| KernelError::new("tell the own namespace", error))?;
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
                // One that can't be entered is left: nobody asked for it.
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

    /// Keeps wanted namespaces that can't be found now from being taken, under other names, for ones that nobody wants, or in which
    /// nobody wants what these names declare. `false` where it is not known what they were, so that any might be one of them.
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
                // What its path led to before may be anywhere; of a process or a container that is here, the former one has ended.
                None => all_known &= *found == Presence::Own && !matches!(namespace, Namespace::Path(_)),
            }
        }
        if !all_known {
            self.uncertain.extend(self.open.keys().cloned());
        }
        all_known
    }

    /// That a namespace which is open can't be read: what is there stays as it is for a while.
    pub(super) fn failed(&mut self, namespace: &Namespace, why: String) {
        let open = self.open.remove(namespace);
        self.failed.extend(open.map(|open| open.file));
        self.rests.failed(namespace, why.clone(), Instant::now());
        self.unreadable.insert(namespace.clone(), why);
    }

    /// Those of which nothing is known, and why.
    pub(super) fn unreadable(&self) -> &BTreeMap<Namespace, String> {
        &self.unreadable
    }

    /// Those that are open and may be one of which nothing is known.
    pub(super) fn uncertain(&self) -> &BTreeSet<Namespace> {
        &self.uncertain
    }

    /// That a namespace could be read.
    pub(super) fn was_read(&mut self, namespace: &Namespace) {
        self.rests.read(namespace);
    }

    /// Lets go of all of them, and tells `here` what was seen there, by which it knows their events.
    pub(super) fn close(&mut self, here: &Netlink) {
        let seen = std::mem::take(&mut self.open).into_values();
        let seen = seen.filter_map(|mut open| Some((open.number?, open.netlink.take_interest())));
        here.set_elsewhere(seen.collect(), self.own_number);
        self.failed.clear();
        self.own = None;
    }

    /// Those that are open.
    pub(super) fn open(&mut self) -> impl Iterator<Item = (&Namespace, &mut Open)> {
        self.open.iter_mut()
    }

    pub(super) fn get(&mut self, namespace: &Namespace) -> Option<&mut Open> {
        self.open.get_mut(namespace)
    }

    /// The files of all that are open; `None` is the own one.
    pub(super) fn files(&self) -> Result<Vec<(Option<Namespace>, OwnedFd)>, KernelError> {
        let others = self.open.iter();
        let others = others.map(|(name, open)| (Some(name.clone()), &open.file));
        let own = self.own.iter().map(|own| (None, own));
        let copies = own
            .chain(others)
            .map(|(name, file)| Ok((name, file.as_fd().try_clone_to_owned()?)));
        copies
            .collect::<io::Result<_>>()
            .map_err(|error| KernelError::new("copy descriptors of namespaces", error))
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

    /// The file that holds a namespace, or why there is none now.
    async fn file(&mut self, namespace: &Namespace) -> Result<File, Presence> {
        let path = match namespace {
            Namespace::Name(name) => Path::new(NAMES).join(name),
            Namespace::Path(path) => PathBuf::from(path),
            Namespace::Pid(pid) => of_process(*pid),
            Namespace::Container { runtime, name } => of_process(self.containers.pid(*runtime, name).await?),
        };
        open::open(&path)
    }

    /// Opens a namespace's netlink, unless it is the own one or another name's.
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
        let opened = match self.rests.why(namespace, Instant::now()) {
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

    /// Gives each open namespace a number of ours, before anything is made there. One that has a number already, as that
    /// of a container with a network of its own, keeps it; what we make there ends with it.
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

    /// Namespaces that nobody wants and where something of ours may be: those with a name and a number of ours.
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

/// A socket in a namespace, made on a thread that ends.
fn inside(file: &File, connect: fn() -> io::Result<RawSocket>) -> io::Result<RawSocket> {
    let enter = || {
        setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
        connect()
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, enter)?;
        let panicked = |_| Err(io::Error::other("the thread that enters it panicked"));
        thread.join().unwrap_or_else(panicked)
    })
}

/// Descriptors of namespaces by their names, for the ends of pairs.
pub(super) type Ends = BTreeMap<Option<Namespace>, RawFd>;
