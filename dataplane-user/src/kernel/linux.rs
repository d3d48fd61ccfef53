//! The real kernel of the network namespace of this process. It gives each change to the adapter of its kind.

mod by_hand;
mod namespaces;
mod ports;
mod run;
mod veth;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use self::run::Run;
use super::bpf::{self, Bpf, BpfOptions, LinkNames, LogReader};
use super::netlink::{EventCounts, Events, Netlink};
use super::netns::Namespaces;
use super::nft::{self, Drops, Nft};
use super::sysctl::Sysctls;
use super::wireguard::{EndpointStore, PrivateKeys, WireGuard, no_private_keys};
use super::{Kernel, KernelError, ObservationScope, wireguard};
use crate::kernel::revision::Revisions;
use crate::limits;
use crate::model::change::{BpfChange, LinkChange, LinkOperation, NetlinkChange, SysctlChange};
use crate::model::devices;
use crate::model::facts::NodeFacts;
use crate::model::facts::Presence;
use crate::model::facts::{SeenPeer, Session};
use crate::model::{Action, Change, KernelState, LinkKind, Owner, Sysctl};
use crate::net::{LinkName, Namespace};

pub use self::by_hand::ByHand;

/// The kernel in the network namespace of the calling thread. Must be used on that thread.
pub struct LinuxKernel {
    netlink: Netlink,
    namespaces: Namespaces,
    sysctls: Sysctls,
    wireguard: WireGuard,
    nft: Nft,
    /// The options for opening BPF when it is needed; `None` if BPF is not used at all.
    bpf_options: Option<BpfOptions>,
    /// `None` if it was not needed yet.
    bpf: Option<Bpf>,
    /// Whether the desired state needs BPF.
    needs_bpf: bool,
    /// `None` if configured endpoints are neither stored nor read.
    endpoint_store: Option<EndpointStore>,
    /// Whether handshakes are part of the facts.
    rotating: bool,
    /// Revisions of state that sends no events, as of the last observation.
    seen: Seen,
}

/// The result of an observation that [`Kernel::changed_silently`] compares with later.
#[derive(Default)]
struct Seen {
    revisions: Revisions,
    /// The managed devices, and the number of peers of each WireGuard device.
    links: BTreeSet<LinkName>,
    peers: BTreeMap<LinkName, usize>,
}

impl LinuxKernel {
    /// Opens all adapters. If something is pinned already, or if the programs are to log, this loads the BPF
    /// programs and creates or adopts the maps; otherwise the observation does that which first needs them.
    /// `private_keys` is called when a WireGuard device gets its key.
    ///
    /// # Errors
    /// When an adapter can't be opened.
    pub fn open(
        options: &BpfOptions,
        state_directory: &Path,
        private_keys: PrivateKeys,
    ) -> Result<LinuxKernel, KernelError> {
        let is_needed = options.log || bpf::is_pinned(&options.bpffs)?;
        let bpf = is_needed.then(|| Bpf::open(options)).transpose()?;
        let endpoint_store = EndpointStore::open(&options.bpffs, state_directory, options.compare_by_tag)?;
        Ok(LinuxKernel {
            bpf_options: Some(options.clone()),
            bpf,
            endpoint_store: Some(endpoint_store),
            ..LinuxKernel::with(private_keys)?
        })
    }

    /// Opens all adapters except BPF. This is enough for deletion, because programs are deleted with their
    /// devices and maps with their pins.
    ///
    /// # Errors
    /// When an adapter can't be opened.
    pub fn without_bpf() -> Result<LinuxKernel, KernelError> {
        LinuxKernel::with(no_private_keys())
    }

    fn with(private_keys: PrivateKeys) -> Result<LinuxKernel, KernelError> {
        Ok(LinuxKernel {
            netlink: Netlink::open()?,
            namespaces: Namespaces::default(),
            sysctls: Sysctls::default(),
            wireguard: WireGuard::open(private_keys)?,
            nft: Nft::default(),
            bpf_options: None,
            bpf: None,
            needs_bpf: false,
            endpoint_store: None,
            rotating: false,
            seen: Seen::default(),
        })
    }

