//! WireGuard: the device that each pair of nodes uses, and the desired state of the devices.
//!
//! WireGuard chooses the peer by its allowed IPs, so peers that advertise the same prefix can't share a
//! device: the second peer would take the prefix from the first. Nodes that advertise a common prefix have
//! different colours, and a pair uses the device (sum of both colours) mod (number of colours). Both ends
//! compute it from the manifests alone, and on no node do two peers of different colours use the same device.

mod keys;
pub mod rotation;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::model::devices;
use crate::model::wireguard::{Device, Peer, Preshared};
use crate::model::{KernelState, LinkKind};
use crate::net::{Family, LinkName, NodeName, PeerEndpoint, PublicKey};
use crate::resource::node::{Endpoint, Host};
use crate::resource::{Intent, Network, Node, Problem, Reason, Resources, WireGuardPeer};

use super::NetworkLink;
use super::advertised::advertised;
use super::links::Refusal;
use crate::model::devices::wireguard_device;
use crate::model::facts::{NodeFacts, OwnKey, SharedKey};

pub(super) use keys::problems as key_problems;

/// The WireGuard part of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireGuardLink {
    /// The number of the device, the same on both ends.
    pub unit: u8,
    /// The UDP port of the device: the port of the network plus the number.
    pub port: u16,
    /// The public key of this node on the device.
    pub own_key: PublicKey,
    /// The public key of the peer.
    pub public_key: PublicKey,
    /// The endpoint of the peer; `None`: its name does not resolve now.
    pub endpoint: Option<SocketAddr>,
    /// The preshared key, if one of the nodes names a file with it.
    pub preshared_key: Preshared,
    /// Seconds between keepalives, if the link needs them.
    keepalive: Option<u16>,
    /// During a key rotation, the link with the other keys: packets are received on it, but not sent.
    pub beside: Option<Box<WireGuardLink>>,
    /// Whether packets move to the other link once it has a handshake.
    pub awaits: bool,
    /// The name of the endpoint, if it has one.
    name: Option<String>,
}

impl WireGuardLink {
    /// The device's name.
    #[must_use]
    pub fn device(&self) -> LinkName {
        wireguard_device(self.unit)
    }

    /// This link and, during a key rotation, the one beside it.
    pub fn all(&self) -> impl Iterator<Item = &WireGuardLink> {
        std::iter::once(self).chain(self.beside.as_deref())
    }

    /// The name of the endpoint, if it does not resolve.
    pub(super) fn unresolved(&self) -> Option<&str> {
        self.name.as_deref().filter(|_| self.endpoint.is_none())
    }
}

/// Two nodes in a network.
pub(super) struct Pair<'a> {
    pub(super) node: &'a Node,
    pub(super) peer: &'a Node,
    pub(super) network: &'a Network,
    /// The peer's underlay address.
    pub(super) remote: IpAddr,
}

/// The link of a pair, or why there is none.
pub(super) fn link(
    pair: &Pair<'_>,
    facts: &NodeFacts,
    colours: &Colours<'_>,
) -> Result<WireGuardLink, Refusal> {
    let own_key = own_key(pair.node, facts)?;
    let Some(peer) = &pair.peer.wireguard else {
        return Err(Refusal {
            reason: Reason::Incomplete,
            message: format!(
                "the link uses WireGuard, but TunnelNode/{} has no public key",
                pair.peer.name
            ),
            remedy: format!(
                "run `adit wg pubkey --manifest` on {0}, and add its output to the spec of TunnelNode/{0}",
                pair.peer.name
            ),
        });
    };
    let number = colours.device(&pair.node.name, &pair.peer.name);
    let base = pair.network.ports.wireguard;
    let unit_and_port = u8::try_from(number)
        .ok()
        .filter(|unit| devices::wireguard_units().contains(unit))
        .and_then(|unit| Some((unit, base.checked_add(unit.into())?)));
    let Some((unit, port)) = unit_and_port else {
        return Err(Refusal {
            reason: Reason::Capacity,
            message: format!(
                "the pair needs WireGuard device number {number}, which has no valid name or no valid UDP port \
                 ({base} + {number})"
            ),
            remedy: "let fewer nodes advertise the same prefix, or choose a lower spec.ports.wireguard"
                .to_owned(),
        });
    };
    let link = WireGuardLink {
        unit,
        port,
        own_key,
        public_key: peer.public_key,
        endpoint: endpoint(peer, pair.remote, base, unit, facts),
        preshared_key: preshared_key(pair, facts)?,
        name: match &peer.endpoint {
            Some(Endpoint {
                host: Host::Name(name),
                ..
            }) => Some(name.clone()),
            _ => None,
        },
        keepalive: pair.node.wireguard.as_ref().and_then(|own| own.keepalive_seconds),
        beside: None,
        awaits: false,
    };
    Ok(rotation::apply(link, pair, facts))
}

