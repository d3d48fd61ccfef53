//! Random networks and random damage, for property tests.

mod firewall;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_user::model::facts::{Nft, NodeFacts, OwnKey, SharedKey, UnderlayPath, WireGuardFacts};
use dataplane_user::model::{
    KernelState, Link, LinkKind, Owner, ProgramVersion, Route, RouteKind, RouteTarget, wireguard,
};
use dataplane_user::net::Encapsulation;
use dataplane_user::net::{Family, LinkName, NetworkName, NodeName, PeerEndpoint, PresharedKey, PublicKey};
use dataplane_user::resource::network::AllDown;
use dataplane_user::resource::node::{Endpoint, Host, Underlay};
use dataplane_user::resource::{
    CarriedPrefix, Dataplane, Network, NetworkRoutes, Node, Ports, Resources, SourceProtection, WireGuardPeer,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

pub use rules::rules;

/// Those of random and of golden facts.
pub(crate) const GATEWAYS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe)),
];

/// The node that random resources always have.
pub const THIS_NODE: &str = "n0";

/// Up to two networks and six nodes with random wishes, families, ports and carried prefixes.
pub fn resources() -> impl Strategy<Value = Resources> {
    let shape = (vec(network(), 1..=2), vec(node(), 1..=6), 6081u16..6083);
    shape.prop_map(|(networks, nodes, geneve)| {
        let networks = networks
            .into_iter()
            .enumerate()
            .map(|(i, draft)| build_network(i, geneve, draft));
        let networks = networks.map(|n| (n.name.clone(), n)).collect::<BTreeMap<_, _>>();
        let nodes = nodes
            .into_iter()
            .enumerate()
            .map(|(i, draft)| build_node(i, &draft, &networks));
        let nodes = nodes.map(|n| (n.name.clone(), n)).collect();
        Resources {
            networks,
            nodes,
            ..Resources::default()
        }
    })
}

/// Facts of a node, in which every file has a key, `vpn.example` has an address, and every underlay address is routed by
/// eth0: on-link those of 192.0.2.0/24 and 2001:db8::/64, by a gateway all others.
pub fn facts(resources: &Resources, node: &NodeName, mtu: u32) -> NodeFacts {
    let addresses = |node: &Node| Family::BOTH.map(|family| node.underlay.address(family));
    let all = resources.nodes.values().flat_map(addresses).flatten();
    let gateway = |address: IpAddr| match address {
        IpAddr::V4(v4) => (v4.octets()[..3] != [192, 0, 2]).then_some(GATEWAYS[0]),
        IpAddr::V6(v6) => (v6.segments()[..4] != [0x2001, 0xdb8, 0, 0]).then_some(GATEWAYS[1]),
    };
    let path = |address| UnderlayPath {
        link: LinkName::constant("eth0"),
        gateway: gateway(address),
        mtu,
    };
    let vpn = IpAddr::from([198, 51, 100, 7]);
    let ends = resources
        .nodes
        .values()
        .filter_map(|node| node.wireguard.as_ref());
    let endpoints = ends.clone().filter_map(|end| match end.endpoint.as_ref()?.host {
        Host::Address(address) => Some(address),
        Host::Scoped(..) => None,
        Host::Name(_) => Some(vpn),
    });
    let files = ends.filter_map(|end| end.preshared_key_file.clone());
    let key = |file: &String| PresharedKey::from_bytes(&[u8::try_from(file.len()).expect("short"); 32]);
    let own = resources.nodes.get(node).and_then(|node| node.wireguard.as_ref());
    NodeFacts {
        local_addresses: all.clone().collect(),
        paths: all
            .chain(endpoints)
            .map(|address| (address, path(address)))
            .collect(),
        withdrawn: BTreeSet::new(),
        nft: Nft::Usable,
        wireguard: WireGuardFacts {
            own_key: own.map_or(OwnKey::Missing, |own| OwnKey::Known(own.public_key)),
            preshared_keys: files
                .map(|file| (file.clone(), SharedKey::Known(key(&file))))
                .collect(),
            names: [("vpn.example".to_owned(), vec![vpn])].into(),
            ..WireGuardFacts::default()
        },
        ..NodeFacts::default()
    }
}

