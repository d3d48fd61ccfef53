//! Rounds with invented measurements and captures.
use adit_tests::NetNs;
use adit_tests::topology::End;

use super::super::capture::Count;
use super::super::options::Underlay;
use super::super::requested;
use super::super::traffic::Endpoint;
use super::*;

/// Two nodes over IPv4.
fn round(topology: &Topology, encapsulation: Encapsulation) -> Round<'_> {
    let requested = requested::uniform(&[encapsulation], 2).remove(0);
    Round {
        topology,
        links: Links::expected(topology, &requested),
        vni: requested.vni,
        rows: Vec::new(),
        flows: Vec::new(),
        refused: Vec::new(),
        contradictions: Vec::new(),
        captured: Summary::default(),
    }
}

fn topology() -> Topology {
    Topology::new(2, Underlay::Ipv4)
}

fn udp(port: u16, vni: Option<u32>) -> Outer {
    Outer {
        family: Family::Ipv4,
        protocol: 17,
        port: Some(port),
        vni,
        wireguard: vni.is_none(),
    }
}

const THERE: ([u8; 4], [u8; 4]) = ([192, 0, 2, 18], [192, 0, 2, 34]);

fn addresses((from, to): ([u8; 4], [u8; 4])) -> Addresses {
    (from.into(), to.into())
}

fn count(packets: u64) -> Count {
    Count {
        packets,
        bytes: packets * 100,
    }
}

#[test]
fn expected_headers_are_no_leak() {
    let topology = topology();
    let mut round = round(&topology, Encapsulation::Geneve);
    let chatter = Outer {
        protocol: 1,
        port: None,
        ..udp(0, Some(0))
    };
    let vni = Some(round.vni);
    let outer = &mut round.captured.outer;
    outer.insert((addresses(THERE), udp(6081, vni)), count(5));
    outer.insert((addresses(([192, 0, 2, 17], THERE.0)), chatter), count(9));
    assert_eq!(round.leaks(), [""; 0]);
    assert_eq!(round.crossed().into_values().collect::<Vec<_>>(), [5]);
}

#[test]
fn another_vni_another_port_and_other_ends_are_leaks() {
    let topology = topology();
    let vni = round(&topology, Encapsulation::Geneve).vni;
    for (ends, port, vni, text) in [
        (THERE, 6081, 1, "are not geneve"),
        (THERE, 4789, vni, "are not geneve"),
        ((THERE.0, [192, 0, 2, 99]), 6081, vni, "not between two nodes"),
    ] {
        let mut round = round(&topology, Encapsulation::Geneve);
        let key = (addresses(ends), udp(port, Some(vni)));
        round.captured.outer.insert(key, count(5));
        let leaks = round.leaks();
        assert!(leaks.len() == 1 && leaks[0].contains(text), "{leaks:?}");
        assert_eq!(round.crossed().keys().next().unwrap().encapsulation, None);
    }
}

#[test]
fn plain_packets_are_leaks_unless_the_link_has_no_encapsulation() {
    let topology = topology();
    let overlay = addresses(([10, 1, 0, 1], [10, 2, 1, 2]));
    let leaks = |encapsulation, addresses: Addresses| {
        let mut round = round(&topology, encapsulation);
        round.captured.bare.insert((addresses, 6), 3);
        round.leaks()
    };
    assert_eq!(
        leaks(Encapsulation::Geneve, overlay),
        ["3 overlay packets crossed the underlay without encapsulation: 10.1.0.1 → 10.2.1.2, tcp"]
    );
    assert_eq!(leaks(Encapsulation::Plain, overlay), [""; 0]);
    for (source, destination) in [
        ("fd00:1::1", "fd00:2::1"),
        ("10.1.0.1", "10.9.0.1"),
        ("10.1.0.1", "192.0.2.34"),
    ] {
        let addresses = (source.parse().unwrap(), destination.parse().unwrap());
        assert_eq!(leaks(Encapsulation::Plain, addresses).len(), 1, "{source}");
    }
}

#[test]
fn captured_wireguard_bytes_cover_the_bytes_that_arrived() {
    let topology = topology();
    let namespace = &NetNs::current();
    let end = |index: usize| {
        let node = &topology.nodes[index];
        Endpoint {
            name: node.name.to_owned(),
            end: End::outside(namespace, node.overlay()),
        }
    };
    let (from, to) = (end(0), end(1));
    let leaks = |encapsulation, bytes| {
        let mut round = round(&topology, encapsulation);
        let pair = Pair {
            from: &from,
            to: &to,
            family: Family::Ipv4,
            link: round.links.get(0, 1).unwrap(),
            mtu: 1440,
        };
        let measured = Measured {
            sent: 10,
            received: 10,
            unit: 50,
            ..Measured::default()
        };
        round.rows.push(Row {
            pair,
            cells: vec![(Kind::Icmp, measured)],
        });
        let count = Count { packets: 10, bytes };
        round
            .captured
            .outer
            .insert((addresses(THERE), udp(51820, None)), count);
        round.leaks()
    };
    assert_eq!(leaks(Encapsulation::Wireguard, 600), [""; 0]);
    let few = leaks(Encapsulation::Wireguard, 400);
    assert!(
        few.len() == 1 && few[0].contains("500 bytes arrived, but only 400"),
        "{few:?}"
    );
    let others = leaks(Encapsulation::Geneve, 600);
    assert!(others.iter().any(|leak| leak.contains("no geneve packet")));
    assert!(
        others
            .iter()
            .any(|leak| leak.contains("none was captured in geneve"))
    );
    assert!(others.iter().any(|leak| leak.contains("are not geneve")));
}

#[test]
fn outer_fragments_show_a_wrong_mtu() {
    let topology = topology();
    let mut round = round(&topology, Encapsulation::Ipip);
    round.captured.fragments = 2;
    assert!(round.leaks()[0].contains("too large"));
}

#[test]
fn a_node_that_answers_no_flow_is_named() {
    let topology = topology();
    let mut round = round(&topology, Encapsulation::Geneve);
    round.flows.push(Flows {
        from: "c".to_owned(),
        node: 2,
        family: Family::Ipv6,
        sent: 64,
        answered: BTreeMap::from([(0, 64), (1, 0)]),
        error: None,
    });
    assert_eq!(
        round.losses(),
        ["c → shared prefix, ipv6: 64 of 64 flows were answered: b answered none"]
    );
}
