//! Pages built from values.

use std::collections::{BTreeMap, BTreeSet};

use dataplane_ebpf::layout::Counters;
use ipnet::Ipv4Net;

use super::*;
use crate::kernel::bpf::{CounterReport, MapUsage, SourceEntry, VerdictCount};
use crate::model::{MAIN_TABLE, Route, RouteKey, RouteKind, Source, TunnelKind};
use crate::net::{Encapsulation, LinkName, Namespace, NodeName, PublicKey};
use crate::resource::{Dataplane, Severity};
use crate::status::{NetworkStatus, PeerStatus, ProblemStatus, SessionStatus, WireGuardStatus};

fn count(name: &'static str, packets: u64) -> VerdictCount {
    VerdictCount {
        name,
        explanation: "",
        counters: Counters {
            packets,
            bytes: packets * 10,
        },
    }
}

fn problem(reason: &str) -> ProblemStatus {
    ProblemStatus {
        severity: Severity::Error,
        reason: reason.to_owned(),
        subject: "route 10.0.0.0/8".to_owned(),
        message: "a \"message\"".to_owned(),
        remedy: String::new(),
    }
}

fn network(name: &str, vni: u32) -> NetworkStatus {
    NetworkStatus {
        name: name.to_owned(),
        prefixes: Vec::new(),
        mtu: 1450,
        vni,
    }
}

fn text(maps: Option<&MapReading>) -> String {
    let status = Status {
        version: "1.2.3".to_owned(),
        networks: vec![network("pods", 1)],
        problems: vec![problem("Conflict"), problem("Conflict"), problem("Capacity")],
        ..Status::default()
    };
    let recorder = Recorder::default();
    recorder.reconciliation(Duration::from_millis(3), ReconciliationResult::Converged);
    recorder.reload(false);
    page(
        &recorder,
        &Reading {
            status: &status,
            maps,
            unnamed: &[],
        },
        true,
    )
    .unwrap()
}

fn has(page: &str, line: &str) {
    assert!(page.lines().any(|found| found == line), "no `{line}` in\n{page}");
}

