//! The real kernel of this process's network namespace: hands each change to the adapter that it belongs to.

mod veth;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::bpf::carry::Carry;
use super::bpf::{Bpf, BpfOptions, LinkNames, LogDrain};
use super::netlink::{EventCounts, Events, Netlink};
use super::netns::Namespaces;
use super::nft::Nft;
use super::sysctl::Sysctls;
use super::wireguard::{PrivateKeys, WireGuard, no_private_keys};
use super::{Kernel, KernelError, Wanted, wireguard};
use crate::drift::revision::{MOST_PEERS, Revisions};
use crate::model::{Change, KernelState, LinkKind, Owner, Sysctl};
use crate::net::{LinkName, Namespace};
use crate::plan::NodeFacts;
use crate::plan::facts::Presence;

/// How long a packet takes at most from its route's look-up to the device, also where a host stops this machine's processors.
const GRACE: Duration = Duration::from_millis(20);

/// The kernel of the calling thread's network namespace. Must be used on that thread.
pub struct LinuxKernel {
    netlink: Netlink,
    namespaces: Namespaces,
    sysctls: Sysctls,
    wireguard: WireGuard,
    nft: Nft,
    /// `None`: BPF is left alone.
    bpf: Option<Bpf>,
    /// `None`: nothing is carried yet, and nothing is to be written.
    carry: Option<Carry>,
    /// What sends no events, as the last observation found it.
    seen: Seen,
}

/// What one observation leaves to be compared with later.
#[derive(Default)]
struct Seen {
    revisions: Revisions,
    /// Our devices, and the peers of those that are WireGuard's.
    links: BTreeSet<LinkName>,
    peers: BTreeMap<LinkName, usize>,
}

/// The adapter that a change belongs to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Adapter {
    Netlink,
    Sysctl,
    WireGuard,
    Nft,
    Bpf,
}

impl LinuxKernel {
    /// Opens all interfaces; loads the programs, and makes the maps or adopts the pinned ones. `private_keys` is asked
    /// when a WireGuard device gets its key.
    ///
    /// # Errors
    /// When one can't be opened.
    pub fn open(options: &BpfOptions, private_keys: PrivateKeys) -> Result<LinuxKernel, KernelError> {
        let bpf = Bpf::open(options)?;
        let carry = if options.compare_by_tag {
            Carry::open_read_only(&options.bpffs)?
        } else {
            Some(Carry::open(&options.bpffs)?)
        };
        LinuxKernel::with(Some(bpf), carry, private_keys)
    }

    /// Opens all but BPF: for removing, because programs go with their devices and maps with their pins.
    ///
    /// # Errors
    /// When one can't be opened.
    pub fn without_bpf() -> Result<LinuxKernel, KernelError> {
        LinuxKernel::with(None, None, no_private_keys())
    }

    fn with(
        bpf: Option<Bpf>,
        carry: Option<Carry>,
        private_keys: PrivateKeys,
    ) -> Result<LinuxKernel, KernelError> {
        Ok(LinuxKernel {
            netlink: Netlink::open()?,
            namespaces: Namespaces::default(),
            sysctls: Sysctls::default(),
            wireguard: WireGuard::open(private_keys)?,
            nft: Nft::default(),
            bpf,
            carry,
            seen: Seen::default(),
        })
    }

    /// What the programs log, once; there is something in it when they were opened with logging.
    ///
    /// # Errors
    /// When it was taken before, or BPF is not open.
    pub fn take_log(&mut self) -> Result<LogDrain, KernelError> {
        let closed = || KernelError::new("open the programs' log", io::Error::from(io::ErrorKind::NotFound));
        self.bpf.as_mut().ok_or_else(closed)?.take_log()
    }

    /// Subscribes to the kernel's events. What happens after this and concerns what this kernel observes from then on is
    /// not missed.
    ///
    /// # Errors
    /// When there is no socket to be had.
    pub fn subscribe(&self, counts: Arc<EventCounts>) -> Result<Events, KernelError> {
        self.netlink.subscribe(counts)
    }

