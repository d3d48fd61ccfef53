//! Traffic between nodes: both inner families over both outer ones, by GENEVE, VXLAN, IPIP, WireGuard and without
//! encapsulation, from hosts and from pods; and nothing of it in clear where something encapsulates.

use std::collections::BTreeSet;
use std::net::IpAddr;

use adit_tests::agent::start_all;
use adit_tests::capture::{Capture, Packet};
use adit_tests::topology::{Host, SHARED_V4, SHARED_V6};
use adit_tests::traffic::{self, bound};
use adit_tests::{Agent, Overlay, Topology, flows, require_module};
use dataplane_user::net::Family;

#[test]
fn geneve_over_ipv4() {
    pair("geneve", Family::Ipv4);
}

#[test]
fn geneve_over_ipv6() {
    pair("geneve", Family::Ipv6);
}

#[test]
fn vxlan_over_ipv4() {
    pair("vxlan", Family::Ipv4);
}

#[test]
fn vxlan_over_ipv6() {
    pair("vxlan", Family::Ipv6);
}

#[test]
fn ipip_over_ipv4() {
    pair("ipip", Family::Ipv4);
}

#[test]
fn ipip_over_ipv6() {
    pair("ipip", Family::Ipv6);
}

#[test]
fn wireguard_over_ipv4() {
    pair("wireguard", Family::Ipv4);
}

#[test]
fn wireguard_over_ipv6() {
    pair("wireguard", Family::Ipv6);
}

#[test]
fn none_over_ipv4() {
    pair("none", Family::Ipv4);
}

#[test]
fn none_over_ipv6() {
    pair("none", Family::Ipv6);
}

/// Two nodes: everything between the hosts and between the pods, encapsulated as it should be.
fn pair(encapsulation: &'static str, underlay: Family) {
    let modules = ["dummy", "geneve", "ipip", "ip6_tunnel", "wireguard"];
    if !modules.iter().all(|module| require_module(module)) {
        return;
    }
    let topology = Topology::new(2);
    if encapsulation == "none" {
        topology.route_overlay();
    }
    let overlay = Overlay {
        underlay,
        ..Overlay::new(&topology, encapsulation)
    };
    let manifests = overlay.manifests(&topology);
    let agents = start_all(&topology, &manifests);
    let [a, b] = &topology.hosts[..] else {
        unreachable!("there are two");
    };
    // The kernel's flow-based ipip device carries IPv4 alone, and so do IPv4 neighbours.
    let refuses_ipv6 = ["ipip", "none"].contains(&encapsulation) && underlay == Family::Ipv4;
    let families = if refuses_ipv6 {
        vec![Family::Ipv4]
    } else {
        Family::BOTH.to_vec()
    };

    let capture = Capture::new(&topology.router);
    for &family in &families {
        traffic::all(a.end(), b.end(), family).unwrap();
        traffic::all(b.pod_end(), a.pod_end(), family).unwrap();
        traffic::udp(a.end(), b.pod_end(), family, 100).unwrap();
        traffic::udp(b.end(), a.pod_end(), family, 100).unwrap();
    }
    if refuses_ipv6 {
        refused(&agents[0], b);
    }
    counted_at_the_other_end(&agents, encapsulation, &families);
    let ends = [a, b].map(|host| host.underlay(underlay));
    let wanted = match encapsulation {
        "geneve" => Some((6081, overlay.vni)),
        "vxlan" => Some((4789, overlay.vni)),
        _ => None,
    };
    let packets = capture.packets();
    match encapsulation {
        "wireguard" => assert_encrypted(&packets, ends),
        "none" => assert_bare(&packets, &families),
        _ => assert_encapsulated(&packets, wanted, ends, &families),
    }
}

