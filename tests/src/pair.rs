//! Two nodes with one encapsulation: all traffic between hosts and between pods, and a capture on the router between them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use dataplane_user::net::Family;
use dataplane_user::resource::Dataplane;
use nix::errno::Errno;

use crate::agent::start_all;
use crate::capture::{Capture, Packet};
use crate::topology::Host;
use crate::traffic::{self, bound, refusal};
use crate::{Agent, Overlay, Topology, require};

/// Sends all traffic between two nodes with these dataplanes, from hosts and from pods, and asserts its encapsulation.
///
/// # Panics
/// If something does not arrive, or other packets are captured.
pub fn pair(encapsulation: &'static str, underlay: Family, dataplanes: [Dataplane; 2]) {
    require!(modules: "dummy", "geneve", "ipip", "ip6_tunnel", "wireguard");
    let topology = Topology::<2>::new();
    if encapsulation == "none" {
        topology.route_overlay();
    }
    let overlay = Overlay {
        underlay,
        dataplanes: ["a", "b"].into_iter().zip(dataplanes.map(name)).collect(),
        ..Overlay::new(&topology, encapsulation)
    };
    let manifests = overlay.manifests(&topology);
    let agents = start_all(&topology, &manifests);
    let [a, b] = &topology.hosts;
    // The flow-based ipip device of the kernel transports only IPv4, and so do IPv4 neighbours.
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
        refused(&agents[0], b, dataplanes[0]);
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

/// The name in manifests.
fn name(dataplane: Dataplane) -> &'static str {
    match dataplane {
        Dataplane::Ebpf => "ebpf",
        Dataplane::Routes => "routes",
    }
}

/// Asserts that a host counts the packets of the other one as received from it, and none from unknown sources. Without an
/// ingress program there are no counts.
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

/// Asserts that the agent is ready and reports IPv6 to the other host as refused, and that such a packet is dropped with a
/// reason.
fn refused(agent: &Agent<'_>, other: &Host, dataplane: Dataplane) {
    let status = agent.wait("ready", |status| status.ready);
    let refused = status
        .refused
        .iter()
        .map(|refused| (refused.to.as_str(), refused.family.as_str()));
    assert_eq!(refused.collect::<Vec<_>>(), [(other.name, "ipv6")]);
    if dataplane == Dataplane::Routes {
        let said = refusal(agent.host().end().netns, other.end().address(Family::Ipv6)).unwrap();
        assert_eq!(said, Some(Errno::EHOSTUNREACH), "the backstop answers");
        return;
    }
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

/// Asserts that all packets are WireGuard handshakes and data between these two ends, and none is in clear.
fn assert_encrypted(packets: &[Packet], ends: [IpAddr; 2]) {
    let mut kinds = BTreeSet::new();
    for packet in packets
        .iter()
        .filter(|packet| ![58, 0].contains(&packet.protocol))
    {
        assert!(
            ends.contains(&packet.source) && ends.contains(&packet.destination),
            "{packet:?}"
        );
        let kind = packet.wireguard(|port| port == 51820);
        kinds.insert(kind.unwrap_or_else(|| panic!("not a WireGuard packet: {packet:?}")));
    }
    assert!(kinds.is_superset(&BTreeSet::from([1, 2, 4])), "{kinds:?}");
}

/// Asserts that all packets are tunnel packets between these two ends, by UDP with this port and VNI or by IP alone, with
/// inner packets of these families from hosts and pods, and none in clear.
fn assert_encapsulated(packets: &[Packet], udp: Option<(u16, u32)>, ends: [IpAddr; 2], families: &[Family]) {
    let leaked = packets
        .iter()
        .filter(|packet| packet.is_in_clear())
        .collect::<Vec<_>>();
    assert!(leaked.is_empty(), "in clear: {leaked:?}");
    let mut inner = BTreeSet::new();
    for packet in packets {
        if [58, 0].contains(&packet.protocol) {
            // Neighbour discovery, and multicast listener reports after a hop-by-hop header.
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

/// Asserts that all packets are overlay packets without encapsulation.
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

/// Asserts that packets have the sources, families and protocols of all traffic that was sent.
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