    /// Reads links, addresses and routes only, which takes no privilege.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn observe_links(&mut self, state: &mut KernelState) -> Result<(), KernelError> {
        self.netlink.observe(state).await
    }

    /// The settings of our links; a link that goes meanwhile has none.
    fn observe_sysctls(&self, state: &mut KernelState) -> Result<(), KernelError> {
        let ours = state.links.iter().filter(|(_, link)| link.owner == Owner::Ours);
        for name in ours.map(|(name, _)| name) {
            for sysctl in Sysctl::ALL {
                match self.sysctls.read(name, sysctl) {
                    Ok(value) => {
                        state.sysctls.insert((name.clone(), sysctl), value);
                    }
                    Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Our WireGuard devices; a link that goes meanwhile has none.
    async fn observe_wireguard(&mut self, state: &mut KernelState) -> Result<(), KernelError> {
        let ours = |(_, link): &(_, &crate::model::Link)| {
            link.owner == Owner::Ours && link.kind == LinkKind::WireGuard
        };
        let names: Vec<LinkName> = state
            .links
            .iter()
            .filter(ours)
            .map(|(name, _)| name.clone())
            .collect();
        if names.is_empty() {
            return Ok(());
        }
        let mut configured = self
            .carry
            .as_ref()
            .map(Carry::endpoints)
            .transpose()?
            .unwrap_or_default();
        for name in names {
            let mut device = match self.wireguard.get_device(&name).await {
                Ok(reading) => reading.device,
                Err(error) if error.errno() == Some(libc::ENODEV) => continue,
                Err(error) => return Err(error),
            };
            self.seen.peers.insert(name.clone(), device.peers.len());
            self.seen.revisions.add_wireguard(&name, &device);
            for (key, peer) in &mut device.peers {
                peer.configured = configured.remove(&(name.clone(), *key));
            }
            state.wireguard.insert(name, device);
        }
        Ok(())
    }

    /// What is in the other namespaces, and which veth ends belong together.
    async fn observe_namespaces(&mut self, state: &mut KernelState) -> Result<(), KernelError> {
        for (namespace, open) in self.namespaces.open() {
            let mut there = KernelState::default();
            open.netlink.observe(&mut there).await?;
            state.namespaces.insert(namespace.clone(), there);
        }
        veth::join(&mut self.netlink, &mut self.namespaces, state).await
    }

    /// Executes changes of one other namespace.
    async fn execute_in(&mut self, namespace: &Namespace, run: &[Change]) -> Vec<Result<(), KernelError>> {
        let Some(netlink) = self.namespaces.get(namespace) else {
            let gone = |change: &Change| {
                let error = io::Error::from(io::ErrorKind::NotFound);
                Err(KernelError::new(change.to_string(), error))
            };
            return run.iter().map(gone).collect();
        };
        let bare = run.iter().map(|change| change.bare().clone()).collect::<Vec<_>>();
        let results = netlink.execute(&bare).await;
        let named = |result: Result<(), KernelError>| {
            result.map_err(|error| KernelError {
                context: format!("{namespace}: {}", error.context),
                ..error
            })
        };
        results.into_iter().map(named).collect()
    }

    fn set_sysctl(&self, change: &Change) -> Result<(), KernelError> {
        match change {
            Change::SetSysctl(link, sysctl, value) => self.sysctls.write(link, *sysctl, value),
            other => Err(KernelError::new(
                other.to_string(),
                io::Error::from(io::ErrorKind::InvalidInput),
            )),
        }
    }
}

impl Kernel for LinuxKernel {
    async fn observe(&mut self) -> Result<KernelState, KernelError> {
        let mut state = KernelState::default();
        self.netlink.observe(&mut state).await?;
        self.observe_namespaces(&mut state).await?;
        let ours = state.links.iter().filter(|(_, link)| link.owner == Owner::Ours);
        self.seen = Seen {
            links: ours.map(|(name, _)| name.clone()).collect(),
            ..Seen::default()
        };
        self.observe_sysctls(&mut state)?;
        self.observe_wireguard(&mut state).await?;
        state.firewall = self.nft.observe().await?;
        if let Some(bpf) = &mut self.bpf {
            // Before it is read: what happens between the two is seen now, and at worst looked at once more.
            let revisions = bpf.revisions(&self.netlink, self.seen.links.iter())?;
            let wireguard = std::mem::take(&mut self.seen.revisions.wireguard);
            self.seen.revisions = Revisions {
                wireguard,
                ..revisions
            };
            bpf.observe(&self.netlink, &mut state)?;
        }
        Ok(state)
    }

    async fn look_for(&mut self, wanted: &Wanted) -> Result<BTreeMap<Namespace, Presence>, KernelError> {
        self.netlink.set_wanted(&wanted.routes);
        self.netlink.set_return_paths(&wanted.return_paths);
        let presence = self
            .namespaces
            .look_for(&wanted.namespaces, &mut self.netlink)
            .await?;
        for (_, open) in self.namespaces.open() {
            open.netlink.set_wanted(&wanted.routes);
        }
        Ok(presence)
    }

    async fn grace(&mut self) {
        tokio::time::sleep(GRACE).await;
    }

    fn rest(&mut self) {
        self.namespaces.close(&self.netlink);
    }

    async fn stirred(&mut self) -> Result<Option<String>, KernelError> {
        let mut now = match &self.bpf {
            Some(bpf) => bpf.revisions(&self.netlink, self.seen.links.iter())?,
            None => Revisions::default(),
        };
        for (name, peers) in &self.seen.peers {
            if *peers > MOST_PEERS {
                continue;
            }
            match self.wireguard.get_device(name).await {
                Ok(reading) => now.add_wireguard(name, &reading.device),
                // That it went, an event tells.
                Err(error) if error.errno() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.seen.revisions.difference(&now))
    }

    async fn facts(&mut self, peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError> {
        let facts = self.netlink.facts(peers).await?;
        Ok(NodeFacts {
            nft: self.nft.facts().await,
            ..facts
        })
    }

    async fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), KernelError>> {
        let mut results = Vec::with_capacity(changes.len());
        self.netlink.begin_changes();
        if let Some(bpf) = &mut self.bpf
            && bpf.leftovers() > 0
        {
            // What a crash left in the maps, which no state can show; its result is what the next observation finds.
            bpf.execute(&self.netlink, &[]);
        }
        let together =
            |a: &Change, b: &Change| (a.namespace(), Adapter::of(a)) == (b.namespace(), Adapter::of(b));
        for run in changes.chunk_by(together) {
            if let Some(namespace) = run[0].namespace() {
                results.extend(self.execute_in(namespace, run).await);
                continue;
            }
            match (Adapter::of(&run[0]), &mut self.bpf) {
                (Adapter::Netlink, _) => results.extend(self.netlink.execute(run).await),
                (Adapter::WireGuard, _) => {
                    results.extend(wireguard::execute(&mut self.wireguard, self.carry.as_ref(), run).await);
                }
                (Adapter::Nft, _) => {
                    for change in run {
                        results.push(self.nft.execute(change).await);
                    }
                }
                (Adapter::Sysctl, _) => results.extend(run.iter().map(|change| self.set_sysctl(change))),
                (Adapter::Bpf, Some(bpf)) => results.extend(bpf.execute(&self.netlink, run)),
                (Adapter::Bpf, None) => results.extend(run.iter().map(|change| {
                    Err(KernelError::new(
                        change.to_string(),
                        io::Error::from(io::ErrorKind::NotFound),
                    ))
                })),
            }
        }
        results
    }
}

impl Adapter {
    fn of(change: &Change) -> Adapter {
        match change {
            Change::SetSysctl(..) => Adapter::Sysctl,
            Change::SetWireGuard(..) => Adapter::WireGuard,
            Change::CreateFirewall(_) | Change::ReplaceFirewall(_) | Change::DeleteFirewall => Adapter::Nft,
            change if Bpf::handles(change) => Adapter::Bpf,
            _ => Adapter::Netlink,
        }
    }
}

impl LinkNames for Netlink {
    fn name(&self, index: u32) -> Option<LinkName> {
        self.link_name(index).cloned()
    }

    fn index(&self, name: &LinkName) -> Option<u32> {
        self.link_index(name)
    }
}

/// The kernel's release, as `uname -r` prints it.
#[must_use]
pub fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
