//! Gathers what the plan must know of the machine: from the kernel, the node's key files and the resolver.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::kernel::wireguard::PrivateKeys;
use crate::kernel::{Kernel, KernelError, Wanted};
use crate::net::{Family, PeerId};
use crate::plan::{NodeFacts, OwnKey, WireGuardFacts, route_keys};
use crate::resource::node::{Endpoint, Host};
use crate::resource::{Intent, Node, WireGuardPeer};
use crate::source::names::Names;
use crate::source::{key_file, withdrawn};

/// What is looked at beside the kernel, and what is remembered of it between two passes.
#[derive(Debug)]
pub struct Gatherer {
    state_directory: PathBuf,
    names: Names,
    /// Who was withdrawn when that could be read last.
    withdrawn: BTreeSet<PeerId>,
}

impl Gatherer {
    /// With the directory that the node's key is in, and how long a name's addresses are believed.
    #[must_use]
    pub fn new(state_directory: PathBuf, names: Duration) -> Gatherer {
        Gatherer {
            state_directory,
            names: Names::new(names),
            withdrawn: BTreeSet::new(),
        }
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
        let wireguard = self.wireguard(intent).await;
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
        };
        let namespaces = kernel.look_for(&wanted).await?;
        let facts = kernel.facts(&destinations).await?;
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

    async fn wireguard(&mut self, intent: &Intent) -> WireGuardFacts {
        let own_key = match key_file::load(&self.state_directory) {
            Ok(None) => OwnKey::Missing,
            Ok(Some(key)) => OwnKey::Known(key.public_key()),
            Err(error) => OwnKey::Unusable(error.to_string()),
        };
        let files = ends(intent).filter_map(|end| end.preshared_key_file.clone());
        let key =
            |file: &String| key_file::load_preshared(Path::new(file)).map_err(|error| error.to_string());
        let names = hosts(intent).filter_map(|host| match host {
            Host::Name(name) => Some(name.clone()),
            Host::Address(_) => None,
        });
        WireGuardFacts {
            own_key,
            preshared_keys: files.map(|file| (file.clone(), key(&file))).collect(),
            names: self.names.look_up(&names.collect()).await,
        }
    }
}

/// Fetches the node's private key from its state directory, if it is the one that is asked for.
#[must_use]
pub fn private_keys(state_directory: &Path) -> PrivateKeys {
    let directory = state_directory.to_owned();
    Box::new(move |public| {
        let key = key_file::load(&directory).map_err(io::Error::other)?;
        let key = key.filter(|key| key.public_key() == *public);
        key.ok_or_else(|| {
            let text = format!("{} holds another private key, or none", directory.display());
            io::Error::new(io::ErrorKind::NotFound, text)
        })
    })
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

/// Where the peers' WireGuard is.
fn hosts(intent: &Intent) -> impl Iterator<Item = &Host> {
    let endpoints = peers(intent).filter_map(|peer| peer.wireguard.as_ref()?.endpoint.as_ref());
    endpoints.map(|Endpoint { host, .. }| host)
}
