//! Gathers the facts about the machine that the plan needs: from the kernel, the key files and the resolver.

mod key_facts;
mod remembered;
mod rotation;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use self::key_facts::{Keys, Needed};
use self::remembered::Remembered;
use self::rotation::Rotation;
use crate::kernel::{Kernel, KernelError, ObservationScope};
use crate::model::facts::Presence;
use crate::model::facts::{NodeFacts, Unread, WireGuardFacts};
use crate::model::{ChangeSet, KernelState};
use crate::net::{Family, Namespace, PeerId};
use crate::pauses::Pauses;
use crate::plan::{gateways, lookups};
use crate::resource::netlink::Namespaced;
use crate::resource::node::{Endpoint, Host};
use crate::resource::{Intent, Node, WireGuardInterface, WireGuardPeer};
use crate::source::names::Names;
use crate::source::{KeyRing, withdrawn};

/// The sources of facts beside the kernel, and what is remembered between reconciliations.
#[derive(Debug)]
pub struct Gatherer {
    state_directory: PathBuf,
    keys: Keys,
    remembered: Remembered,
    /// Whether the facts are for changes, not only for a comparison.
    changes: bool,
    names: Names,
    rotation: Rotation,
    /// The withdrawn peers.
    withdrawn: Withdrawn,
}

/// Who knows the withdrawn peers.
#[derive(Debug)]
enum Withdrawn {
    /// Nobody yet.
    Unknown,
    /// The kernel showed them.
    Shown(BTreeSet<PeerId>),
    /// The list, as read last.
    Read(BTreeSet<PeerId>),
}

impl Gatherer {
    /// With the directory of the node's keys, and how long the addresses of a name stay valid. Generates no
    /// keys.
    #[must_use]
    pub fn new(state_directory: PathBuf, names: Duration) -> Gatherer {
        Gatherer {
            keys: Keys::new(KeyRing::new(&state_directory), false),
            remembered: Remembered::new(&state_directory),
            changes: false,
            state_directory,
            rotation: Rotation::new(Pauses::default().rotation_overlap),
            names: Names::new(names),
            withdrawn: Withdrawn::Unknown,
        }
    }

    /// Gathers for changes: other namespaces get numbers and are remembered in the state directory, before
    /// anything is created in them.
    #[must_use]
    pub fn for_changes(mut self) -> Gatherer {
        self.changes = true;
        self
    }

    /// For the agent: gathers for changes, generates missing keys of declared devices, and records all keys
    /// on a ring, which finds private keys.
    #[must_use]
    pub fn with_keys(mut self, keys: KeyRing) -> Gatherer {
        self.keys = Keys::new(keys, true);
        self.for_changes()
    }

    /// How long a second link stays after a key rotation, instead of the default.
    #[must_use]
    pub fn with_rotation_overlap(mut self, overlap: Duration) -> Gatherer {
        self.rotation = Rotation::new(overlap);
        self
    }

    /// The time until a name must be looked up again; `None` without names.
    #[must_use]
    pub fn names_due(&self) -> Option<Duration> {
        self.names.due()
    }

    /// The time until a second link may be deleted after a key rotation; `None` without such links.
    #[must_use]
    pub fn rotation_due(&self) -> Option<Duration> {
        self.rotation.due()
    }

