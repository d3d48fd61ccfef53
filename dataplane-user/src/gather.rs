//! Gathers what the plan must know of the machine: from the kernel, the node's key files and the resolver.

mod keys;
mod remembered;
mod rotation;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use self::keys::{Keys, Needed};
use self::remembered::Remembered;
use self::rotation::Rotation;
use crate::kernel::wireguard::PrivateKeys;
use crate::kernel::{Kernel, KernelError, Wanted};
use crate::model::facts::Presence;
use crate::model::facts::{NodeFacts, WireGuardFacts};
use crate::model::{ChangeSet, KernelState};
use crate::net::{Family, Namespace, PeerId};
use crate::pauses::Pauses;
use crate::plan::lookups;
use crate::resource::netlink::Placed;
use crate::resource::node::{Endpoint, Host};
use crate::resource::{Intent, Node, WireGuardInterface, WireGuardPeer};
use crate::source::names::Names;
use crate::source::{KeyRing, withdrawn};

/// What is looked at beside the kernel, and what is remembered of it between two passes.
#[derive(Debug)]
pub struct Gatherer {
    state_directory: PathBuf,
    keys: Keys,
    remembered: Remembered,
    /// Whether what is gathered is for changes.
    changes: bool,
    names: Names,
    rotation: Rotation,
    /// Who was withdrawn when that could be read last.
    withdrawn: BTreeSet<PeerId>,
}

impl Gatherer {
    /// With the directory that the node's keys are in, and how long a name's addresses are believed. Makes no keys.
    #[must_use]
    pub fn new(state_directory: PathBuf, names: Duration) -> Gatherer {
        Gatherer {
            keys: Keys::new(KeyRing::new(&state_directory), false),
            remembered: Remembered::new(&state_directory),
            changes: false,
            state_directory,
            rotation: Rotation::new(Pauses::default().drain),
            names: Names::new(names),
            withdrawn: BTreeSet::new(),
        }
    }

    /// Gathers for changes: other namespaces are given numbers, and remembered in the state directory, before anything is made
    /// there.
    #[must_use]
    pub fn for_changes(mut self) -> Gatherer {
        self.changes = true;
        self
    }

    /// For the agent: gathers for changes, makes the keys that are made once, and tells a ring of all keys, by which private ones are fetched.
    #[must_use]
    pub fn with_keys(mut self, keys: KeyRing) -> Gatherer {
        self.keys = Keys::new(keys, true);
        self.for_changes()
    }

    /// How long a second link stays after a change of keys; without this it is as long as for any agent.
    #[must_use]
    pub fn with_drain(mut self, drain: Duration) -> Gatherer {
        self.rotation = Rotation::new(drain);
        self
    }

    /// In how long a name is to be looked up anew; `None`: there are no names.
    #[must_use]
    pub fn names_due(&self) -> Option<Duration> {
        self.names.due()
    }

    /// In how long a second link may go that stays for a while after a change of keys; `None`: there is none such.
    #[must_use]
    pub fn drain_due(&self) -> Option<Duration> {
        self.rotation.due()
    }

    /// All facts, as they are now. Names that are slow to be looked up keep it waiting for some seconds at most.
    ///
    /// # Errors
    /// When the kernel's part can't be read; whatever else can't be is in the facts.
    pub async fn gather(
        &mut self,
        kernel: &mut impl Kernel,
        intent: &Intent,
    ) -> Result<NodeFacts, KernelError> {
        let mut wireguard = self.wireguard(intent).await;
        let mut destinations = underlay_addresses(intent);
        destinations.extend(wireguard.names.values().flatten());
        destinations.extend(hosts(intent).filter_map(|host| match host {
            Host::Address(address) => Some(*address),
            // The way to a link's own address is its device.
            Host::Scoped(..) | Host::Name(_) => None,
        }));
        let namespaces = intent.resources().netlink.namespaces(&intent.node().name);
        let wanted = Wanted {
            remembered: self.remembered.with(&namespaces, self.changes),
            namespaces,
            changes: self.changes,
            return_paths: intent.node().return_path.clone(),
            lookups: lookups(intent, &destinations, &wireguard.names),
            rotating: ends(intent).any(|end| end.next_public_key.is_some()),
        };
        let namespaces = kernel.look_for(&wanted).await?;
        let facts = kernel.facts(&destinations).await?;
        (wireguard.sessions, wireguard.lingering) = self.rotation.look(&facts.wireguard.seen);
        match withdrawn::load(&self.state_directory) {
            Ok(names) => self.withdrawn = names,
            Err(error) => tracing::warn!("who is withdrawn stays as it was: {error}"),
        }
        Ok(NodeFacts {
            wireguard,
            namespaces,
            withdrawn: self.withdrawn.clone(),
            ..facts
        })
    }