#[derive(Clone, Copy, Debug)]
struct NetworkDraft {
    wish: Option<Encapsulation>,
    vni: u32,
    ipv6_underlay: bool,
    df: bool,
    routes: Option<NetworkRoutes>,
    firewall: u8,
}

fn network() -> impl Strategy<Value = NetworkDraft> {
    let table = prop_oneof![Just(NetworkRoutes::MAIN), Just(1730), Just(7)];
    let routes = proptest::option::of((table, any::<bool>()));
    let shape = (wish(), 1u32..4, any::<bool>(), any::<bool>(), routes, 0u8..8);
    shape.prop_map(|(wish, vni, ipv6_underlay, df, routes, firewall)| NetworkDraft {
        wish,
        vni,
        ipv6_underlay,
        df,
        routes: routes.map(|(table, resilient)| NetworkRoutes { table, resilient }),
        firewall,
    })
}

fn wish() -> impl Strategy<Value = Option<Encapsulation>> {
    prop_oneof![
        3 => Just(None),
        3 => Just(Some(Encapsulation::Geneve)),
        3 => Just(Some(Encapsulation::Vxlan)),
        3 => Just(Some(Encapsulation::Ipip)),
        3 => Just(Some(Encapsulation::None)),
        2 => Just(Some(Encapsulation::WireGuard)),
    ]
}

fn build_network(index: usize, geneve: u16, draft: NetworkDraft) -> Network {
    let octet = 10 + u8::try_from(index).expect("few networks");
    let v4 = Ipv4Addr::new(octet, 0, 0, 0);
    let v6 = Ipv6Addr::new(0xfd00 + u16::from(octet), 0, 0, 0, 0, 0, 0, 0);
    Network {
        name: NetworkName::new(&format!("net{index}")).expect("valid"),
        prefixes: BTreeSet::from([
            ipnet::IpNet::new(v4.into(), 8).expect("valid"),
            ipnet::IpNet::new(v6.into(), 32).expect("valid"),
        ]),
        encapsulation: draft.wish,
        dataplane: if draft.routes.is_some() {
            Dataplane::Routes
        } else {
            Dataplane::Ebpf
        },
        routes: draft.routes.unwrap_or_default(),
        vni: draft.vni,
        ports: Ports {
            geneve,
            ..Ports::default()
        },
        underlay_family: if draft.ipv6_underlay {
            Family::Ipv6
        } else {
            Family::Ipv4
        },
        mtu: None,
        source_protection: SourceProtection::Off,
        health: None,
        all_down: AllDown::Unreachable,
        ttl: 64,
        dscp: None,
        df: draft.df,
        udp_checksum: None,
        masquerade: firewall::masquerade(draft.firewall),
        firewall: firewall::options(draft.firewall),
    }
}

#[derive(Clone, Debug)]
struct NodeDraft {
    in_second: bool,
    underlay: u8,
    wish: Option<Encapsulation>,
    wireguard: WireGuardDraft,
    /// Which of eight prefixes, in which network, with which weight and tier.
    carried: Vec<(u8, bool, bool, u8, u32)>,
    dataplane: Option<Dataplane>,
}

fn node() -> impl Strategy<Value = NodeDraft> {
    let carried = vec((0u8..8, any::<bool>(), any::<bool>(), 1u8..4, 0u32..2), 0..4);
    let dataplane = prop_oneof![
        4 => Just(None),
        1 => Just(Some(Dataplane::Ebpf)),
        1 => Just(Some(Dataplane::Routes)),
    ];
    let shape = (any::<bool>(), 1u8..4, wish(), wireguard(), carried, dataplane);
    shape.prop_map(
        |(in_second, underlay, wish, wireguard, carried, dataplane)| NodeDraft {
            in_second,
            underlay,
            wish,
            wireguard,
            carried,
            dataplane,
        },
    )
}

