//! The answers of a running agent over HTTP and on its socket, while traffic flows.

use std::io::{self, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use adit_tests::agent::{PATIENCE, start_all};
use adit_tests::scrape::{PORT, get, get_of, sum, value};
use adit_tests::{Agent, Overlay, Topology, require, snapshot, traffic};
use dataplane_user::net::Family;
use dataplane_user::serve;
use dataplane_user::status::Status;
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};

#[test]
fn a_scrape_has_traffic_drops_and_map_usage_and_passes_promtool() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b] = &topology.hosts;
    let remote = b.underlay(Family::Ipv4);
    let before = sum(&get(&a.netns, "/metrics").1, "adit_peer_transmit_packets_total{");
    for _ in 0..5 {
        traffic::udp(a.pod_end(), b.pod_end(), Family::Ipv4, 100).unwrap();
    }
    traffic::udp(a.pod_end(), b.pod_end(), Family::Ipv6, 100).unwrap();
    // No node advertises 10.99.0.0/16.
    a.netns.enter(|| {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
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
    // The other end received them.
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

    // The status is the same on the socket and over HTTP.
    let status = agents[0].status().unwrap();
    let way = status.peers[0].path.clone().unwrap();
    assert_eq!((way.device.as_deref(), way.usable), (Some("adit-geneve"), true));
    assert!(way.packets >= sent, "{way:?}");
    let (code, json) = get(&a.netns, "/status");
    assert_eq!(code, 200);
    let over_http: Status = serde_json::from_str(&json).unwrap();
    assert_eq!(over_http.peers[0].node, status.peers[0].node);
    assert!(over_http.peers[0].path.is_some());
    // Except for private fields.
    assert_eq!(status.peers[0].remote, Some(remote));
    let remote = remote.to_string();
    assert!(
        !json.contains(&remote) && !page.contains(&remote),
        "{json}\n{page}"
    );
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
fn wireguard_metrics_have_sessions_and_changes() {
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
fn each_change_is_counted_by_its_kind() {
    require!(modules: "dummy", "geneve", "wireguard");
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        network: vec!["masquerade: {}"],
        shared: vec!["b", "c"],
        requested: vec![("c", "wireguard")],
        ..Overlay::new(&topology, "geneve")
    };
    let host = &topology.hosts[0];
    let page = || get(&host.netns, "/metrics").1;
    let says = |series: &str, wanted: u64| {
        let page = page();
        assert_eq!(value(&page, series), wanted, "{series}\n{page}");
    };
    // A port has one socket: the managed device cannot be set up while this one is.
    let theirs = host.netns.enter(|| UdpSocket::bind("0.0.0.0:6081").unwrap());
    let mut agent = Agent::new(host, &overlay.manifests(&topology)).with_recheck(1);
    agent.start();
    agent.wait("refused", |status| {
        let mut problems = status.problems.iter();
        problems.any(|problem| problem.reason == "ApplyFailed")
    });
    assert!(
        value(
            &page(),
            r#"adit_interface_operation_errors_total{operation="up"}"#
        ) >= 1
    );
    drop(theirs);
    agent.ready();

    for (series, wanted) in [
        (r#"adit_interfaces{type="dummy"}"#, 1),
        (r#"adit_interfaces{type="geneve"}"#, 1),
        (r#"adit_interfaces{type="wireguard"}"#, 1),
        (r#"adit_interface_operations_total{operation="create"}"#, 3),
        (r#"adit_interface_operations_total{operation="up"}"#, 3),
        (r#"adit_interface_operations_total{operation="delete"}"#, 0),
        (r#"adit_interface_operation_errors_total{operation="create"}"#, 0),
        // b is on the first device: two nodes that advertise the same prefix share none.
        (r#"adit_wireguard_peers{interface="adit-wg1"}"#, 1),
        ("adit_wireguard_peers_added_total", 1),
        ("adit_wireguard_peers_removed_total", 0),
        ("adit_wireguard_configure_errors_total", 0),
        // An anchor and a backstop per family.
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
        agent.wait("repaired", |status| {
            status.repairs.total == number && status.ready
        });
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
    // Peers send no events.
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
fn health_and_readiness_differ() {
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
fn http_has_keys_and_addresses_only_if_asked_for() {
    require!(modules: "dummy", "wireguard");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "wireguard").manifests(&topology);
    let [a, b] = &topology.hosts;
    let mut agent = Agent::started(a, &manifests);
    // A peer that is not a node.
    let stranger = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
    let secrets = [
        a.private_key().public_key().to_string(),
        b.private_key().public_key().to_string(),
        a.underlay(Family::Ipv4).to_string(),
        b.underlay(Family::Ipv4).to_string(),
    ];
    let told = |page: &str| secrets.iter().filter(|secret| page.contains(*secret)).count();
    for path in ["/status", "/metrics", "/readyz"] {
        let (code, text) = get_of(&a.netns, "localhost:9173", path);
        assert_eq!((code, told(&text)), (200, 0), "{path}: {text}");
    }
    // The socket has all fields, as always.
    let status = agent.run(&["status", "-o", "json"]).stdout;
    assert_eq!(told(&status), 4, "{status}");
    // Problems may contain a key or an address, too.
    a.netns
        .ip_batch("link delete adit-wg0\nlink add adit-wg0 type dummy\n");
    agent.wait("in conflict", |status| !status.ready);
    let (code, why) = get(&a.netns, "/readyz");
    assert_eq!(code, 503);
    assert!(why.contains("Conflict") && !why.contains("adit-wg0"), "{why}");
    let json = get(&a.netns, "/status").1;
    assert!(json.contains("Conflict") && told(&json) == 0, "{json}");
    a.netns.ip("link delete adit-wg0");
    agent.stop();

    let mut agent = agent.with_arguments(&["--http-details", "--http-host", "node-a.example"]);
    agent.start();
    agent.ready();
    snapshot::run(&a.netns, "wg", &format!("set adit-wg0 peer {stranger}"));
    let (code, json) = get_of(&a.netns, "node-a.example:9173", "/status");
    assert_eq!((code, told(&json)), (200, 4), "{json}");
}

#[test]
fn dns_rebinding_reads_nothing_over_http() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let host = &topology.hosts[0];
    let _agent = Agent::started(host, &overlay.manifests(&topology));
    for path in ["/status", "/metrics"] {
        for name in [
            "rebound.example",
            "rebound.example:9173",
            "localhost.rebound.example",
        ] {
            let (code, text) = get_of(&host.netns, name, path);
            assert_eq!(code, 403, "{name}: {text}");
            assert!(!text.contains("adit_") && !text.contains("\"peers\""), "{text}");
        }
        for name in ["localhost", "127.0.0.1:9173", "[::1]:9173", "192.0.2.1"] {
            assert_eq!(get_of(&host.netns, name, path).0, 200, "{name}");
        }
    }
    // Probes may use any host name, and get no details.
    assert_eq!(get_of(&host.netns, "rebound.example", "/readyz").0, 200);
    assert_eq!(get_of(&host.netns, "rebound.example", "/healthz").0, 200);
}

#[test]
fn idle_connections_stop_neither_the_agent_nor_its_socket_nor_a_scrape() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let host = &topology.hosts[0];
    let agent = Agent::started(host, &overlay.manifests(&topology));
    // The default limit of descriptors of a process.
    let process = agent.process().to_string();
    let limited = Command::new("prlimit")
        .args(["--pid", &process, "--nofile=1024:1024"])
        .status()
        .unwrap();
    assert!(limited.success());
    serve::raise_descriptor_limit().unwrap();
    // Some send nothing, others an incomplete request.
    let connect = |number: u32| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        if number.is_multiple_of(2) {
            // The connection may be closed already.
            let _written = stream.write_all(b"GET /status HTTP/1.1\r\nHost: local");
        }
        stream
    };
    let idle = host.netns.enter(|| (0..1200).map(connect).collect::<Vec<_>>());

    assert_eq!(get(&host.netns, "/healthz").0, 200);
    assert_eq!(get(&host.netns, "/metrics").0, 200);
    assert_eq!(agent.run(&["status"]).code, 0);
    host.netns.ip("route delete 10.0.0.0/8 metric 173");
    agent.wait("repaired", |status| status.repairs.total == 1 && status.ready);
    let open = fs::read_dir(format!("/proc/{process}/fd")).unwrap().count();
    assert!(open < 300, "{open} descriptors");
    assert!(
        !agent.log().contains("can't accept connections"),
        "{}",
        agent.log()
    );
    drop(idle);
}

#[test]
fn a_loop_that_hangs_is_reported_and_does_not_feed_the_watchdog() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let host = &topology.hosts[0];
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    let variables = [
        ("NOTIFY_SOCKET", path.to_str().unwrap().to_owned()),
        ("WATCHDOG_USEC", "2000000".to_owned()),
    ];
    // Only the first reconciliation wakes it; after that, only the watchdog needs signs of life.
    let mut agent = Agent::new(host, &overlay.manifests(&topology)).with_resync(3600);
    for variable in variables {
        agent = agent.with_environment(Some(variable));
    }
    agent.start();
    agent.ready();
    let fed = || {
        let mut message = [0; 4096];
        let length = systemd.recv(&mut message)?;
        Ok::<_, io::Error>(message[..length].starts_with(b"WATCHDOG=1"))
    };
    let wait_until_fed = || {
        systemd.set_read_timeout(Some(PATIENCE)).unwrap();
        while !fed().expect("the watchdog is fed") {}
    };
    let forget = || {
        systemd.set_nonblocking(true).unwrap();
        while fed().is_ok() {}
        systemd.set_nonblocking(false).unwrap();
    };
    forget();
    wait_until_fed();
    wait_until_fed();
    let status = agent.status().unwrap();
    assert!(
        status.ready && status.reconciliation.ended_ago_s.is_some(),
        "{status:#?}"
    );
    agent.stop();

    // Only the thread of the loop is stopped, wherever it is.
    let mut agent = agent.with_resync(1);
    agent.start();
    agent.ready();
    let main = agent.process();
    ptrace::seize(main, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(main).unwrap();
    waitpid(main, Some(WaitPidFlag::__WALL)).unwrap();
    forget();
    let deadline = Instant::now() + 3 * PATIENCE;
    while get(&host.netns, "/readyz").0 == 200 {
        assert!(Instant::now() < deadline, "it is still ready");
        thread::sleep(Duration::from_millis(200));
    }
    let (code, why) = get(&host.netns, "/readyz");
    assert_eq!(code, 503);
    assert!(why.contains("Hanging"), "{why}");
    assert_eq!(get(&host.netns, "/healthz").0, 503);
    let page = get(&host.netns, "/metrics").1;
    assert_eq!(value(&page, "adit_ready"), 0);
    assert!(value(&page, "adit_reconcile_age_seconds") > 1);
    let printed = agent.run(&["status"]);
    assert_eq!(printed.code, 5, "{printed:?}");
    assert!(printed.stdout.contains("Hanging"), "{printed:?}");
    systemd.set_nonblocking(true).unwrap();
    assert_eq!(fed().unwrap_err().kind(), io::ErrorKind::WouldBlock);
    systemd.set_nonblocking(false).unwrap();

    ptrace::detach(main, None).unwrap();
    wait_until_fed();
    agent.ready();
    assert_eq!(get(&host.netns, "/readyz").0, 200);
}

#[test]
fn a_port_in_use_ends_the_agent_with_an_error_about_the_option() {
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
