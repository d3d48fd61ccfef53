//! Cases beyond the golden files: facts of the machine that lead to problems or other MTUs.

mod bare;
mod cleartext;
mod families;
mod firewall;
mod keys;
mod loops;
mod namespaces;
mod nexthops;
mod programs;
mod return_path;
mod shadows;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::plan;
use crate::model::devices::ANCHOR;
use crate::model::facts::{Nft, NodeFacts, UnderlayPath};
use crate::model::{ANCHOR_METRIC, KernelState, RouteKind};
use crate::net::KeySource;
use crate::net::{Family, LinkName, NetworkName, NodeName, PrivateKey};
use crate::resource::netlink::{InterfaceEnd, Namespaced};
use crate::resource::network::AllDown;
use crate::resource::node::{AdvertisedPrefix, Endpoint, Host, Underlay};
use crate::resource::wireguard::{AllowedIpRoutes, Peer};
use crate::resource::{
    Dataplane, FirewallOptions, Intent, Network, NetworkRoutes, Node, Ports, Problem, Reason, Resources,
    Severity, SourceProtection, WireGuardInterface,
};

#[test]
fn the_mtu_is_the_narrowest_path_minus_the_exact_overhead() {
    let resources = resources(|_| {}, &["a", "b", "c"]);
    let (desired, problems) = planned(resources, &[(2, 9000), (3, 1420)]);
    assert_eq!(anchor_mtus(&desired), BTreeSet::from([1370]));
    assert_eq!(problems, []);
}

#[test]
fn a_path_too_narrow_for_ipv6_is_a_warning() {
    let (desired, problems) = planned(resources(|_| {}, &["a", "b"]), &[(2, 1300)]);
    assert_eq!(anchor_mtus(&desired), BTreeSet::from([1280]));
    assert_eq!(reasons(&problems), [Reason::MtuTooSmall]);
    assert!(problems[0].remedy.contains("1330"), "{}", problems[0]);
}

#[test]
fn an_mtu_that_does_not_fit_is_a_warning() {
    let (desired, problems) = planned(
        resources(|network| network.mtu = Some(1500), &["a", "b"]),
        &[(2, 1500)],
    );
    assert_eq!(anchor_mtus(&desired), BTreeSet::from([1500]));
    assert_eq!(reasons(&problems), [Reason::MtuTooSmall]);
    assert!(problems[0].remedy.contains("1450"), "{}", problems[0]);
}

#[test]
fn a_peer_without_route_is_a_warning_and_others_go_on() {
    let (desired, problems) = planned(resources(|_| {}, &["a", "b", "c"]), &[(3, 1500)]);
    assert_eq!(reasons(&problems), [Reason::NoUnderlayRoute]);
    assert_eq!(problems[0].severity, Severity::Warning);
    assert_eq!(desired.next_hops.len(), 2);
}

#[test]
fn an_underlay_address_that_is_not_here_is_a_warning() {
    let resources = resources(|_| {}, &["a", "b"]);
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    let facts = NodeFacts {
        local_addresses: BTreeSet::new(),
        ..facts(&[(2, 1500)])
    };
    assert_eq!(reasons(&plan(&intent, &facts).1), [Reason::ForeignUnderlay]);
}

fn planned(resources: Resources, paths: &[(u8, u32)]) -> (KernelState, Vec<Problem>) {
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    plan(&intent, &facts(paths))
}

fn facts(paths: &[(u8, u32)]) -> NodeFacts {
    let path = |mtu| UnderlayPath {
        link: LinkName::constant("eth0"),
        gateway: None,
        mtu,
    };
    NodeFacts {
        local_addresses: BTreeSet::from([underlay(1)]),
        paths: paths
            .iter()
            .map(|&(host, mtu)| (underlay(host), path(mtu)))
            .collect(),
        nft: Nft::Usable,
        ..NodeFacts::default()
    }
}

fn underlay(host: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, host])
}

fn reasons(problems: &[Problem]) -> Vec<Reason> {
    problems.iter().map(|problem| problem.reason).collect()
}

fn anchor_mtus(desired: &KernelState) -> BTreeSet<u32> {
    let anchors = desired
        .routes
        .iter()
        .filter(|(key, _)| key.metric == ANCHOR_METRIC);
    let mtus = anchors.filter_map(|(_, route)| match route.kind {
        RouteKind::Gateway { mtu, .. } => mtu,
        _ => None,
    });
    mtus.collect()
}