    /// The number of packets that the rules of the nft table have dropped so far. It can be read from any
    /// thread of this namespace.
    #[must_use]
    pub fn drops(&self) -> Drops {
        self.nft.drops()
    }

    /// The log of the programs; it can be taken once. It is empty unless BPF was opened with logging.
    ///
    /// # Errors
    /// When it was already taken, or BPF is not open.
    pub fn take_log(&mut self) -> Result<LogReader, KernelError> {
        let closed = || KernelError::new("open the programs' log", io::Error::from(io::ErrorKind::NotFound));
        self.bpf.as_mut().ok_or_else(closed)?.take_log()
    }

    /// Opens BPF if it is needed now: for the desired state, or because objects of Adit may still exist.
    /// Without BPF that can't be found out, so an error means that nothing is changed.
    fn open_bpf(&mut self, state: &KernelState) -> Result<(), KernelError> {
        let Some(options) = &self.bpf_options else {
            return Ok(());
        };
        if let Some(endpoint_store) = &mut self.endpoint_store {
            endpoint_store.settle(&options.bpffs)?;
            // Retries what could not be written before.
            endpoint_store.store();
        }
        if self.bpf.is_some() {
            return Ok(());
        }
        if self.needs_bpf || bpf::is_pinned(&options.bpffs)? || self.has_programs(state)? {
            self.bpf = Some(Bpf::open(options)?);
        }
        Ok(())
    }

    /// Whether there may be programs on the overlay devices of a state that was just observed.
    ///
    /// # Errors
    /// When a device can't be asked.
    pub fn has_programs(&self, state: &KernelState) -> Result<bool, KernelError> {
        let managed = state.links.iter().filter(|(_, link)| link.owner == Owner::Adit);
        let mut managed = managed
            .map(|(name, _)| name)
            .filter(|name| devices::is_overlay_device(name));
        bpf::is_attached(&self.netlink, &mut managed)
    }

    /// Why programs can't be loaded; `None` if they can, or already are.
    fn without_programs(&self) -> Result<Option<String>, KernelError> {
        match &self.bpf_options {
            Some(options) if self.bpf.is_none() => bpf::missing_file_system(&options.bpffs),
            _ => Ok(None),
        }
    }

    /// Subscribes to kernel events. From then on, changes that concern the observations of this kernel are
    /// not missed.
    ///
    /// # Errors
    /// When a socket can't be opened.
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