#[test]
fn the_page_shows_recorder_and_status() {
    let page = text(None);
    has(&page, r#"adit_build_info{version="1.2.3"} 1"#);
    has(&page, r#"adit_reconcile_passes_total{result="converged"} 1"#);
    has(&page, r#"adit_reconcile_passes_total{result="failed"} 0"#);
    has(&page, r#"adit_reconcile_duration_seconds_bucket{le="0.005"} 1"#);
    has(&page, r#"adit_reconcile_duration_seconds_bucket{le="0.0025"} 0"#);
    has(&page, r#"adit_config_reloads_total{result="failure"} 1"#);
    has(&page, r#"adit_problems{reason="Conflict",severity="error"} 2"#);
    has(&page, r#"adit_network_mtu_bytes{network="pods"} 1450"#);
    has(&page, "adit_ready 0");
    has(&page, "adit_maps_readable 0");
    assert!(!page.contains("adit_egress"));
}

#[test]
fn the_page_shows_the_maps() {
    let maps = MapReading {
        counters: CounterReport {
            egress: vec![count("forwarded", 5), count("no_prefix", 2)],
            ingress: vec![count("accepted_ipv4", 7)],
            ..CounterReport::default()
        },
        usage: vec![MapUsage {
            name: "adit_prefixes4",
            entries: 3,
            capacity: 100,
        }],
    };
    let page = text(Some(&maps));
    has(&page, "adit_maps_readable 1");
    has(&page, r#"adit_egress_packets_total{verdict="forwarded"} 5"#);
    has(&page, r#"adit_egress_bytes_total{verdict="forwarded"} 50"#);
    has(&page, r#"adit_ingress_packets_total{verdict="accepted_ipv4"} 7"#);
    has(&page, r#"adit_dropped_packets_total{reason="no_prefix"} 2"#);
    assert!(!page.contains(r#"reason="forwarded""#));
    has(&page, r#"adit_map_entries{map="adit_prefixes4"} 3"#);
    has(&page, r#"adit_map_capacity{map="adit_prefixes4"} 100"#);
}

fn peer(node: &str, encapsulation: Encapsulation, remote: &str) -> PeerStatus {
    PeerStatus {
        node: NodeName::new(node).unwrap(),
        network: "pods".to_owned(),
        encapsulation,
        remote: Some(remote.parse().unwrap()),
        local: Some([192, 0, 2, 9].into()),
        mtu: 1450,
        wireguard: None,
        withdrawn: false,
        dataplane: Dataplane::Ebpf,
        path: None,
        received: None,
    }
}

#[test]
fn the_page_shows_packets_received_from_each_peer() {
    let source = |address: [u8; 4], tunnel, vni, packets| SourceEntry {
        source: Source {
            address: address.into(),
            tunnel,
            vni,
        },
        node: None,
        counters: Counters {
            packets,
            bytes: packets * 10,
        },
    };
    let status = Status {
        networks: vec![network("pods", 1), network("voice", 2)],
        peers: vec![
            peer("b", Encapsulation::Geneve, "192.0.2.1"),
            peer("c", Encapsulation::Ipip, "192.0.2.2"),
            PeerStatus {
                network: "voice".to_owned(),
                ..peer("c", Encapsulation::Ipip, "192.0.2.2")
            },
            peer("d", Encapsulation::None, "192.0.2.3"),
        ],
        ..Status::default()
    };
    let maps = MapReading {
        counters: CounterReport {
            sources: vec![
                source([192, 0, 2, 1], TunnelKind::Geneve, 1, 7),
                source([192, 0, 2, 1], TunnelKind::Geneve, 2, 8),
                source([192, 0, 2, 2], TunnelKind::Ipip, 0, 9),
                source([192, 0, 2, 8], TunnelKind::Geneve, 1, 10),
            ],
            ..CounterReport::default()
        },
        ..MapReading::default()
    };
    let page = page(
        &Recorder::default(),
        &Reading {
            status: &status,
            maps: Some(&maps),
            unnamed: &[],
        },
        true,
    )
    .unwrap();
    let found = page.lines().filter(|line| line.starts_with("adit_peer_receive_"));
    let expected = [
        r#"adit_peer_receive_bytes_total{encapsulation="geneve",network="pods",peer="b"} 70"#,
        r#"adit_peer_receive_bytes_total{encapsulation="ipip",network="",peer="c"} 90"#,
        r#"adit_peer_receive_packets_total{encapsulation="geneve",network="pods",peer="b"} 7"#,
        r#"adit_peer_receive_packets_total{encapsulation="ipip",network="",peer="c"} 9"#,
    ];
    assert_eq!(found.collect::<Vec<_>>(), expected);
}

#[test]
fn routes_of_all_namespaces_are_counted_by_table() {
    let routes = |tables: &[u32]| {
        let key = |(number, table): (u8, &u32)| {
            RouteKey::new(
                *table,
                Ipv4Net::new_assert([10, number, 0, 0].into(), 16).into(),
                50,
            )
        };
        let route = |owner| Route {
            owner,
            kind: RouteKind::Unreachable,
        };
        let mut all: BTreeMap<_, _> = (0..)
            .zip(tables)
            .map(|one| (key(one), route(Owner::Adit)))
            .collect();
        all.insert(key((99, &1730)), route(Owner::Other));
        KernelState {
            routes: all,
            ..KernelState::default()
        }
    };
    let mut state = routes(&[MAIN_TABLE, 1730, 1730]);
    let there = Namespace::Name("blue".to_owned());
    state.namespaces.insert(there, routes(&[MAIN_TABLE]));
    let recorder = Recorder::default();
    recorder.observed(&state);
    let page = page(
        &recorder,
        &Reading {
            status: &Status::default(),
            maps: None,
            unnamed: &[],
        },
        true,
    )
    .unwrap();
    has(&page, r#"adit_routes_installed{table="main"} 2"#);
    has(&page, r#"adit_routes_installed{table="1730"} 2"#);
}

#[test]
fn a_peer_that_never_shook_hands_has_age_0() {
    let session = |age: Option<u64>, received| SessionStatus {
        endpoint: None,
        endpoint_age_s: age.map(|age| age + 1),
        established: age == Some(7),
        handshake_age_s: age,
        received_bytes: received,
        sent_bytes: 2 * received,
    };
    let link = |node: &str, age, received| PeerStatus {
        wireguard: Some(WireGuardStatus {
            device: LinkName::constant("adit-wg0"),
            own_key: None,
            public_key: None,
            session: Some(session(age, received)),
        }),
        ..peer(node, Encapsulation::WireGuard, "192.0.2.1")
    };
    let status = Status {
        peers: vec![
            link("b", Some(7), 100),
            link("c", None, 0),
            link("d", Some(700), 5),
        ],
        ..Status::default()
    };
    let key = PublicKey::from_bytes([1; 32]);
    let unnamed = UnnamedPeer {
        device: LinkName::constant("wg0"),
        public_key: key,
        session: session(Some(7), 1),
    };
    let reading = Reading {
        status: &status,
        maps: None,
        unnamed: &[unnamed],
    };
    // Without details the page shows no keys, but the number of peers.
    let without = page(&Recorder::default(), &reading, false).unwrap();
    assert!(!without.contains(&key.to_string()), "{without}");
    has(&without, r#"adit_wireguard_peers{interface="wg0"} 1"#);
    let page = page(&Recorder::default(), &reading, true).unwrap();
    let found = page
        .lines()
        .filter(|line| line.starts_with("adit_wireguard_peer") && !line.contains("peers_"));
    let found = found.map(|line| line.replace(&key.to_string(), "x="));
    let found: BTreeSet<_> = found.collect();
    let expected = [
        r#"adit_wireguard_peer_endpoint_age_seconds{interface="adit-wg0",peer="b"} 8"#,
        r#"adit_wireguard_peer_endpoint_age_seconds{interface="adit-wg0",peer="c"} 0"#,
        r#"adit_wireguard_peer_endpoint_age_seconds{interface="adit-wg0",peer="d"} 701"#,
        r#"adit_wireguard_peer_endpoint_age_seconds{interface="wg0",peer="x="} 8"#,
        r#"adit_wireguard_peer_established{interface="wg0",peer="x="} 1"#,
        r#"adit_wireguard_peer_handshake_age_seconds{interface="wg0",peer="x="} 7"#,
        r#"adit_wireguard_peer_receive_bytes_total{interface="wg0",peer="x="} 1"#,
        r#"adit_wireguard_peer_transmit_bytes_total{interface="wg0",peer="x="} 2"#,
        r#"adit_wireguard_peers{interface="wg0"} 1"#,
        r#"adit_wireguard_peer_established{interface="adit-wg0",peer="b"} 1"#,
        r#"adit_wireguard_peer_established{interface="adit-wg0",peer="c"} 0"#,
        r#"adit_wireguard_peer_established{interface="adit-wg0",peer="d"} 0"#,
        r#"adit_wireguard_peer_handshake_age_seconds{interface="adit-wg0",peer="b"} 7"#,
        r#"adit_wireguard_peer_handshake_age_seconds{interface="adit-wg0",peer="c"} 0"#,
        r#"adit_wireguard_peer_handshake_age_seconds{interface="adit-wg0",peer="d"} 700"#,
        r#"adit_wireguard_peer_receive_bytes_total{interface="adit-wg0",peer="b"} 100"#,
        r#"adit_wireguard_peer_receive_bytes_total{interface="adit-wg0",peer="c"} 0"#,
        r#"adit_wireguard_peer_receive_bytes_total{interface="adit-wg0",peer="d"} 5"#,
        r#"adit_wireguard_peer_transmit_bytes_total{interface="adit-wg0",peer="b"} 200"#,
        r#"adit_wireguard_peer_transmit_bytes_total{interface="adit-wg0",peer="c"} 0"#,
        r#"adit_wireguard_peer_transmit_bytes_total{interface="adit-wg0",peer="d"} 10"#,
        r#"adit_wireguard_peers{interface="adit-wg0"} 3"#,
    ];
    assert_eq!(found, expected.map(str::to_owned).into());
}
