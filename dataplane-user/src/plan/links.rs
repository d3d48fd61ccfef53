//! How each peer is reached: the encapsulation, the underlay addresses and the path of each pair.

use std::net::IpAddr;

use ipnet::IpNet;

use super::devices::tunnel_device;
use super::mtu::IPV6_MINIMUM;
use super::wireguard::{Colours, WireGuardLink};
use super::{advertised, wireguard};
use crate::model::devices::is_overlay_device;
use crate::model::facts::{Lookup, NodeFacts, UnderlayPath};
use crate::model::{ANCHOR_METRIC, BACKSTOP_METRIC, MAIN_TABLE, RouteKey, TunnelKind};
use crate::net::Encapsulation;
use crate::net::encapsulation::{agree, is_public};
use crate::net::{Family, LinkName, MacAddr};
use crate::resource::{Dataplane, Intent, Network, Node, Problem, Reason, Refused};

/// This node's links in one network.
#[derive(Clone, Debug)]
pub struct NetworkLink<'a> {
    /// The network.
    pub network: &'a Network,
    /// The dataplane that sends the packets of this node in the network.
    pub dataplane: Dataplane,
    /// The peers that can be reached, in order of their names.
    pub peers: Vec<PeerLink<'a>>,
}

/// The link from this node to a peer in one network.
#[derive(Clone, Debug)]
pub struct PeerLink<'a> {
    /// The peer.
    pub node: &'a Node,
    /// The encapsulation on which both ends agree.
    pub encapsulation: Encapsulation,
    /// The peer's underlay address.
    pub remote: IpAddr,
    /// The underlay address of this node, of the same family.
    pub local: IpAddr,
    /// The WireGuard part of the link; `None` for other encapsulations.
    pub wireguard: Option<WireGuardLink>,
    /// The MTU of the underlay path in bytes; `None`: there is no route now.
    pub underlay_mtu: Option<u32>,
    /// Whether an operator withdrew the peer: no packets are sent to it.
    pub withdrawn: bool,
    /// The underlay neighbour for packets without encapsulation; `None` with encapsulation, and while there
    /// is no route.
    pub neighbour: Option<Neighbour>,
    /// How the outer packets to the peer would enter the overlay again; no packets are sent to such a peer.
    pub looped: Option<Loop>,
}

/// A path that leads from the overlay back into the overlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loop {
    /// The overlay route to this prefix contains the destination, and no more specific route does.
    Inside(IpNet),
    /// The route to the destination leads through this overlay device.
    Through(LinkName),
}

/// A neighbour on the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The device, which Adit does not manage.
    pub link: LinkName,
    /// The gateway of the route to the peer, of either family, or the peer's underlay address itself.
    pub address: IpAddr,
}

/// This node's links in all of its networks.
#[must_use]
pub fn network_links<'a>(intent: &'a Intent, facts: &NodeFacts) -> Vec<NetworkLink<'a>> {
    with_problems(intent, facts, &mut Vec::new())
}

/// The same, and a problem for each pair that has no link.
pub(super) fn with_problems<'a>(
    intent: &'a Intent,
    facts: &NodeFacts,
    problems: &mut Vec<Problem>,
) -> Vec<NetworkLink<'a>> {
    let colours = Colours::of(intent.resources());
    let mut networks: Vec<_> = intent
        .networks()
        .map(|network| {
            let peers = intent
                .peers(network)
                .filter_map(|peer| match peer_link(intent, network, peer, facts, &colours) {
                    Ok(link) => Some(link),
                    Err(refusal) => {
                        problems.extend(refusal.problems(intent, network, peer));
                        None
                    }
                })
                .collect();
            NetworkLink {
                network,
                dataplane: intent.dataplane(network),
                peers,
            }
        })
        .collect();
    wireguard::unite(&mut networks, facts);
    find_loops(intent, facts, &mut networks);
    for network in &networks {
        for link in &network.peers {
            let path = facts.paths.get(&link.destination());
            problems.extend(path_problem(network.network, link, path));
            problems.extend(link.refused(intent, network.network));
            let rotation = link.wireguard.as_ref();
            problems.extend(rotation.and_then(|rotation| wireguard::rotation::problem(rotation, link.node)));
        }
    }
    problems.extend(wireguard::own_problem(intent, facts, problems));
    problems.extend(wireguard::rotation::own_problem(intent.node(), facts));
    problems.extend(wireguard::key_problems(intent, facts, &networks));
    networks
}

