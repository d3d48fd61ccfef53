//! `adit doctor` on a host with real faults, and on one without.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use adit_tests::declared::of_node;
use adit_tests::{Agent, Overlay, Topology, agent, require};
use serde_json::Value;

#[test]
fn doctor_finds_no_errors_beside_an_agent() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let agent = Agent::started(&topology.hosts[0], &overlay.manifests(&topology));
    let findings = examine(&agent, 0);
    assert!(!errors(&findings).contains_key("port"), "{findings:#?}");
    let peers = findings.iter().filter(|finding| finding["check"] == "peer");
    let peers = peers
        .map(|finding| finding["evidence"].to_string())
        .collect::<Vec<_>>();
    assert_eq!(peers.len(), 1, "{peers:?}");
    assert!(
        peers[0].contains("underlay MTU 1500, overlay MTU 1450"),
        "{peers:?}"
    );
}

#[test]
fn planted_faults_are_found_with_their_remedies() {
    require!(modules: "dummy", "geneve", "vxlan");
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        requested: vec![("c", "vxlan")],
        ..Overlay::new(&topology, "auto")
    };
    let host = &topology.hosts[0];
    let places = Agent::new(host, &overlay.manifests(&topology));
    examine(&places, 0);

    let taken = || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 6081)).unwrap();
    let _taken = host.netns.enter(taken);
    for setting in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        host.netns.sysctl(setting, "0");
    }
    host.netns.sysctl("net/ipv4/conf/all/rp_filter", "1");
    host.netns.ip_batch(
        "link add adit0 type dummy
        link add flannel.1 type dummy
        link add theirs type vxlan external dstport 4789
        route del default",
    );
    let key = places.state_directory().join("key");
    fs::create_dir_all(places.state_directory()).unwrap();
    fs::write(&key, "secret").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();

    let findings = examine(&places, 5);
    let errors = errors(&findings);
    let expected = ["device", "forwarding", "key file", "port", "tunnel"];
    assert_eq!(
        errors.keys().copied().collect::<Vec<_>>(),
        expected,
        "{findings:#?}"
    );
    assert_eq!(errors["forwarding"], 2);
    let has = |check: &str, level: &str, evidence: &str| {
        let found = findings.iter().any(|finding| {
            finding["check"] == check
                && finding["level"] == level
                && finding["evidence"].to_string().contains(evidence)
                && finding["remedy"].is_string()
        });
        assert!(found, "no {level} of {check} with {evidence} in {findings:#?}");
    };
    has("port", "error", "6081");
    has("device", "error", "adit0");
    has("tunnel", "error", "theirs");
    has("key file", "error", "0644");
    has("overlay", "warning", "flannel");
    has("rp_filter", "warning", "rp_filter = 1");
    has("manifests", "warning", "NoUnderlayRoute");
    let output = host.netns.enter(|| {
        let mut command = Command::new(agent::binary());
        // The directory with its manifests is not a BPF file system.
        command
            .arg("--bpffs")
            .arg(places.manifests())
            .args(["doctor", "-q"])
            .output()
    });
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(5), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("error    bpffs: "), "{text}");
    assert!(text.contains("remedy: mount -t bpf"), "{text}");
}