#[derive(Clone, Debug)]
struct WireGuardDraft {
    /// Some nodes have no key; some have another one after a while.
    key: Option<bool>,
    /// None, an address or a name.
    endpoint: u8,
    keepalive: bool,
    preshared: bool,
}

fn wireguard() -> impl Strategy<Value = WireGuardDraft> {
    let key = prop_oneof![5 => Just(Some(false)), 1 => Just(Some(true)), 1 => Just(None)];
    let shape = (key, 0u8..3, any::<bool>(), any::<bool>());
    shape.prop_map(|(key, endpoint, keepalive, preshared)| WireGuardDraft {
        key,
        endpoint,
        keepalive,
        preshared,
    })
}

fn build_wireguard(host: u8, draft: &WireGuardDraft) -> Option<WireGuardPeer> {
    let public_key = PublicKey::from_bytes([host + if draft.key? { 100 } else { 0 }; 32]);
    let place = match draft.endpoint {
        0 => None,
        1 => Some(Host::Address([198, 51, 100, host].into())),
        _ => Some(Host::Name("vpn.example".to_owned())),
    };
    Some(WireGuardPeer {
        next_public_key: None,
        public_key,
        endpoint: place.map(|host| Endpoint { host, port: 4500 }),
        keepalive_seconds: draft.keepalive.then_some(25),
        preshared_key_file: draft.preshared.then(|| format!("/{host}")),
    })
}

fn build_node(index: usize, draft: &NodeDraft, networks: &BTreeMap<NetworkName, Network>) -> Node {
    let host = u8::try_from(index).expect("few nodes") + 1;
    let octets = if draft.in_second && networks.len() > 1 {
        vec![10, 11]
    } else {
        vec![10]
    };
    let addresses = octets.iter().flat_map(|&octet| -> [IpAddr; 2] {
        let v6 = Ipv6Addr::new(0xfd00 + u16::from(octet), 0, 0, 0, 0, 0, 0, u16::from(host));
        [Ipv4Addr::new(octet, 255, 0, host).into(), v6.into()]
    });
    let carried = draft.carried.iter().map(|&(number, second, ipv6, weight, tier)| {
        let octet = if second {
            *octets.last().expect("one at least")
        } else {
            10
        };
        let cidr = if ipv6 {
            let address = Ipv6Addr::new(0xfd00 + u16::from(octet), 0, u16::from(number), 0, 0, 0, 0, 0);
            ipnet::IpNet::new(address.into(), 48)
        } else {
            ipnet::IpNet::new(Ipv4Addr::new(octet, number, 0, 0).into(), 16)
        };
        (cidr.expect("valid"), (weight, tier))
    });
    let carried = carried.collect::<BTreeMap<_, _>>();
    Node {
        name: NodeName::new(&format!("n{index}")).expect("valid"),
        networks: networks.keys().take(octets.len()).cloned().collect(),
        underlay: Underlay {
            ipv4: (draft.underlay & 1 != 0).then(|| Ipv4Addr::new(192, 0, 2, host)),
            ipv6: (draft.underlay & 2 != 0)
                .then(|| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(host))),
        },
        addresses: addresses.collect(),
        prefixes: carried
            .into_iter()
            .map(|(cidr, (weight, tier))| CarriedPrefix { cidr, weight, tier })
            .collect(),
        wireguard: build_wireguard(host, &draft.wireguard),
        encapsulation: draft.wish,
        dataplane: draft.dataplane,
        drain: false,
        return_path: BTreeSet::new(),
    }
}