/// What one host sends, the other counts as received from it, and nothing comes from somebody unknown; where no program
/// sees what comes, no count pretends to.
fn counted_at_the_other_end(agents: &[Agent<'_>], encapsulation: &str, families: &[Family]) {
    const PAYLOAD: usize = 1000;
    let received = || agents[1].status().unwrap().peers[0].received;
    if ["wireguard", "none"].contains(&encapsulation) {
        assert_eq!(received(), None);
        return;
    }
    let before = received().expect("it is counted");
    let [from, to] = [0, 1].map(|number| agents[number].host().end());
    for &family in families {
        traffic::udp(from, to, family, PAYLOAD).unwrap();
    }
    let after = received().expect("it is counted");
    let (packets, bytes) = (after.packets - before.packets, after.bytes - before.bytes);
    let (expected, headers) = (families.len() as u64, 28);
    assert!(packets >= expected, "{before:?} {after:?}");
    assert!(
        bytes >= expected * (PAYLOAD as u64 + headers),
        "{before:?} {after:?}"
    );
    let stats = agents[1].json(&["map", "stats"]);
    let [source] = &stats["sources"].as_array().unwrap()[..] else {
        panic!("one peer, one source: {stats}");
    };
    assert_eq!(source["node"], agents[0].host().name, "{stats}");
    assert!(source["packets"].as_u64() >= Some(after.packets), "{stats}");
    let verdicts = stats["ingress"].as_array().unwrap();
    let count = |name: &str| {
        let found = verdicts.iter().find(|verdict| verdict["verdict"] == name);
        found.expect("every verdict is there")["packets"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(count("unknown_source"), 0, "{stats}");
    let accepted = count("accepted_ipv4") + count("accepted_ipv6");
    assert_eq!(Some(accepted), source["packets"].as_u64(), "{stats}");
}

/// The agent is ready and says that IPv6 to the other host is refused; a packet there is dropped with a reason.
fn refused(agent: &Agent<'_>, other: &Host) {
    let status = agent.wait("ready", |status| status.ready);
    let refused = status
        .refused
        .iter()
        .map(|refused| (refused.to.as_str(), refused.family.as_str()));
    assert_eq!(refused.collect::<Vec<_>>(), [(other.name, "ipv6")]);
    let dropped = || {
        let stats = agent.json(&["map", "stats"]);
        let verdicts = stats["egress"].as_array().unwrap();
        let found = verdicts.iter().find(|verdict| verdict["verdict"] == "no_prefix");
        found.map_or(0, |verdict| verdict["packets"].as_u64().unwrap())
    };
    let before = dropped();
    let end = agent.host().end();
    let socket = bound(end.netns, end.address(Family::Ipv6)).unwrap();
    let sent = socket.send_to(b"adit", (other.end().address(Family::Ipv6), 7000));
    assert!(
        dropped() > before,
        "{sent:?}: {}",
        agent.run(&["map", "stats"]).stdout
    );
}

/// All packets are WireGuard's between these two ends: handshakes and data; nothing is in clear.
fn assert_encrypted(packets: &[Packet], ends: [IpAddr; 2]) {
    let mut kinds = BTreeSet::new();
    for packet in packets
        .iter()
        .filter(|packet| ![58, 0].contains(&packet.protocol))
    {
        assert_eq!(packet.port(), Some(51820), "{packet:?}");
        assert!(
            ends.contains(&packet.source) && ends.contains(&packet.destination),
            "{packet:?}"
        );
        // The type and three zero bytes behind the UDP header.
        let kind = packet.payload.get(8..12).expect("a message");
        assert_eq!(kind[1..], [0; 3], "{packet:?}");
        kinds.insert(kind[0]);
    }
    assert!(kinds.is_superset(&BTreeSet::from([1, 2, 4])), "{kinds:?}");
}

/// All packets are tunnel packets between these two ends, by UDP with this port and VNI or by IP alone. They hold these
/// families, hosts' and pods'; nothing is in clear.
fn assert_encapsulated(packets: &[Packet], udp: Option<(u16, u32)>, ends: [IpAddr; 2], families: &[Family]) {
    let leaked = packets
        .iter()
        .filter(|packet| packet.is_in_clear())
        .collect::<Vec<_>>();
    assert!(leaked.is_empty(), "in clear: {leaked:?}");
    let mut inner = BTreeSet::new();
    for packet in packets {
        if [58, 0].contains(&packet.protocol) {
            // Neighbour discovery, and multicast listener reports behind a hop-by-hop header.
            continue;
        }
        match udp {
            Some((port, vni)) => {
                assert_eq!(
                    (packet.port(), packet.vni()),
                    (Some(port), Some(vni)),
                    "{packet:?}"
                );
            }
            None => assert!([4, 41].contains(&packet.protocol), "{packet:?}"),
        }
        assert!(ends.contains(&packet.source), "{packet:?}");
        assert!(ends.contains(&packet.destination), "{packet:?}");
        assert_ne!(packet.source, packet.destination);
        let packet = packet.inner().expect("an IP packet");
        assert!(
            packet.is_in_clear(),
            "from the overlay to the overlay: {packet:?}"
        );
        inner.insert((packet.source, packet.family(), packet.protocol));
    }
    assert_all_kinds(&inner, families);
}

/// All packets are the overlay's as they are, from it and to it.
fn assert_bare(packets: &[Packet], families: &[Family]) {
    let mut seen = BTreeSet::new();
    for packet in packets {
        if packet.is_in_clear() {
            assert!(packet.is_of_the_overlay(), "{packet:?}");
            seen.insert((packet.source, packet.family(), packet.protocol));
        } else {
            // Neighbour discovery and multicast listener reports, as above.
            assert!([58, 0].contains(&packet.protocol), "{packet:?}");
        }
    }
    assert_all_kinds(&seen, families);
}

/// Sources, families and protocols of packets are those of all that was sent.
fn assert_all_kinds(inner: &BTreeSet<(IpAddr, Family, u8)>, families: &[Family]) {
    // Two hosts and two pods; ICMP, UDP and TCP, in each family.
    let protocols = |family: Family| {
        if family == Family::Ipv4 {
            [1, 6, 17]
        } else {
            [6, 17, 58]
        }
    };
    for &family in families {
        for protocol in protocols(family) {
            let sources = inner.iter().filter(|(_, f, p)| (*f, *p) == (family, protocol));
            assert_eq!(sources.count(), 4, "{family} protocol {protocol}: {inner:?}");
        }
    }
    assert!(
        inner.iter().all(|(_, family, _)| families.contains(family)),
        "{inner:?}"
    );
}

/// Three nodes: slots beyond the first, links of two encapsulations, and a prefix that two nodes carry.
#[test]
fn three_nodes_and_a_group() {
    if !require_module("dummy") || !require_module("geneve") {
        return;
    }
    let topology = Topology::new(3);
    let overlay = Overlay {
        shared: vec!["b", "c"],
        wishes: vec![("c", "vxlan")],
        ..Overlay::new(&topology, "auto")
    };
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b, c] = &topology.hosts[..] else {
        unreachable!("there are three");
    };
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