/// What takes a peer's packets is named with what it takes, in the status and by the doctor; the kernel's own routes agree.
#[test]
fn a_route_that_hides_the_prefix_of_a_peer_is_reported() {
    require!(modules: "dummy", "geneve", "wireguard");
    let topology = Topology::<2>::new();
    let host = &topology.hosts[0];
    let wireguard = of_node(
        "a",
        "WireGuardInterface",
        "home",
        "name: wg0, peers: [{ name: gate, publicKey: 'AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=', allowedIPs: ['fd00:2:1::/80'] }]",
    );
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology) + &wireguard;
    let agent = Agent::started(host, &manifests);
    host.netns.ip_batch(
        "link add docker0 type dummy
        link set docker0 up
        address add 10.2.1.129/25 dev docker0",
    );
    let told = [
        ["docker0", "10.2.1.128/25", "10.2.1.0/24", "TunnelNode/b"],
        [
            "WireGuardInterface/home",
            "peer gate",
            "fd00:2:1::/64",
            "TunnelNode/b",
        ],
    ];
    let status = agent.reconciled("told of both", |status| {
        let problems = || {
            status
                .problems
                .iter()
                .filter(|problem| problem.reason == "Shadowed")
        };
        told.iter()
            .all(|words| problems().any(|problem| words.iter().all(|word| problem.message.contains(word))))
    });
    assert!(status.ready, "{status:#?}");
    for (address, device) in [
        ("10.2.1.130", "docker0"),
        ("fd00:2:1::2", "wg0"),
        ("10.2.1.2", "adit0"),
    ] {
        let route = host.netns.ip(&format!("route get {address}"));
        assert!(route.contains(&format!("dev {device}")), "{route}");
    }
    let findings = examine(&agent, 0);
    for words in told {
        let found = findings.iter().any(|finding| {
            let evidence = finding["evidence"].to_string();
            finding["level"] == "warning" && words.iter().all(|word| evidence.contains(word))
        });
        assert!(found, "{words:?} in {findings:#?}");
    }
    host.netns.ip("link delete docker0");
    agent.reconciled("told of one", |status| status.problems.len() == 1);

    // A route that somebody has added, and one that takes nothing away.
    host.netns.ip("route add 10.2.1.64/26 dev lo proto static");
    host.netns.ip("route add 10.2.1.32/27 dev adit0 proto static");
    let words = ["the route 10.2.1.64/26", "dev lo", "10.2.1.0/24", "TunnelNode/b"];
    let is_told = |text: &str| words.iter().all(|word| text.contains(word));
    agent.reconciled("told of the route", |status| {
        let mut problems = status.problems.iter();
        status.problems.len() == 2 && problems.any(|problem| is_told(&problem.message))
    });
    assert!(is_told(&agent.plan(&[]).stdout));
    host.netns.ip("route delete 10.2.1.64/26");
    agent.reconciled("told of one again", |status| status.problems.len() == 1);
}

/// As in a container whose `/proc` shows less than the kernel has.
#[test]
fn a_missing_sysctl_directory_does_not_count_as_missing_ipv6() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let agent = Agent::started(&topology.hosts[0], &overlay.manifests(&topology));
    let manifests = agent.manifests();
    let hidden = |words: &[&str]| {
        let mut command = Command::new("unshare");
        let script = "mount -t tmpfs none /proc/sys/net/ipv6 && exec \"$0\" \"$@\"";
        command.args(["--mount", "sh", "-c", script]).arg(agent::binary());
        command.arg("--bpffs").arg(agent.pins());
        command.arg("--state-dir").arg(agent.state_directory());
        command.args(words).args(["--node", "a", "-f"]).arg(&manifests);
        let output = agent.host().netns.enter(|| command.output()).unwrap();
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{printed}{output:?}");
        printed
    };
    hidden(&["plan"]);
    let findings: Vec<Value> = serde_json::from_str(&hidden(&["doctor", "--json"])).unwrap();
    let level = |check: &str, word: &str| {
        let mut of_check = findings.iter().filter(|finding| finding["check"] == check);
        let found = of_check.find(|finding| finding["evidence"].to_string().contains(word));
        found.map(|finding| finding["level"].clone()).unwrap_or_default()
    };
    assert_eq!(level("ipv6", "IPv6"), "ok", "{findings:#?}");
    assert_eq!(level("forwarding", "net.ipv6"), "warning", "{findings:#?}");
}

/// The doctor's findings about a host with the agent's manifests; it ends with this code.
fn examine(agent: &Agent<'_>, code: i32) -> Vec<Value> {
    let manifests = agent.manifests();
    let words = [
        "doctor",
        "--json",
        "--node",
        agent.host().name,
        "-f",
        manifests.to_str().unwrap(),
    ];
    let printed = agent.run(&words);
    assert_eq!(printed.code, code, "{}{}", printed.stdout, printed.stderr);
    serde_json::from_str(&printed.stdout).expect("it prints JSON")
}

/// The checks that came to errors, and how many.
fn errors(findings: &[Value]) -> BTreeMap<&str, usize> {
    let mut errors = BTreeMap::new();
    for finding in findings.iter().filter(|finding| finding["level"] == "error") {
        *errors.entry(finding["check"].as_str().unwrap()).or_default() += 1;
    }
    errors
}
