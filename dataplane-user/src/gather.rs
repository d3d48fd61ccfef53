//! Gathers what the plan must know of the machine: from the kernel, the node's key files and the resolver.

mod rotation;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use self::rotation::Rotation;
use crate::kernel::wireguard::{PrivateKeys, generate};
use crate::kernel::{Kernel, KernelError, Wanted};
use crate::net::{Family, PeerId, PrivateKey};
use crate::pauses::Pauses;
use crate::plan::{NodeFacts, OwnKey, WireGuardFacts, route_keys};
use crate::resource::netlink::Placed;
use crate::resource::node::{Endpoint, Host};
use crate::resource::wireguard::KeySource;
use crate::resource::{Intent, Node, WireGuardInterface, WireGuardPeer};
use crate::source::names::Names;
use crate::source::{KeyRing, key_file, withdrawn};

/// What is looked at beside the kernel, and what is remembered of it between two passes.
#[derive(Debug)]
pub struct Gatherer {
    state_directory: PathBuf,
    keys: KeyRing,
    /// Whether keys that are made once are made.
    makes_keys: bool,
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
            keys: KeyRing::new(&state_directory),
            state_directory,
            makes_keys: false,
            rotation: Rotation::new(Pauses::default().drain),
            names: Names::new(names),
            withdrawn: BTreeSet::new(),
        }
    }

    /// Makes the keys that are made once, and tells a ring of all keys, by which private ones are fetched.
    #[must_use]
    pub fn with_keys(mut self, keys: KeyRing) -> Gatherer {
        self.keys = keys;
        self.makes_keys = true;
        self
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
            Host::Name(_) => None,
        }));
        let wanted = Wanted {
            namespaces: intent.resources().netlink.namespaces(&intent.node().name),
            routes: route_keys(intent),
            return_paths: intent.node().return_path.clone(),
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

    /// The node's key, and the one that it changes to. That is the node's own from when its manifest says so.
    fn own_keys(&self, intent: &Intent) -> (OwnKey, OwnKey) {
        let next = self.key(&KeySource::Next, None);
        let declared = intent.node().wireguard.as_ref().map(|own| own.public_key);
        if let (Some(declared), OwnKey::Known(known)) = (declared, &next)
            && declared == *known
        {
            if !self.makes_keys {
                return (next, OwnKey::Missing);
            }
            match self.keys.promote() {
                Ok(()) => tracing::info!("the next key is this node's own now, as its manifest says"),
                Err(error) => tracing::warn!("the next key can't be made this node's own: {error}"),
            }
            return (self.key(&KeySource::Node, None), self.key(&KeySource::Next, None));
        }
        (self.key(&KeySource::Node, None), next)
    }

    fn key(&self, source: &KeySource, make: Option<fn() -> std::io::Result<PrivateKey>>) -> OwnKey {
        match self.keys.public(source, make) {
            Ok(Some(key)) => OwnKey::Known(key),
            Ok(None) => OwnKey::Missing,
            Err(error) => OwnKey::Unusable(error.to_string()),
        }
    }

    /// The public keys of declared devices.
    fn keys(&self, intent: &Intent) -> BTreeMap<KeySource, OwnKey> {
        let make = self.makes_keys.then_some(generate::private_key as fn() -> _);
        let sources = declared(intent).map(|(_, placed)| &placed.object.key);
        sources
            .map(|source| (source.clone(), self.key(source, make)))
            .collect()
    }

    async fn wireguard(&mut self, intent: &Intent) -> WireGuardFacts {
        let (own_key, next_key) = self.own_keys(intent);
        let files = ends(intent).filter_map(|end| end.preshared_key_file.clone());
        let files = files.chain(declared(intent).flat_map(|(_, placed)| {
            let peers = placed.object.peers.values();
            peers.filter_map(|peer| peer.preshared_key_file.clone())
        }));
        let key =
            |file: &String| key_file::load_preshared(Path::new(file)).map_err(|error| error.to_string());
        let names = hosts(intent).filter_map(|host| match host {
            Host::Name(name) => Some(name.clone()),
            Host::Address(_) => None,
        });
        WireGuardFacts {
            own_key,
            next_key,
            keys: self.keys(intent),
            preshared_keys: files.map(|file| (file.clone(), key(&file))).collect(),
            names: self.names.look_up(&names.collect()).await,
            ..WireGuardFacts::default()
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
    let peers = declared(intent).flat_map(|(_, placed)| placed.object.peers.values());
    let endpoints = endpoints.chain(peers.filter_map(|peer| peer.endpoint.as_ref()));
    endpoints.map(|Endpoint { host, .. }| host)
}