/// One network and nodes at 192.0.2.1, .2, … in order.
fn resources(change: impl Fn(&mut Network), nodes: &[&str]) -> Resources {
    let name = NetworkName::new("net").unwrap();
    let mut network = Network {
        name: name.clone(),
        prefixes: BTreeSet::from(["10.0.0.0/8".parse().unwrap(), "fd00::/16".parse().unwrap()]),
        encapsulation: None,
        dataplane: Dataplane::Ebpf,
        routes: NetworkRoutes::default(),
        vni: 1,
        ports: Ports::default(),
        underlay_family: Family::Ipv4,
        mtu: None,
        source_protection: SourceProtection::Off,
        health: None,
        all_down: AllDown::Unreachable,
        ttl: 64,
        dscp: None,
        df: false,
        udp_checksum: None,
        masquerade: None,
        firewall: FirewallOptions::default(),
    };
    change(&mut network);
    let node = |(index, node): (usize, &&str)| {
        let host = u8::try_from(index).unwrap() + 1;
        Node {
            name: NodeName::new(node).unwrap(),
            networks: BTreeSet::from([name.clone()]),
            underlay: Underlay {
                ipv4: Some([192, 0, 2, host].into()),
                ipv6: None,
            },
            addresses: vec![
                [10, host, 0, 1].into(),
                format!("fd00:{host}::1").parse().unwrap(),
            ],
            prefixes: Vec::new(),
            wireguard: None,
            encapsulation: None,
            dataplane: None,
            drain: false,
            return_path: BTreeSet::new(),
        }
    };
    let nodes = nodes
        .iter()
        .enumerate()
        .map(node)
        .map(|node| (node.name.clone(), node))
        .collect();
    Resources {
        networks: [(name.clone(), network)].into(),
        nodes,
        ..Resources::default()
    }
}

/// The endpoint of [`interface`]'s peer.
const ENDPOINT: [u8; 4] = [198, 51, 100, 7];

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_random(&[number; 32])
}

/// The WireGuard device wg0 of node a with one peer and its allowed IPs.
fn interface(allowed: &[&str]) -> Namespaced<WireGuardInterface> {
    let peer = Peer {
        name: Some("gate".to_owned()),
        endpoint: Some(Endpoint {
            host: Host::Address(ENDPOINT.into()),
            port: 51820,
        }),
        allowed_ips: allowed.iter().map(|text| text.parse().unwrap()).collect(),
        ..Peer::new(key(2).public_key())
    };
    let end = InterfaceEnd {
        name: LinkName::constant("wg0"),
        alias: None,
        addresses: BTreeMap::new(),
        mtu: None,
        mac: None,
        up: true,
        arp: false,
        keep_link_local: true,
    };
    Namespaced {
        nodes: [NodeName::new("a").unwrap()].into(),
        namespace: None,
        object: WireGuardInterface {
            end,
            key: Some(KeySource::Node),
            listen_port: 0,
            fwmark: 0,
            routes: AllowedIpRoutes::Auto,
            rules_at: BTreeMap::new(),
            peers: vec![peer],
        },
    }
}

#[test]
fn a_field_without_effect_is_one_warning_of_its_own_object_alone() {
    let mut resources = resources(
        |network| network.source_protection = SourceProtection::Enforce,
        &["a", "b"],
    );
    let intent = |resources: &Resources| {
        Intent::new(resources.clone(), NodeName::new("a").unwrap()).map_err(|problem| problem.to_string())
    };
    assert_eq!(intent(&resources).unwrap().unprotected_by_default().count(), 1);
    let written = [
        ("TunnelNetwork/net", "sourceProtection"),
        ("TunnelNetwork/other", "allDown"),
        ("TunnelNode/a", "drain"),
        ("TunnelNode/b", "drain"),
    ];
    resources.without_effect = written
        .into_iter()
        .map(|(object, field)| (object.to_owned(), field))
        .collect();
    assert_eq!(intent(&resources).unwrap().unprotected_by_default().count(), 0);
    let (_, problems) = planned(resources, &[(2, 1500)]);
    let warned = problems
        .iter()
        .map(|problem| (problem.subject.as_str(), problem.reason));
    let expected = [
        ("TunnelNetwork/net", Reason::Unsupported),
        ("TunnelNode/a", Reason::Unsupported),
    ];
    assert_eq!(warned.collect::<Vec<_>>(), expected);
    assert!(problems[0].message.contains("sourceProtection"), "{problems:?}");
}

#[test]
fn fault_09_more_than_64_next_hops_are_reported() {
    let shared: IpNet = "10.200.0.0/16".parse().unwrap();
    let names = (1..=66).map(|number| format!("n{number:02}")).collect::<Vec<_>>();
    let with = |advertisers: usize| {
        let names = names.iter().map(String::as_str).collect::<Vec<_>>();
        let mut resources = resources(|_| {}, &names);
        for node in resources.nodes.values_mut().skip(1).take(advertisers) {
            node.prefixes.push(AdvertisedPrefix {
                cidr: shared,
                weight: 1,
                tier: 0,
            });
        }
        let paths = (2..=66).map(|host| (host, 1500)).collect::<Vec<_>>();
        let intent = Intent::new(resources, NodeName::new("n01").unwrap()).unwrap();
        plan(&intent, &facts(&paths))
    };
    for (advertisers, told) in [(64, &[][..]), (65, &[Reason::Capacity][..])] {
        let (desired, problems) = with(advertisers);
        assert_eq!(reasons(&problems), told, "{advertisers} advertise it");
        assert_eq!(
            desired.prefixes[&shared].next_hops().count(),
            64,
            "{advertisers} advertise it"
        );
    }
}