    /// Reads the settings of managed links; a link that is deleted meanwhile has none.
    fn observe_sysctls(&self, state: &mut KernelState) -> Result<(), KernelError> {
        let managed = state.links.iter().filter(|(_, link)| link.owner == Owner::Adit);
        for name in managed.map(|(name, _)| name) {
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

    /// Reads the managed WireGuard devices of this namespace; a link that is deleted meanwhile has none.
    async fn observe_wireguard(&mut self, state: &mut KernelState) -> Result<(), KernelError> {
        let mut configured = wireguard::Configured::read(self.endpoint_store.as_ref())?;
        for name in wireguard::devices(state) {
            let Some(mut device) = wireguard::get(&mut self.wireguard, &name).await? else {
                continue;
            };
            self.seen.peers.insert(name.clone(), device.peers.len());
            self.seen.revisions.add_wireguard(&name, &device);
            configured.tell(None, &name, &mut device);
            state.wireguard.insert(name, device);
        }
        if let Some(endpoint_store) = &mut self.endpoint_store {
            configured.forget_rest(endpoint_store);
        }
        Ok(())
    }

    /// The last handshakes on the overlay devices, while a key is being rotated or a device for the rotation
    /// still exists.
    async fn handshakes(&mut self) -> Result<Vec<SeenPeer>, KernelError> {
        let netlink = &self.netlink;
        let is_there = |name: &LinkName| netlink.link_index(name).is_some();
        if !self.rotating
            && !devices::wireguard_units()
                .map(devices::next_wireguard_device)
                .any(|name| is_there(&name))
        {
            return Ok(Vec::new());
        }
        let names = devices::wireguard_units().flat_map(|unit| {
            [
                devices::wireguard_device(unit),
                devices::next_wireguard_device(unit),
            ]
        });
        let names = names.filter(is_there).collect::<Vec<_>>();
        let mut seen = Vec::new();
        for name in names {
            let reading = match self.wireguard.get_device(&name).await {
                Ok(reading) => reading,
                // It was deleted meanwhile, or is not a WireGuard device.
                Err(error) if matches!(error.errno(), Some(libc::ENODEV | libc::EOPNOTSUPP)) => continue,
                Err(error) => return Err(error),
            };
            let Some(own) = reading.device.public_key else {
                continue;
            };
            seen.extend(reading.traffic.iter().map(|(peer, traffic)| SeenPeer {
                session: Session {
                    device: name.clone(),
                    own,
                    peer: *peer,
                },
                handshake: traffic.last_handshake,
                received: traffic.received,
            }));
        }
        Ok(seen)
    }

    /// Executes changes in the agent's namespace that all belong to one adapter.
    async fn execute_here(&mut self, run: Run<'_>) -> Vec<Result<(), KernelError>> {
        match run {
            Run::Netlink(changes) => self.netlink.execute(&changes).await,
            Run::Sysctl(changes) => {
                let write =
                    |change: &&SysctlChange| self.sysctls.write(&change.link, change.sysctl, &change.value);
                changes.iter().map(write).collect()
            }
            Run::WireGuard(changes) => {
                wireguard::execute(&mut self.wireguard, self.endpoint_store.as_mut(), None, &changes).await
            }
            Run::Nft(changes) => {
                let mut results = Vec::with_capacity(changes.len());
                for change in changes {
                    results.push(self.nft.execute(change).await);
                }
                results
            }
            Run::Bpf(changes) => match &mut self.bpf {
                Some(bpf) => bpf.execute(&self.netlink, &changes),
                None => Run::Bpf(changes).all_fail(io::ErrorKind::NotFound),
            },
        }
    }
}

impl Kernel for LinuxKernel {
    async fn is_outdated(&mut self) -> bool {
        self.netlink.is_outdated().await
    }

    async fn observe(&mut self) -> Result<KernelState, KernelError> {
        let mut state = KernelState::default();
        self.netlink.observe(&mut state).await?;
        self.open_bpf(&state)?;
        self.observe_namespaces(&mut state).await?;
        let managed = state.links.iter().filter(|(_, link)| link.owner == Owner::Adit);
        self.seen = Seen {
            links: managed.map(|(name, _)| name.clone()).collect(),
            ..Seen::default()
        };
        self.observe_sysctls(&mut state)?;
        self.observe_wireguard(&mut state).await?;
        match self.nft.observe().await? {
            nft::Found::Table(table) => state.firewall = table,
            nft::Found::Unlisted(why) => state.firewall_unreadable = Some(why),
        }
        if let Some(bpf) = &mut self.bpf {
            // Read the revisions first: a change between the two reads is part of the observation, and at
            // worst causes one more.
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

    fn prepare(&mut self, desired: &KernelState) {
        self.needs_bpf = desired.has_programs();
        self.netlink.set_desired(Some(desired));
        for (namespace, open) in self.namespaces.open() {
            open.netlink.set_desired(desired.namespaces.get(namespace));
        }
    }

    async fn open_namespaces(
        &mut self,
        wanted: &ObservationScope,
    ) -> Result<BTreeMap<Namespace, Presence>, KernelError> {
        self.netlink.set_return_paths(&wanted.return_paths);
        self.netlink.set_lookups(&wanted.lookups);
        self.netlink.set_overlays(&wanted.overlays);
        self.rotating = wanted.rotating;
        let found = self.namespaces.open_namespaces(wanted, &mut self.netlink).await?;
        for (namespace, gateways) in &wanted.gateways {
            let netlink = match namespace.as_ref().map(|namespace| found.get(namespace)) {
                None => Some(&mut self.netlink),
                Some(Some(Presence::There(there))) => {
                    self.namespaces.get(there).map(|open| &mut open.netlink)
                }
                Some(_) => None,
            };
            if let Some(netlink) = netlink {
                netlink.add_gateways(gateways);
            }
        }
        Ok(found)
    }

    async fn wait_rcu_grace(&mut self) {
        tokio::time::sleep(limits::RCU_GRACE).await;
    }

    fn release_namespaces(&mut self) {
        self.namespaces.close(&self.netlink);
    }

    async fn changed_silently(&mut self) -> Result<Option<String>, KernelError> {
        let mut now = match &self.bpf {
            Some(bpf) => bpf.revisions(&self.netlink, self.seen.links.iter())?,
            None => Revisions::default(),
        };
        for (name, peers) in &self.seen.peers {
            if *peers > limits::RECHECKED_PEERS {
                continue;
            }
            match self.wireguard.get_device(name).await {
                Ok(reading) => now.add_wireguard(name, &reading.device),
                // There is an event for its deletion.
                Err(error) if error.errno() == Some(libc::ENODEV) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.seen.revisions.difference(&now))
    }

    async fn facts(&mut self, peers: &BTreeSet<IpAddr>) -> Result<NodeFacts, KernelError> {
        let mut facts = self.netlink.facts(peers).await?;
        let links = facts.routes.values().flat_map(|route| &route.links);
        let strict = links.filter(|link| self.sysctls.is_strict(link));
        facts.strict = strict.cloned().collect();
        for (namespace, open) in self.namespaces.open() {
            // Without this fact, the kernel refuses what it can't do.
            if let Ok(ipv6) = open.netlink.ipv6().await {
                facts.ipv6_in.insert(namespace.clone(), ipv6);
            }
            // Without it, routes wait and existing ones stay.
            if let Ok(found) = open.netlink.find_gateways().await {
                facts.gateways.insert(Some(namespace.clone()), found);
            }
        }
        facts.nft = self.nft.facts().await;
        facts.wireguard.seen = self.handshakes().await?;
        facts.without_programs = self.without_programs()?;
        Ok(facts)
    }

    async fn execute(&mut self, changes: &[Change]) -> Vec<Result<(), KernelError>> {
        let mut results = Vec::with_capacity(changes.len());
        self.netlink.begin_changes();
        if let Some(bpf) = &mut self.bpf
            && bpf.leftovers() > 0
        {
            // Deletes what a crash left in the maps, which no state can express. The next observation shows
            // the result.
            bpf.execute::<BpfChange>(&self.netlink, &[]);
        }
        for change in changes {
            // The other end of a pair may be a new device with an old name.
            if let Action::Netlink(NetlinkChange::Link(LinkChange(_, LinkOperation::Create(link)))) =
                &change.action
                && let LinkKind::Veth(peer) = &link.kind
            {
                match &peer.namespace {
                    None => self.netlink.forget(&peer.name),
                    Some(namespace) => {
                        if let Some(open) = self.namespaces.get(namespace) {
                            open.netlink.forget(&peer.name);
                        }
                    }
                }
            }
        }
        for (namespace, run) in Run::split(changes) {
            results.extend(match namespace {
                None => self.execute_here(run).await,
                Some(namespace) => self.execute_in(namespace, run).await,
            });
        }
        if let Some(endpoint_store) = &mut self.endpoint_store {
            endpoint_store.store();
        }
        for (change, result) in changes.iter().zip(&mut results) {
            if let Err(error) = result
                && error.errno() == Some(libc::EADDRINUSE)
                && let Some(user) = self.port_user(change).await
            {
                error.kernel_text = Some(user);
            }
        }
        results
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

/// The release of the kernel, as `uname -r` prints it.
#[must_use]
pub fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