/// Something that happens to a kernel's state behind the agent's back.
#[derive(Clone, Debug)]
pub enum Damage {
    /// A device is deleted, and all that is on it.
    DeleteLink(Index),
    /// A device goes down; the kernel drops the routes through it.
    LinkDown(Index),
    /// A device is replaced by a foreign one of the same name.
    ForeignLink(Index),
    /// A device is replaced by a foreign one of its kind under another name.
    ForeignTwin(Index),
    /// A device has another port, MTU or MAC.
    OtherLink(Index),
    /// A route is deleted.
    DeleteRoute(Index),
    /// A foreign route stands where ours should.
    ForeignRoute(Index),
    /// An address is deleted; the kernel drops the routes that need it.
    DeleteAddress(Index),
    /// A policy rule is deleted.
    DeleteRule(Index),
    /// A setting is changed.
    OtherSysctl(Index),
    /// A program is taken off, or is an old one.
    Program(Index, bool),
    /// A next-hop object is deleted, and the routes that lead to it alone.
    DeleteHop(Index),
    /// A group of next-hop objects is deleted, and the routes that lead to it.
    DeleteGroup(Index),
    /// A neighbour is deleted, or is a foreign one.
    Neighbour(Index, bool),
    /// A prefix is lost.
    DeletePrefix(Index),
    /// A known source is lost.
    DeleteSource(Index),
    /// A WireGuard device has another port, has lost a peer, or one has roamed.
    WireGuard(Index, u8),
    /// The nft table is lost, changed, or somebody else's.
    Firewall(u8),
    /// An unneeded object of ours lies about.
    StrayLink,
    /// The underlay's devices were made anew under their names: their classes send nowhere.
    UnderlayAnew,
}

/// Up to four kinds of damage.
pub fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let index = any::<Index>;
    let one = prop_oneof![
        index().prop_map(Damage::DeleteLink),
        index().prop_map(Damage::LinkDown),
        index().prop_map(Damage::ForeignLink),
        index().prop_map(Damage::ForeignTwin),
        index().prop_map(Damage::OtherLink),
        index().prop_map(Damage::DeleteRoute),
        index().prop_map(Damage::ForeignRoute),
        index().prop_map(Damage::DeleteAddress),
        index().prop_map(Damage::DeleteRule),
        index().prop_map(Damage::OtherSysctl),
        (index(), any::<bool>()).prop_map(|(i, stale)| Damage::Program(i, stale)),
        index().prop_map(Damage::DeleteHop),
        index().prop_map(Damage::DeleteGroup),
        (index(), any::<bool>()).prop_map(|(i, foreign)| Damage::Neighbour(i, foreign)),
        index().prop_map(Damage::DeletePrefix),
        index().prop_map(Damage::DeleteSource),
        (index(), 0u8..4).prop_map(|(i, how)| Damage::WireGuard(i, how)),
        (0u8..4).prop_map(Damage::Firewall),
        Just(Damage::StrayLink),
        Just(Damage::UnderlayAnew),
    ];
    vec(one, 0..4)
}

