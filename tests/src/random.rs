//! Random networks and random damage, for property tests.

mod damage;
mod firewall;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane_user::model::facts::{Nft, NodeFacts, OwnKey, SharedKey, UnderlayPath, WireGuardFacts};
use dataplane_user::model::{Link, LinkKind, Owner};
use dataplane_user::net::Encapsulation;
use dataplane_user::net::{Family, LinkName, NetworkName, NodeName, PresharedKey, PublicKey};
use dataplane_user::resource::network::AllDown;
use dataplane_user::resource::node::{Endpoint, Host, Underlay};
use dataplane_user::resource::{
    AdvertisedPrefix, Dataplane, Network, NetworkRoutes, Node, Ports, Resources, SourceProtection,
    WireGuardPeer,
};
use proptest::collection::vec;
use proptest::prelude::*;

pub use damage::{Damage, damage, damages};
pub use rules::rules;

/// The gateways in random and in golden facts.
pub(crate) const GATEWAYS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 254)),
    IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0xfe)),
];

/// The node that random resources always have.
pub const THIS_NODE: &str = "n0";

/// Up to two networks and six nodes with random encapsulations, families, ports and advertised prefixes.
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

/// Facts of a node: every key file has a key, `vpn.example` has an address, and every underlay address is routed by eth0:
/// those of 192.0.2.0/24 and 2001:db8::/64 on-link, all others by a gateway.
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
    /// One of eight prefixes, its network, weight and tier.
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
    /// Some nodes have no key, and some change it later.
    key: Option<bool>,
    /// No endpoint, an address or a name.
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
            .map(|(cidr, (weight, tier))| AdvertisedPrefix { cidr, weight, tier })
            .collect(),
        wireguard: build_wireguard(host, &draft.wireguard),
        encapsulation: draft.wish,
        dataplane: draft.dataplane,
        drain: false,
        return_path: BTreeSet::new(),
    }
}

/// An unmanaged device.
#[must_use]
pub fn foreign_link() -> Link {
    Link {
        owner: Owner::Other,
        kind: LinkKind::Other("bridge".to_owned()),
        mac: None,
        mtu: Some(1500),
        arp: true,
        generates_addresses: true,
        up: true,
    }
}