/// With every encapsulation, an outer packet that is routed into the overlay loops forever or is lost. Either
/// the route that the kernel finds now leads into the overlay, or the overlay route is more specific than it
/// and will win once it exists. An address inside the overlay with a more specific underlay route is fine.
fn find_loops(intent: &Intent, facts: &NodeFacts, networks: &mut [NetworkLink<'_>]) {
    for peer in networks.iter_mut().flat_map(|network| &mut network.peers) {
        let destination = peer.destination();
        let path = facts.paths.get(&destination);
        if let Some(path) = path.filter(|path| is_overlay_device(&path.link)) {
            peer.looped = Some(Loop::Through(path.link.clone()));
            continue;
        }
        let found = facts.routes.get(&Lookup::unmarked(destination));
        let around = overlay_routes(intent, destination);
        // An unknown route is assumed to lose.
        let mut around = around.filter(|key| path.is_none() || found.is_none_or(|found| !found.beats(key)));
        peer.looped = around.next().map(|key| Loop::Inside(key.prefix));
    }
}

/// The keys of the overlay routes that contain an address: those of the prefixes of networks and, with
/// dataplane `routes`, those of the prefixes of peers.
pub(super) fn overlay_routes(intent: &Intent, address: IpAddr) -> impl Iterator<Item = RouteKey> {
    let networks = intent.networks().flat_map(move |network| {
        let (dataplane, table) = (intent.dataplane(network), network.routes.table);
        let metric = match dataplane {
            Dataplane::Ebpf => ANCHOR_METRIC,
            Dataplane::Routes => BACKSTOP_METRIC,
        };
        let own = network.prefixes.iter();
        let own = own.map(move |prefix| RouteKey::new(MAIN_TABLE, *prefix, metric));
        let peers = intent
            .peers(network)
            .filter(move |_| dataplane == Dataplane::Routes);
        let advertised = peers.flat_map(move |peer| advertised::advertised(peer, network));
        own.chain(advertised.map(move |advertised| RouteKey::new(table, advertised.cidr, ANCHOR_METRIC)))
    });
    networks.filter(move |key| key.prefix.contains(&address))
}

/// Why a pair has no link.
pub(super) struct Refusal {
    pub(super) reason: Reason,
    pub(super) message: String,
    pub(super) remedy: String,
}

impl Refusal {
    /// One problem for each family that both nodes use in the network.
    fn problems(self, intent: &Intent, network: &Network, peer: &Node) -> Vec<Problem> {
        self.problems_of(&Family::BOTH, intent, network, peer)
    }

    /// The same, limited to some families.
    fn problems_of(
        self,
        families: &[Family],
        intent: &Intent,
        network: &Network,
        peer: &Node,
    ) -> Vec<Problem> {
        let node = intent.node();
        families
            .iter()
            .copied()
            .filter(|&family| uses(node, network, family) && uses(peer, network, family))
            .map(|family| Problem {
                refused: Some(Refused {
                    from: node.name.clone(),
                    to: peer.name.clone(),
                    family,
                }),
                ..Problem::warning(
                    self.reason,
                    format!("TunnelNode/{} to TunnelNode/{}, {family}", node.name, peer.name),
                    self.message.clone(),
                    self.remedy.clone(),
                )
            })
            .collect()
    }
}

impl PeerLink<'_> {
    /// The kind of tunnel.
    #[must_use]
    pub fn tunnel(&self) -> TunnelKind {
        TunnelKind::of(self.encapsulation, Family::of(self.remote))
    }

    /// The destination of its outer packets: the WireGuard endpoint, else the underlay address of the peer.
    #[must_use]
    pub fn destination(&self) -> IpAddr {
        let endpoint = self.wireguard.as_ref().and_then(|link| link.endpoint);
        endpoint.map_or(self.remote, |endpoint| endpoint.ip())
    }

    /// The device through which its packets leave; `None`: there is none.
    pub(super) fn device(&self) -> Option<LinkName> {
        match &self.neighbour {
            _ if self.looped.is_some() => None,
            Some(neighbour) => Some(neighbour.link.clone()),
            None => tunnel_device(self),
        }
    }

    /// Whether it can transport inner packets of this family. The kernel's flow-based ipip device supports
    /// only IPv4 in IPv4, and the kernel sends IPv6 only to IPv6 neighbours.
    #[must_use]
    pub fn supports(&self, inner: Family) -> bool {
        let to_ipv4 = |neighbour: &Neighbour| neighbour.address.is_ipv4();
        let only_ipv4 = self.tunnel() == TunnelKind::Ipip || self.neighbour.as_ref().is_some_and(to_ipv4);
        !(only_ipv4 && inner == Family::Ipv6)
    }

    /// Sets the MTU of the underlay path to the current destination.
    pub(super) fn find_path(&mut self, facts: &NodeFacts) {
        self.underlay_mtu = facts.paths.get(&self.destination()).map(|path| path.mtu);
    }

    /// Problems for the families that it can't transport.
    fn refused(&self, intent: &Intent, network: &Network) -> Vec<Problem> {
        let families = Family::BOTH.into_iter().filter(|&family| !self.supports(family));
        let refusal = Refusal {
            reason: Reason::Unsupported,
            message: match &self.neighbour {
                Some(neighbour) => format!(
                    "without encapsulation, the kernel can't send IPv6 to the IPv4 neighbour {}",
                    neighbour.address
                ),
                None => format!(
                    "the kernel can't send IPv6 through {} over an IPv4 underlay",
                    self.encapsulation
                ),
            },
            remedy: "set spec.encapsulation of the network or of either node to geneve or vxlan, or give both nodes \
                     spec.underlay.ipv6 and the network spec.underlayFamily ipv6"
                .to_owned(),
        };
        refusal.problems_of(&families.collect::<Vec<_>>(), intent, network, self.node)
    }
}

