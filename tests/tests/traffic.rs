//! Traffic between nodes: both inner families over both outer families, by GENEVE, VXLAN, IPIP, WireGuard and without
//! encapsulation, from hosts and from pods. Nothing crosses the underlay in clear if there is an encapsulation.

use std::collections::BTreeSet;
use std::net::IpAddr;

use adit_tests::agent::start_all;
use adit_tests::capture::{Capture, Packet};
use adit_tests::pair::pair;
use adit_tests::topology::{SHARED_V4, SHARED_V6};
use adit_tests::{Overlay, Topology, flows, require, traffic};
use dataplane_user::net::Family;
use dataplane_user::resource::Dataplane;

#[test]
fn geneve_over_ipv4() {
    pair("geneve", Family::Ipv4, [Dataplane::Ebpf; 2]);
}

#[test]
fn geneve_over_ipv6() {
    pair("geneve", Family::Ipv6, [Dataplane::Ebpf; 2]);
}

#[test]
fn vxlan_over_ipv4() {
    pair("vxlan", Family::Ipv4, [Dataplane::Ebpf; 2]);
}

#[test]
fn vxlan_over_ipv6() {
    pair("vxlan", Family::Ipv6, [Dataplane::Ebpf; 2]);
}

#[test]
fn ipip_over_ipv4() {
    pair("ipip", Family::Ipv4, [Dataplane::Ebpf; 2]);
}

#[test]
fn ipip_over_ipv6() {
    pair("ipip", Family::Ipv6, [Dataplane::Ebpf; 2]);
}

#[test]
fn wireguard_over_ipv4() {
    pair("wireguard", Family::Ipv4, [Dataplane::Ebpf; 2]);
}

#[test]
fn wireguard_over_ipv6() {
    pair("wireguard", Family::Ipv6, [Dataplane::Ebpf; 2]);
}

#[test]
fn none_over_ipv4() {
    pair("none", Family::Ipv4, [Dataplane::Ebpf; 2]);
}

#[test]
fn none_over_ipv6() {
    pair("none", Family::Ipv6, [Dataplane::Ebpf; 2]);
}

/// Three nodes: slots beyond the first, links of two encapsulations, and a prefix that two nodes carry.
#[test]
fn three_nodes_reach_each_other_and_a_shared_prefix() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        shared: vec!["b", "c"],
        requested: vec![("c", "vxlan")],
        ..Overlay::new(&topology, "auto")
    };
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b, c] = &topology.hosts;
    b.take_shared_address();
    c.take_shared_address();
    let capture = Capture::new(&topology.router);
    for family in Family::BOTH {
        for (from, to) in [(a, b), (a, c), (b, c)] {
            traffic::ping(from.end(), to.end(), family).unwrap();
            traffic::udp(to.pod_end(), from.pod_end(), family, 100).unwrap();
        }
    }
    let ports = capture
        .packets()
        .iter()
        .filter_map(Packet::port)
        .collect::<BTreeSet<_>>();
    assert_eq!(ports, BTreeSet::from([6081, 4789]));

    for shared in [IpAddr::V4(SHARED_V4), IpAddr::V6(SHARED_V6)] {
        flows::reach_both(&agents[0], [b, c], shared);
        let found = agents[0].json(&["map", "lookup", &shared.to_string()]);
        assert_eq!(found["target"], "group");
        assert_eq!(found["next_hops"].as_array().unwrap().len(), 2, "{found}");
    }
    let stats = agents[0].json(&["map", "stats"]);
    let next_hops = stats["next_hops"].as_array().unwrap();
    assert!(
        next_hops
            .iter()
            .all(|next_hop| next_hop["packets"].as_u64() > Some(0)),
        "{stats}"
    );
    assert!(
        next_hops
            .iter()
            .any(|next_hop| next_hop["slot"].as_u64() > Some(1)),
        "{stats}"
    );
}

/// Clouds count flows by the outer ports, and their tables are small.
#[test]
fn vxlan_source_ports_are_in_the_range_of_the_network() {
    require!(modules: "dummy", "vxlan");
    let topology = Topology::<2>::new();
    let with = |network| Overlay {
        network: vec![network],
        ..Overlay::new(&topology, "vxlan")
    };
    let ranges = [
        (with("ports: {vxlanSource: 50000-50004}"), 50000..50004),
        (with("ports: {vxlanSource: 51000-51004}"), 51000..51004),
    ];
    let agents = start_all(&topology, &ranges[0].0.manifests(&topology));
    let [a, b] = &topology.hosts;
    for (overlay, range) in ranges {
        for agent in &agents {
            let status = agent.apply(&overlay.manifests(&topology));
            assert!(status.ready, "{status:#?}");
            let shown = agent.host().netns.ip("-d link show adit-vxlan");
            let words = format!("srcport {} {}", range.start, range.end);
            assert!(shown.contains(&words), "{words}: {shown}");
        }
        let capture = Capture::new(&topology.router);
        for _ in 0..10 {
            traffic::udp(a.end(), b.end(), Family::Ipv4, 100).unwrap();
            traffic::udp(b.pod_end(), a.pod_end(), Family::Ipv6, 100).unwrap();
        }
        let packets = capture.packets();
        let outer = packets.iter().filter(|packet| packet.port() == Some(4789));
        let sources = outer
            .filter_map(|packet| packet.payload.first_chunk())
            .map(|port| u16::from_be_bytes(*port))
            .collect::<BTreeSet<_>>();
        assert!(sources.len() > 1, "many flows: {sources:?}");
        assert!(sources.iter().all(|port| range.contains(port)), "{sources:?}");
    }
}