/// The key of this node; refused if it is not the one that the manifest declares to the other nodes. While
/// the key can't be read, it is assumed to be the declared one: existing devices have it, and new ones get
/// none. An unreadable next key may have become the declared one.
fn own_key(node: &Node, facts: &NodeFacts) -> Result<PublicKey, Refusal> {
    let declared = node.wireguard.as_ref().map(|own| own.public_key);
    let message = match (&facts.wireguard.own_key, declared) {
        (OwnKey::Known(key), Some(declared)) if *key == declared => return Ok(declared),
        (OwnKey::Unusable(_), Some(declared)) => return Ok(declared),
        (_, Some(declared)) if matches!(facts.wireguard.next_key, OwnKey::Unusable(_)) => {
            return Ok(declared);
        }
        (OwnKey::Known(key), Some(declared)) => {
            format!(
                "this node's key is {key}, but its manifest declares {declared}: WireGuard stays off on this node"
            )
        }
        (OwnKey::Known(key), None) => format!("the manifest of this node does not declare its key {key}"),
        (OwnKey::Missing, _) => "this node has no WireGuard key".to_owned(),
        (OwnKey::Unusable(why), _) => why.clone(),
    };
    Err(Refusal {
        reason: Reason::KeyMismatch,
        message,
        remedy: format!(
            "run `adit wg pubkey --manifest` on this node, and add its output to the spec of TunnelNode/{}",
            node.name
        ),
    })
}

/// The problem that WireGuard is off on this node, in addition to those of the pairs.
pub(super) fn own_problem(intent: &Intent, facts: &NodeFacts, found: &[Problem]) -> Option<Problem> {
    found
        .iter()
        .find(|problem| problem.reason == Reason::KeyMismatch)?;
    let Refusal {
        reason,
        message,
        remedy,
    } = own_key(intent.node(), facts).err()?;
    let subject = format!("TunnelNode/{}", intent.node().name);
    Some(Problem::error(reason, subject, message, remedy))
}

/// The endpoint of the peer for its device with this number: the declared one, else its underlay address.
fn endpoint(
    peer: &WireGuardPeer,
    remote: IpAddr,
    base: u16,
    unit: u8,
    facts: &NodeFacts,
) -> Option<SocketAddr> {
    let Some(endpoint) = &peer.endpoint else {
        return Some(SocketAddr::new(remote, base.checked_add(unit.into())?));
    };
    let port = endpoint.port.checked_add(unit.into())?;
    let address = match &endpoint.host {
        Host::Address(address) => *address,
        // The name of a device has no meaning on other nodes; manifests reject it here.
        Host::Scoped(..) => return None,
        Host::Name(name) => {
            let known = facts.wireguard.names.get(name)?;
            let of_family = |address: &&IpAddr| Family::of(**address) == Family::of(remote);
            *known.iter().find(of_family).or_else(|| known.first())?
        }
    };
    Some(SocketAddr::new(address, port))
}

/// The file with the preshared key of a pair, which either end names; if both do, the one of the first node
/// by name, so that both use the same file.
fn preshared_key_file<'a>(node: &'a Node, peer: &'a Node) -> Option<&'a String> {
    let mut ends = [node, peer];
    ends.sort_by_key(|node| &node.name);
    let files = ends.map(|node| node.wireguard.as_ref()?.preshared_key_file.as_ref());
    files.into_iter().flatten().next()
}