/// Whether a node has an overlay address of a family in a network.
pub(super) fn uses(node: &Node, network: &Network, family: Family) -> bool {
    overlay_address(node, network, family).is_some()
}

/// The first overlay address of a node in a network and family: the preferred source.
pub(super) fn overlay_address(node: &Node, network: &Network, family: Family) -> Option<IpAddr> {
    node.addresses.iter().copied().find(|&address| {
        Family::of(address) == family && network.prefixes.iter().any(|p| p.contains(&address))
    })
}

fn peer_link<'a>(
    intent: &Intent,
    network: &Network,
    peer: &'a Node,
    facts: &NodeFacts,
    colours: &Colours<'_>,
) -> Result<PeerLink<'a>, Refusal> {
    let node = intent.node();
    let (local, remote) = underlay_pair(node, network, peer)?;
    let public = is_public(local) || is_public(remote);
    let encapsulation = agree(
        [node.encapsulation, peer.encapsulation],
        network.encapsulation,
        public,
    );
    let mac = MacAddr::of_node(&node.name);
    if mac == MacAddr::of_node(&peer.name) {
        return Err(Refusal {
            reason: Reason::MacCollision,
            message: format!(
                "both names hash to the inner MAC address {mac}, and a kernel drops packets that come from its own address"
            ),
            remedy: "rename one of the two nodes".to_owned(),
        });
    }
    let wireguard = match encapsulation {
        Encapsulation::WireGuard => {
            let pair = wireguard::Pair {
                node,
                peer,
                network,
                remote,
            };
            Some(wireguard::link(&pair, facts, colours)?)
        }
        _ => None,
    };
    let path = facts.paths.get(&remote);
    let neighbour = path
        .filter(|path| encapsulation == Encapsulation::None && !stays_here(path))
        .map(|path| Neighbour {
            link: path.link.clone(),
            address: path.gateway.unwrap_or(remote),
        });
    let mut link = PeerLink {
        node: peer,
        encapsulation,
        remote,
        local,
        wireguard,
        underlay_mtu: None,
        withdrawn: facts.is_withdrawn(peer.name.as_str()),
        neighbour,
        looped: None,
    };
    link.find_path(facts);
    Ok(link)
}

