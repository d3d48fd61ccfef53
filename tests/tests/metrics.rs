//! What a running agent tells over HTTP and on its socket, while traffic flows.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use adit_tests::agent::start_all;
use adit_tests::scrape::{PORT, get, sum, value};
use adit_tests::{Agent, Overlay, Topology, require, snapshot, traffic};
use dataplane_user::net::Family;
use dataplane_user::status::Status;

#[test]
fn a_scrape_tells_of_traffic_drops_and_fill_and_is_clean() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b] = &topology.hosts;
    let before = sum(&get(&a.netns, "/metrics").1, "adit_peer_transmit_packets_total{");
    for _ in 0..5 {
        traffic::udp(a.pod_end(), b.pod_end(), Family::Ipv4, 100).unwrap();
    }
    traffic::udp(a.pod_end(), b.pod_end(), Family::Ipv6, 100).unwrap();
    // No node carries 10.99.0.0/16.
    a.netns.enter(|| {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
        for _ in 0..3 {
            socket.send_to(b"x", (Ipv4Addr::new(10, 99, 0, 1), 9)).unwrap();
        }
    });

    let (code, page) = get(&a.netns, "/metrics");
    assert_eq!(code, 200);
    let labels = r#"{encapsulation="geneve",network="net",peer="b"}"#;
    let sent = value(&page, &format!("adit_peer_transmit_packets_total{labels}"));
    assert!(
        sent >= before + 6,
        "{sent} of at least {} packets\n{page}",
        before + 6
    );
    assert!(value(&page, &format!("adit_peer_transmit_bytes_total{labels}")) >= sent * 28);
    assert_eq!(
        value(&page, r#"adit_dropped_packets_total{reason="no_prefix"}"#),
        3
    );
    assert_eq!(
        value(&page, r#"adit_egress_packets_total{verdict="forwarded"}"#),
        sent
    );
    assert_eq!(value(&page, "adit_ready"), 1);
    assert_eq!(value(&page, "adit_maps_readable"), 1);
    assert_eq!(
        value(&page, r#"adit_peers{encapsulation="geneve",network="net"}"#),
        1
    );
    assert_eq!(value(&page, r#"adit_interfaces{type="geneve"}"#), 1);
    assert_eq!(value(&page, r#"adit_routes_installed{table="main"}"#), 4);
    assert_eq!(value(&page, r#"adit_config_reloads_total{result="success"}"#), 1);
    assert_eq!(value(&page, r#"adit_masquerade_rules{family="ipv6"}"#), 0);
    assert_eq!(value(&page, "adit_masquerade_sync_errors_total"), 0);
    assert!(value(&page, "adit_masquerade_chain_rebuilds_total") >= 1);
    assert!(value(&page, "adit_masquerade_sync_duration_seconds_count") >= 1);
    let dump = agents[0].json(&["map", "dump"]);
    let prefixes = dump["prefixes"].as_array().unwrap();
    let held = ["adit_prefixes4", "adit_prefixes6"]
        .map(|map| value(&page, &format!("adit_map_entries{{map=\"{map}\"}}")));
    assert_eq!(held.iter().sum::<u64>(), prefixes.len() as u64);
    // The other end saw them come.
    let other = get(&b.netns, "/metrics").1;
    assert!(value(&other, r#"adit_ingress_packets_total{verdict="accepted_ipv4"}"#) >= 5);
    assert_eq!(
        value(&other, r#"adit_ingress_packets_total{verdict="unknown_source"}"#),
        0
    );
    let from = r#"{encapsulation="geneve",network="net",peer="a"}"#;
    let received = value(&other, &format!("adit_peer_receive_packets_total{from}"));
    assert!(received >= sent, "{received} of {sent} packets\n{other}");
    assert!(value(&other, &format!("adit_peer_receive_bytes_total{from}")) >= received * 28);
    assert_eq!(value(&other, r#"adit_map_entries{map="adit_sources"}"#), 1);
    for page in [&page, &other] {
        check_by_promtool(page);
        check_by_document(page);
    }

    // The status says the same, on the socket and over HTTP.
    let status = agents[0].status().unwrap();
    let way = status.peers[0].way.clone().unwrap();
    assert_eq!((way.device.as_deref(), way.usable), (Some("adit-geneve"), true));
    assert!(way.packets >= sent, "{way:?}");
    let (code, json) = get(&a.netns, "/status");
    assert_eq!(code, 200);
    let over_http: Status = serde_json::from_str(&json).unwrap();
    assert_eq!(over_http.peers[0].remote, status.peers[0].remote);
    assert!(over_http.peers[0].way.is_some());
    let text = agents[0].run(&["status", "-o", "wide"]);
    assert_eq!(text.code, 0, "{text:?}");
    assert!(
        text.stdout.contains("adit-geneve") && !text.stdout.contains('\x1b'),
        "{text:?}"
    );
    let other = agents[1].status().unwrap().peers[0].received.unwrap();
    assert!(other.packets >= received, "{other:?}");
    let text = agents[1].run(&["status", "-o", "wide"]).stdout;
    assert!(
        text.contains("RECEIVED-BYTES") && text.contains(&format!("  {}  ", other.packets)),
        "{text}"
    );
}

#[test]
fn wireguard_tells_of_sessions_and_of_what_was_changed() {
    require!(modules: "dummy", "wireguard");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "wireguard");
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b] = &topology.hosts;
    let established = |status: &Status| (status.ready, status.peers_established);
    assert_eq!(established(&agents[0].status().unwrap()), (true, Some(false)));
    traffic::udp(a.pod_end(), b.pod_end(), Family::Ipv4, 1000).unwrap();
    let status = agents[0].status().unwrap();
    assert_eq!(established(&status), (true, Some(true)));
    let session = status.peers[0].wireguard.clone().unwrap().session.unwrap();
    assert!(
        session.received_bytes > 1000 && session.sent_bytes > 1000,
        "{session:?}"
    );
    let text = agents[0].run(&["status", "-o", "wide"]).stdout;
    assert!(text.contains("session, ") && text.contains(":51820"), "{text}");

    let page = get(&a.netns, "/metrics").1;
    let peer = r#"{interface="adit-wg0",peer="b"}"#;
    assert_eq!(value(&page, r#"adit_wireguard_peers{interface="adit-wg0"}"#), 1);
    assert_eq!(value(&page, &format!("adit_wireguard_peer_established{peer}")), 1);
    assert!(
        value(&page, &format!("adit_wireguard_peer_receive_bytes_total{peer}")) >= session.received_bytes
    );
    assert!(value(&page, &format!("adit_wireguard_peer_transmit_bytes_total{peer}")) >= session.sent_bytes);
    assert!(value(&page, &format!("adit_wireguard_peer_endpoint_age_seconds{peer}")) < 3600);
    assert!(!page.contains("adit_peer_receive_"), "{page}");
    assert_eq!(value(&page, "adit_wireguard_peers_added_total"), 1);
    assert_eq!(value(&page, "adit_wireguard_configure_errors_total"), 0);
    assert!(value(&page, "adit_wireguard_configure_duration_seconds_count") >= 1);
    check_by_document(&page);
    check_by_promtool(&page);
}

#[test]
fn each_change_is_counted_by_what_it_was() {
    require!(modules: "dummy", "geneve", "wireguard");
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        network: vec!["masquerade: {}"],
        shared: vec!["b", "c"],
        wishes: vec![("c", "wireguard")],
        ..Overlay::new(&topology, "geneve")
    };
    let host = &topology.hosts[0];
    let page = || get(&host.netns, "/metrics").1;
    let says = |series: &str, wanted: u64| {
        let page = page();
        assert_eq!(value(&page, series), wanted, "{series}\n{page}");
    };
    // One device a port: ours is refused while this one stands.
    host.netns.ip("link add theirs type geneve external dstport 6081");
    let mut agent = Agent::new(host, &overlay.manifests(&topology)).with_recheck(1);
    agent.start();
    agent.wait("refused", |status| {
        let mut problems = status.problems.iter();
        problems.any(|problem| problem.reason == "ApplyFailed")
    });
    assert!(
        value(
            &page(),
            r#"adit_interface_operation_errors_total{operation="create"}"#
        ) >= 1
    );
    host.netns.ip("link delete theirs");
    agent.ready();

    for (series, wanted) in [
        (r#"adit_interfaces{type="dummy"}"#, 1),
        (r#"adit_interfaces{type="geneve"}"#, 1),
        (r#"adit_interfaces{type="wireguard"}"#, 1),
        (r#"adit_interface_operations_total{operation="create"}"#, 3),
        (r#"adit_interface_operations_total{operation="up"}"#, 3),
        (r#"adit_interface_operations_total{operation="delete"}"#, 0),
        (r#"adit_interface_operation_errors_total{operation="up"}"#, 0),
        // b has the first one: two that carry the same prefix share none.
        (r#"adit_wireguard_peers{interface="adit-wg1"}"#, 1),
        ("adit_wireguard_peers_added_total", 1),
        ("adit_wireguard_peers_removed_total", 0),
        ("adit_wireguard_configure_errors_total", 0),
        // An anchor and a backstop a family.
        (r#"adit_routes_installed{table="main"}"#, 4),
        ("adit_routes_added_total", 4),
        ("adit_routes_removed_total", 0),
        ("adit_route_sync_errors_total", 0),
        // The shared prefix of each family.
        ("adit_ecmp_routes_installed", 2),
        ("adit_masquerade_sync_errors_total", 0),
        ("adit_kernel_event_overruns_total", 0),
    ] {
        says(series, wanted);
    }
    let first = page();
    for series in [
        r#"adit_masquerade_rules{family="ipv4"}"#,
        r#"adit_masquerade_rules{family="ipv6"}"#,
        "adit_masquerade_chain_rebuilds_total",
        "adit_masquerade_sync_duration_seconds_count",
        "adit_wireguard_configure_duration_seconds_count",
        r#"adit_route_sync_duration_seconds_count{source="anchor"}"#,
        r#"adit_route_sync_duration_seconds_count{source="backstop"}"#,
        r#"adit_interface_operations_total{operation="address-add"}"#,
        r#"adit_interface_operations_total{operation="setting"}"#,
        r#"adit_kernel_events_total{kind="link"}"#,
        r#"adit_kernel_events_total{kind="address"}"#,
        r#"adit_kernel_events_total{kind="route"}"#,
    ] {
        assert!(value(&first, series) >= 1, "{series}\n{first}");
    }

    let mended = |number: u64| {
        agent.wait("mended", |status| status.repairs.total == number && status.ready);
    };
    host.netns.ip("route delete 10.0.0.0/8 metric 173");
    mended(1);
    says("adit_routes_added_total", 5);
    host.netns.ip("route add 203.0.113.0/24 dev lo proto 173");
    mended(2);
    says("adit_routes_removed_total", 1);
    says(r#"adit_routes_installed{table="main"}"#, 4);
    let rebuilds = value(&page(), "adit_masquerade_chain_rebuilds_total");
    snapshot::run(&host.netns, "nft", "flush table inet adit");
    mended(3);
    says("adit_masquerade_chain_rebuilds_total", rebuilds + 1);
    host.netns.ip("link set adit-geneve mtu 1291");
    mended(4);
    says(r#"adit_interface_operations_total{operation="modify"}"#, 1);
    // No event tells of peers.
    let stranger = topology.hosts[1].private_key().public_key();
    let set = format!("set adit-wg1 peer {stranger}");
    snapshot::run(&host.netns, "wg", &set);
    mended(5);
    says("adit_wireguard_peers_removed_total", 1);
    says(r#"adit_reconcile_wakeups_total{cause="revision"}"#, 1);
    // Without c there is nothing to be encrypted.
    let overlay = Overlay {
        members: vec!["a", "b"],
        ..overlay
    };
    agent.write(&overlay.manifests(&topology));
    agent.wait("without c", |status| status.peers.len() == 1 && status.ready);
    says(r#"adit_interface_operations_total{operation="delete"}"#, 1);
    says("adit_ecmp_routes_installed", 0);
    let last = page();
    assert!(!last.contains(r#"adit_interfaces{type="wireguard"}"#), "{last}");
    for page in [first, last] {
        check_by_promtool(&page);
        check_by_document(&page);
    }
}

#[test]
fn health_and_readiness_are_two_things() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let host = &topology.hosts[0];
    let agent = Agent::started(host, &overlay.manifests(&topology));
    assert_eq!(get(&host.netns, "/healthz").0, 200);
    assert_eq!(get(&host.netns, "/readyz").0, 200);
    assert_eq!(get(&host.netns, "/nowhere").0, 404);

    agent.write("kind: TunnelNetwork\n");
    agent.wait("refusing it", |status| !status.ready);
    assert_eq!(get(&host.netns, "/healthz").0, 200);
    let (code, why) = get(&host.netns, "/readyz");
    assert_eq!(code, 503);
    assert!(why.contains("SourceInvalid"), "{why}");
    let page = get(&host.netns, "/metrics").1;
    assert_eq!(value(&page, r#"adit_config_reloads_total{result="failure"}"#), 1);
    assert_eq!(
        value(&page, r#"adit_problems{reason="SourceInvalid",severity="error"}"#),
        1
    );
    assert_eq!(value(&page, "adit_ready"), 0);
    check_by_promtool(&page);
    check_by_document(&page);
}

#[test]
fn a_port_in_use_ends_the_agent_with_the_flag() {
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let _taken = host
        .netns
        .enter(|| TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap());
    let agent = Agent::new(host, "");
    let manifests = agent.manifests();
    let printed = agent.run(&["run", "--node", "a", "-f", manifests.to_str().unwrap()]);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(printed.stderr.contains("--http"), "{printed:?}");
}

/// Looks each family up in docs/METRICS.md.
fn check_by_document(page: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/METRICS.md");
    let document = fs::read_to_string(path).unwrap();
    let families = page
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
    let missing = families.filter(|name| {
        let named = [format!("| `{name}`"), format!("| `{name}{{")];
        !named.iter().any(|start| document.contains(start))
    });
    assert_eq!(missing.collect::<Vec<_>>(), [""; 0], "not in docs/METRICS.md");
}

/// Has Prometheus' own tool read a page and look for bad names.
fn check_by_promtool(page: &str) {
    let mut child = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed");
    let mut input = child.stdin.take().unwrap();
    input.write_all(page.as_bytes()).unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}\n{page}");
}