    /// Gathers all facts. Waits a few seconds at most for slow resolvers.
    ///
    /// # Errors
    /// When the facts of the kernel can't be read. Other failures are part of the facts.
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
            // The path to a link-local address is its device.
            Host::Scoped(..) | Host::Name(_) => None,
        }));
        let namespaces = intent.resources().netlink.namespaces(&intent.node().name);
        let wanted = ObservationScope {
            remembered: self.remembered.with(&namespaces, self.changes),
            namespaces,
            changes: self.changes,
            return_paths: intent.node().return_path.clone(),
            overlays: intent
                .networks()
                .flat_map(|network| network.prefixes.clone())
                .collect(),
            lookups: lookups(intent, &destinations, &wireguard.names),
            gateways: gateways(intent),
            rotating: ends(intent).any(|end| end.next_public_key.is_some()),
        };
        let namespaces = kernel.open_namespaces(&wanted).await?;
        let facts = kernel.facts(&destinations).await?;
        (wireguard.sessions, wireguard.lingering) = self.rotation.update(&facts.wireguard.seen);
        let withdrawn_unread = match withdrawn::load(&self.state_directory) {
            Ok(names) => {
                self.withdrawn = Withdrawn::Read(names);
                None
            }
            Err(error) => Some(Unread {
                why: error.to_string(),
                known: matches!(self.withdrawn, Withdrawn::Read(_)),
            }),
        };
        Ok(NodeFacts {
            wireguard,
            namespaces,
            withdrawn: match &self.withdrawn {
                Withdrawn::Unknown => BTreeSet::new(),
                Withdrawn::Shown(names) | Withdrawn::Read(names) => names.clone(),
            },
            withdrawn_unread,
            ..facts
        })
    }

    /// Whether it is known which peers are withdrawn.
    #[must_use]
    pub(crate) fn knows_withdrawn(&self) -> bool {
        !matches!(self.withdrawn, Withdrawn::Unknown)
    }

    /// Takes the peers that the kernel shows as withdrawn, until the list can be read.
    pub(crate) fn set_shown(&mut self, withdrawn: BTreeSet<PeerId>) {
        self.withdrawn = Withdrawn::Shown(withdrawn);
    }

    /// Forgets the namespaces that are not declared any more and have no managed objects, nor objects that can't
    /// be decoded: `observed` is the observed state, `left` are the changes that are still to be made.
    pub fn forget_namespaces(
        &mut self,
        facts: &NodeFacts,
        intent: &Intent,
        observed: &KernelState,
        left: &ChangeSet,
    ) {
        let wanted = intent.resources().netlink.namespaces(&intent.node().name);
        self.remembered.retain(|namespace| {
            let is_gone = match facts.namespaces.get(namespace) {
                Some(Presence::Absent(_)) => true,
                Some(Presence::There(other)) => wanted.contains(other) || is_clean(other, observed, left),
                // The path may have led to another namespace before.
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

/// Whether a namespace was read and has neither managed objects nor objects that can't be decoded.
fn is_clean(namespace: &Namespace, observed: &KernelState, left: &ChangeSet) -> bool {
    let mut changes = left.changes.iter();
    let there = observed.namespaces.get(namespace);
    there.is_some_and(|there| there.undecoded.is_empty())
        && !changes.any(|change| change.namespace.as_ref() == Some(namespace))
}

/// The underlay addresses of all peers: the plan needs the path to each.
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
fn declared(intent: &Intent) -> impl Iterator<Item = (&str, &Namespaced<WireGuardInterface>)> {
    intent.resources().netlink.wireguard(&intent.node().name)
}

/// The hosts of all WireGuard endpoints.
fn hosts(intent: &Intent) -> impl Iterator<Item = &Host> {
    let endpoints = peers(intent).filter_map(|peer| peer.wireguard.as_ref()?.endpoint.as_ref());
    let peers = declared(intent).flat_map(|(_, placed)| &placed.object.peers);
    let endpoints = endpoints.chain(peers.filter_map(|peer| peer.endpoint.as_ref()));
    endpoints.map(|Endpoint { host, .. }| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Undecoded;

    #[test]
    fn a_namespace_with_objects_that_can_t_be_decoded_is_not_forgotten() {
        let namespace = Namespace::Pid(7);
        let is_clean = |observed: &KernelState| is_clean(&namespace, observed, &ChangeSet::default());
        let mut observed = KernelState::default();
        assert!(!is_clean(&observed), "it was not read");
        let there = observed.namespaces.entry(namespace.clone()).or_default();
        let undecoded = Undecoded {
            count: 1,
            first: "odd".to_owned(),
        };
        there.undecoded.insert("rules", undecoded);
        assert!(!is_clean(&observed));
        observed
            .namespaces
            .entry(namespace.clone())
            .or_default()
            .undecoded
            .clear();
        assert!(is_clean(&observed));
    }
}