/// Whether a path does not lead to the underlay, but back into the overlay or to this machine itself.
fn stays_here(path: &UnderlayPath) -> bool {
    is_overlay_device(&path.link) || path.link.as_str() == "lo"
}

/// The underlay addresses of both ends: of the family of the network if both have it, else of the other
/// family.
fn underlay_pair(node: &Node, network: &Network, peer: &Node) -> Result<(IpAddr, IpAddr), Refusal> {
    [network.underlay_family, network.underlay_family.other()]
        .into_iter()
        .find_map(|family| Some((node.underlay.address(family)?, peer.underlay.address(family)?)))
        .ok_or_else(|| Refusal {
            reason: Reason::NoCommonFamily,
            message: "the two nodes have no underlay address family in common".to_owned(),
            remedy: format!(
                "set spec.underlay.ipv4, or spec.underlay.ipv6, of both this node and {}",
                peer.name
            ),
        })
}

/// A problem of the path to a peer: there is none, it loops, or packets don't fit.
fn path_problem(network: &Network, link: &PeerLink<'_>, path: Option<&UnderlayPath>) -> Option<Problem> {
    let subject = format!("TunnelNode/{}", link.node.name);
    if let Some(unresolved) = link.wireguard.as_ref().and_then(WireGuardLink::unresolved) {
        return Some(Problem::warning(
            Reason::NameUnresolved,
            subject,
            format!("the name of its WireGuard endpoint, {unresolved}, does not resolve to an address"),
            "correct spec.wireguard.endpoint, or make sure that this node can resolve the name; until then the peer can \
             still connect to this node"
                .to_owned(),
        ));
    }
    let (what, field) = match &link.wireguard {
        None => ("underlay address", "spec.underlay"),
        Some(_) => ("WireGuard endpoint", "spec.wireguard.endpoint"),
    };
    if let Some(looped) = &link.looped {
        let message = match looped {
            Loop::Inside(prefix) => format!(
                "its {what} {} is inside the overlay prefix {prefix}, and no more specific route leads to it: packets to \
                 it would loop forever",
                link.destination()
            ),
            Loop::Through(device) => format!(
                "the route to its {what} {} leads through {device}, not to the underlay",
                link.destination()
            ),
        };
        return Some(Problem::warning(
            Reason::UnderlayLoop,
            subject,
            format!("{message}; nothing is sent to this peer"),
            format!("add a route to exactly this address through the underlay device, or correct {field}"),
        ));
    }
    let Some(path) = path else {
        return Some(Problem::warning(
            Reason::NoUnderlayRoute,
            subject,
            format!("no route leads to its {what} {}", link.destination()),
            format!("add an underlay route, or correct {field}"),
        ));
    };
    if link.encapsulation == Encapsulation::None && stays_here(path) {
        return Some(Problem::warning(
            Reason::NoUnderlayRoute,
            subject,
            format!(
                "the route to its underlay address {} leads through {}, not to the underlay",
                link.remote, path.link
            ),
            "add a route to this address through the underlay device, or correct spec.underlay".to_owned(),
        ));
    }
    mtu_problem(network, link, subject)
}

/// A problem of a link whose packets must be smaller than those of the network.
fn mtu_problem(network: &Network, link: &PeerLink<'_>, subject: String) -> Option<Problem> {
    let fits = link.mtu();
    let wanted = network.mtu.unwrap_or(IPV6_MINIMUM);
    if fits >= wanted {
        return None;
    }
    let loss = match (Family::of(link.destination()), link.encapsulation) {
        (_, Encapsulation::None) | (Family::Ipv6, _) => "larger packets are lost",
        (Family::Ipv4, _) => "larger packets are fragmented in the underlay",
    };
    let remedy = match network.mtu {
        Some(_) => format!(
            "set spec.mtu of TunnelNetwork/{} to {fits} or less, or to 0 (detect it)",
            network.name
        ),
        None => format!(
            "raise the MTU of the underlay to {} or more",
            wanted + link.overhead()
        ),
    };
    Some(Problem::warning(
        Reason::MtuTooSmall,
        subject,
        format!(
            "the path to it fits overlay packets of {fits} bytes, but the MTU of the network is {wanted}; {loss}"
        ),
        remedy,
    ))
}