fn preshared_key(pair: &Pair<'_>, facts: &NodeFacts) -> Result<Preshared, Refusal> {
    let Some(file) = preshared_key_file(pair.node, pair.peer) else {
        return Ok(Preshared::None);
    };
    let why = match facts.wireguard.preshared_keys.get(file) {
        Some(SharedKey::Known(key)) => return Ok(Preshared::Key(key.clone())),
        // An unreadable key is not a missing one: an existing peer stays.
        Some(SharedKey::Unreadable(_)) => return Ok(Preshared::Unreadable),
        Some(SharedKey::Missing(why)) => why.clone(),
        None => format!("{file} was not read"),
    };
    Err(Refusal {
        reason: Reason::Incomplete,
        message: format!("the preshared key is not available: {why}"),
        remedy: format!(
            "create a key with `adit wg genpsk`, and store it in {file} on both nodes, mode 0600"
        ),
    })
}

/// Gives a peer the same endpoint in all common networks: the one of the first network.
pub(super) fn unite(networks: &mut [NetworkLink<'_>], facts: &NodeFacts) {
    let mut endpoints = BTreeMap::new();
    let peers = networks.iter_mut().flat_map(|network| &mut network.peers);
    for peer in peers {
        if let Some(link) = &mut peer.wireguard {
            let mut unite = |link: &mut WireGuardLink| {
                let known = endpoints.entry((&peer.node.name, link.unit));
                link.endpoint = *known.or_insert(link.endpoint);
            };
            unite(link);
            link.beside.as_deref_mut().map(unite);
            peer.find_path(facts);
        }
    }
}

pub(super) fn plan(networks: &[NetworkLink<'_>], desired: &mut KernelState) {
    for links in networks {
        for peer in &links.peers {
            for link in peer.wireguard.iter().flat_map(WireGuardLink::all) {
                let device = desired.wireguard.entry(link.device()).or_insert_with(|| Device {
                    public_key: Some(link.own_key),
                    listen_port: link.port,
                    ..Device::default()
                });
                // Its handshakes would enter the overlay, too.
                if peer.looped.is_some() {
                    continue;
                }
                let config = device.peers.entry(link.public_key).or_insert_with(|| Peer {
                    endpoint: link.endpoint.map(PeerEndpoint::from),
                    configured: link.endpoint.map(PeerEndpoint::from),
                    keepalive: link.keepalive.unwrap_or(0),
                    preshared_key: link.preshared_key.clone(),
                    ..Peer::default()
                });
                config
                    .allowed_ips
                    .extend(advertised(peer.node, links.network).map(|advertised| advertised.cidr));
            }
        }
    }
    debug_assert!(
        desired
            .wireguard
            .keys()
            .all(|name| desired.links[name].kind == LinkKind::WireGuard)
    );
}

/// The colours of all nodes that can have WireGuard links.
pub(super) struct Colours<'a> {
    of: BTreeMap<&'a NodeName, usize>,
    /// The number of colours; at least one.
    count: usize,
}

impl<'a> Colours<'a> {
    /// Gives each node, in order of name, the first colour that no node with a common prefix has.
    pub(super) fn of(resources: &'a Resources) -> Colours<'a> {
        let mut taken: BTreeMap<ipnet::IpNet, BTreeSet<usize>> = BTreeMap::new();
        let mut of = BTreeMap::new();
        let mut count = 1;
        for node in resources.nodes.values().filter(|node| node.wireguard.is_some()) {
            let networks = resources
                .networks
                .values()
                .filter(|network| node.networks.contains(&network.name));
            let prefixes: BTreeSet<_> = networks
                .flat_map(|network| advertised(node, network))
                .map(|advertised| advertised.cidr)
                .collect();
            let others: BTreeSet<usize> = prefixes
                .iter()
                .filter_map(|prefix| taken.get(prefix))
                .flatten()
                .copied()
                .collect();
            let colour = (0..)
                .find(|colour| !others.contains(colour))
                .expect("there are enough numbers");
            for prefix in prefixes {
                taken.entry(prefix).or_default().insert(colour);
            }
            of.insert(&node.name, colour);
            count = count.max(colour + 1);
        }
        Colours { of, count }
    }

    /// The number of the device that two nodes use.
    fn device(&self, a: &NodeName, b: &NodeName) -> usize {
        let colour = |node| self.of.get(node).copied().unwrap_or(0);
        (colour(a) + colour(b)) % self.count
    }
}