    /// Forgets the namespaces that nobody wants and nothing is in: `observed` and `left` are what the kernel holds and what is
    /// still to be done there.
    pub fn forget_namespaces(
        &mut self,
        facts: &NodeFacts,
        intent: &Intent,
        observed: &KernelState,
        left: &ChangeSet,
    ) {
        let wanted = intent.resources().netlink.namespaces(&intent.node().name);
        let is_clean = |namespace: &Namespace| {
            let mut changes = left.changes.iter();
            observed.namespaces.contains_key(namespace)
                && !changes.any(|change| change.namespace.as_ref() == Some(namespace))
        };
        self.remembered.retain(|namespace| {
            let is_gone = match facts.namespaces.get(namespace) {
                Some(Presence::Absent(_)) => true,
                Some(Presence::There(other)) => wanted.contains(other) || is_clean(other),
                // What its path led to before may be anywhere.
                Some(Presence::Own) => !matches!(namespace, Namespace::Path(_)),
                _ => false,
            };
            wanted.contains(namespace) || !is_gone
        });
    }

    async fn wireguard(&mut self, intent: &Intent) -> WireGuardFacts {
        let files = ends(intent).filter_map(|end| end.preshared_key_file.clone());
        let files = files.chain(declared(intent).flat_map(|(_, placed)| {
            let peers = placed.object.peers.iter();
            peers.filter_map(|peer| peer.preshared_key_file().cloned())
        }));
        let facts = self.keys.read(&Needed {
            declared: intent.node().wireguard.as_ref().map(|own| own.public_key),
            private: declared(intent)
                .filter_map(|(_, placed)| placed.object.key.clone())
                .collect(),
            preshared: files.collect(),
        });
        let names = hosts(intent).filter_map(Host::name).cloned();
        WireGuardFacts {
            names: self.names.look_up(&names.collect()).await,
            ..facts
        }
    }
}

/// Fetches private keys by a ring, when a device is to get one.
#[must_use]
pub fn private_keys(ring: &KeyRing) -> PrivateKeys {
    let ring = ring.clone();
    Arc::new(move |public| ring.private(public))
}

/// The underlay addresses of all peers: the plan wants to know the way to each.
fn underlay_addresses(intent: &Intent) -> BTreeSet<IpAddr> {
    peers(intent)
        .flat_map(|peer| Family::BOTH.map(|family| peer.underlay.address(family)))
        .flatten()
        .collect()
}

fn peers(intent: &Intent) -> impl Iterator<Item = &Node> {
    intent.networks().flat_map(|network| intent.peers(network))
}

/// The WireGuard ends of this node and all peers.
fn ends(intent: &Intent) -> impl Iterator<Item = &WireGuardPeer> {
    let nodes = peers(intent).chain([intent.node()]);
    nodes.filter_map(|node| node.wireguard.as_ref())
}

/// The WireGuard devices that this node declares.
fn declared(intent: &Intent) -> impl Iterator<Item = (&str, &Placed<WireGuardInterface>)> {
    intent.resources().netlink.wireguard(&intent.node().name)
}

/// Where the peers' WireGuard is.
fn hosts(intent: &Intent) -> impl Iterator<Item = &Host> {
    let endpoints = peers(intent).filter_map(|peer| peer.wireguard.as_ref()?.endpoint.as_ref());
    let peers = declared(intent).flat_map(|(_, placed)| &placed.object.peers);
    let endpoints = endpoints.chain(peers.filter_map(|peer| peer.endpoint.as_ref()));
    endpoints.map(|Endpoint { host, .. }| host)
}