/// Lets something happen to a state.
pub fn damage(state: &mut KernelState, damage: &Damage) {
    match damage {
        Damage::DeleteLink(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                state.forget_link(&name);
            }
        }
        Damage::LinkDown(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                state.links.get_mut(&name).expect("picked").up = false;
                state.forget_ways(&name);
            }
        }
        Damage::ForeignLink(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                state.forget_link(&name);
                state.links.insert(name, foreign_link());
            }
        }
        Damage::ForeignTwin(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                let link = Link {
                    kind: state.links[&name].kind.clone(),
                    ..foreign_link()
                };
                state.forget_link(&name);
                state.links.insert(LinkName::constant("twin"), link);
            }
        }
        Damage::OtherLink(index) => {
            if let Some(name) = pick(state.links.keys(), index) {
                let link = state.links.get_mut(&name).expect("picked");
                link.mtu = link.mtu.map(|mtu| mtu + 1);
                link.kind = LinkKind::Geneve { port: 1 };
            }
        }
        Damage::DeleteRoute(index) => {
            if let Some(key) = pick(state.routes.keys(), index) {
                state.routes.remove(&key);
            }
        }
        Damage::ForeignRoute(index) => {
            if let Some(key) = pick(state.routes.keys(), index) {
                let kind = RouteKind::Other("blackhole".to_owned());
                state.routes.insert(
                    key,
                    Route {
                        owner: Owner::Foreign,
                        kind,
                    },
                );
            }
        }
        Damage::DeleteAddress(index) => {
            if let Some((link, address)) = pick(state.addresses.keys(), index) {
                state.forget_address(&link, address);
            }
        }
        Damage::DeleteRule(index) => {
            if let Some(rule) = pick(state.rules.iter(), index) {
                state.rules.remove(&rule);
            }
        }
        Damage::OtherSysctl(index) => {
            if let Some(key) = pick(state.sysctls.keys(), index) {
                state.sysctls.insert(key, "1".to_owned());
            }
        }
        Damage::Program(index, stale) => {
            if let Some(key) = pick(state.attachments.keys(), index) {
                if *stale {
                    state.attachments.get_mut(&key).expect("picked").version = ProgramVersion::Stale;
                } else {
                    state.attachments.remove(&key);
                }
            }
        }
        Damage::DeleteHop(index) => {
            if let Some(RouteTarget::Hop(hop)) = pick(state.route_targets.iter(), index) {
                state.forget_hops(|gone| *gone == *hop);
            }
        }
        Damage::DeleteGroup(index) => {
            let groups = state.route_targets.iter();
            let groups = groups.filter(|target| matches!(target, RouteTarget::Group(_)));
            if let Some(group) = pick(groups.collect::<Vec<_>>().into_iter(), index) {
                state.route_targets.remove(&group);
                state.routes.retain(|_, route| route.target() != Some(&group));
            }
        }
        Damage::Neighbour(index, foreign) => {
            if let Some(key) = pick(state.neighbours.keys(), index) {
                if *foreign {
                    state.neighbours.get_mut(&key).expect("picked").owner = Owner::Foreign;
                } else {
                    state.neighbours.remove(&key);
                }
            }
        }
        Damage::DeletePrefix(index) => {
            if let Some(prefix) = pick(state.prefixes.keys(), index) {
                state.prefixes.remove(&prefix);
            }
        }
        Damage::DeleteSource(index) => {
            if let Some(source) = pick(state.sources.iter(), index) {
                state.sources.remove(&source);
            }
        }
        Damage::WireGuard(index, how) => {
            if let Some(name) = pick(state.wireguard.keys(), index) {
                harm_wireguard(state.wireguard.get_mut(&name).expect("picked"), index, *how);
            }
        }
        Damage::Firewall(how) => firewall::harm(&mut state.firewall, *how),
        Damage::StrayLink => {
            let link = Link {
                owner: Owner::Ours,
                ..foreign_link()
            };
            state.links.insert(LinkName::constant("adit-stray"), link);
        }
        Damage::UnderlayAnew => {
            for name in crate::situation::underlay().links.keys() {
                state.forget_link(name);
            }
        }
    }
}

fn harm_wireguard(device: &mut wireguard::Device, index: &Index, how: u8) {
    let peer = pick(device.peers.keys(), index);
    match (how, peer) {
        (1, Some(peer)) => drop(device.peers.remove(&peer)),
        (2, Some(peer)) => {
            let peer = device.peers.get_mut(&peer).expect("picked");
            peer.endpoint = Some(PeerEndpoint::new([203, 0, 113, 1].into(), 1));
            peer.keepalive = 1;
            peer.allowed_ips.pop_first();
        }
        (3, _) => device.public_key = None,
        _ => device.listen_port = 1,
    }
}

pub(crate) fn foreign_link() -> Link {
    Link {
        owner: Owner::Foreign,
        kind: LinkKind::Other("bridge".to_owned()),
        mac: None,
        mtu: Some(1500),
        arp: true,
        generates_addresses: true,
        up: true,
    }
}

fn pick<'a, T: Clone + 'a>(items: impl ExactSizeIterator<Item = &'a T>, index: &Index) -> Option<T> {
    let items = items.collect::<Vec<_>>();
    if items.is_empty() {
        None
    } else {
        Some((*index.get(&items)).clone())
    }
}
