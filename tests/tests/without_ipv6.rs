//! A kernel that was booted with `ipv6.disable=1`: IPv4 works, and objects that need IPv6 are skipped.
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes only test functions themselves for tests"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use adit_tests::agent::{binary, is_settled, start_all};
use adit_tests::declared::of_node;
use adit_tests::kernel::has_ipv6;
use adit_tests::{Agent, NetNs, Overlay, Topology, require_module, snapshot, traffic};
use dataplane_user::net::{Family, PrivateKey};
use dataplane_user::status::Status;
use serde_json::Value;

/// Whether these tests can run; prints why not.
fn ready(modules: &[&str]) -> bool {
    if has_ipv6() {
        println!("skipped: the kernel has IPv6: boot it with ipv6.disable=1");
        return false;
    }
    modules.iter().all(|module| require_module(module))
}

/// The subjects of the warnings about families.
fn skipped(status: &Status) -> Vec<&str> {
    let missing = status
        .problems
        .iter()
        .filter(|problem| problem.reason == "NoFamily");
    missing.map(|problem| problem.subject.as_str()).collect()
}

/// Tests an encapsulation and dataplane, with manifests that declare both families.
#[track_caller]
fn carries_ipv4(encapsulation: &'static str, dataplane: &'static str) {
    let topology = Topology::<2>::new();
    let overlay = Overlay {
        network: vec![dataplane],
        ..Overlay::new(&topology, encapsulation)
    };
    let mut agents = start_all(&topology, &overlay.manifests(&topology));
    let [from, to] = [&topology.hosts[0], &topology.hosts[1]].map(|host| host.pod_end());
    traffic::all(from, to, Family::Ipv4).unwrap();
    let status = agents[0].status().unwrap();
    assert_eq!(skipped(&status), ["IPv6"], "{status:#?}");
    assert_eq!(
        (status.reconciliation.failed, status.reconciliation.residual),
        (0, 0),
        "{status:#?}"
    );
    is_settled(&agents[0]);
    let routes = agents[0].host().netns.ip("route show table all proto 173");
    assert!(routes.contains("unreachable 10.0.0.0/8"), "{routes}");

    // Objects that others delete are restored, as with both families.
    agents[0].host().netns.ip("link delete adit0");
    agents[0].wait("repaired", |status| {
        status.repairs.total == 1 && status.reconciliation.residual == 0
    });
    traffic::udp(from, to, Family::Ipv4, 100).unwrap();
    agents[0].stop();
    let uninstalled = agents[0].run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    let left = agents[0].host().netns.ip("route show table all proto 173");
    assert_eq!(left, "");
}

#[test]
fn an_overlay_by_programs_transports_ipv4() {
    if ready(&["dummy", "geneve"]) {
        carries_ipv4("geneve", "dataplane: ebpf");
    }
}

#[test]
fn an_overlay_by_routes_transports_ipv4() {
    // Over GENEVE and VXLAN these routes have IPv6 neighbours.
    if ready(&["dummy", "ipip"]) {
        carries_ipv4("ipip", "dataplane: routes");
    }
}

#[test]
fn an_overlay_by_wireguard_transports_ipv4() {
    if ready(&["dummy", "wireguard"]) {
        carries_ipv4("wireguard", "dataplane: ebpf");
    }
}

#[test]
fn declared_objects_of_ipv6_are_skipped_here_and_in_other_namespaces() {
    if !ready(&["dummy"]) {
        return;
    }
    let topology = Topology::<1>::new();
    let there = adit_tests::named::Named::new();
    let inside = format!("namespace: {{ name: {} }}", there.0);
    let addresses = "addresses: [10.80.0.1/24, 'fd80::1/64']";
    let manifests = [
        of_node(
            "a",
            "NetlinkInterface",
            "d0",
            &format!("type: dummy, {addresses}"),
        ),
        of_node(
            "a",
            "NetlinkInterface",
            "d1",
            &format!("type: dummy, {inside}, {addresses}"),
        ),
        of_node("a", "NetlinkRoute", "r4", "to: 10.81.0.0/24, via: 10.80.0.2"),
        of_node(
            "a",
            "NetlinkRoute",
            "r6",
            "to: 'fd81::/64', via: 'fd80::2', dev: d0",
        ),
        of_node(
            "a",
            "NetlinkRule",
            "p4",
            "priority: 100, table: 100, from: 10.82.0.0/24",
        ),
        of_node(
            "a",
            "NetlinkRule",
            "p6",
            "priority: 100, table: 100, from: 'fd82::/64'",
        ),
    ];
    let agent = Agent::started(&topology.hosts[0], &manifests.concat());
    is_settled(&agent);
    let status = agent.status().unwrap();
    assert_eq!(skipped(&status), ["IPv6"], "{status:#?}");
    let message = &status.problems[0].message;
    for told in ["2 addresses", "1 route", "1 rule"] {
        assert!(message.contains(told), "{told}: {message}");
    }
    let netns = &topology.hosts[0].netns;
    assert!(netns.ip("address show dev d0").contains("10.80.0.1/24"));
    assert!(there.ip("address show dev d1").contains("10.80.0.1/24"));
    assert!(netns.ip("route show proto 173").contains("10.81.0.0/24"));
    assert!(netns.ip("rule show").contains("10.82.0.0/24"));
}

#[test]
fn the_early_unit_creates_the_backstop_and_doctor_reports_missing_ipv6() {
    if !ready(&["dummy", "geneve"]) {
        return;
    }
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let agent = Agent::new(&topology.hosts[0], &manifests);
    let path = agent.manifests();
    let path = path.to_str().unwrap();
    let early = agent.run(&["early", "--node", "a", "-f", path]);
    assert_eq!(early.code, 0, "{early:?}");
    let routes = agent.host().netns.ip("route show proto 173");
    assert!(routes.contains("unreachable 10.0.0.0/8"), "{routes}");

    for words in [
        vec!["doctor", "--json"],
        vec!["doctor", "--json", "--node", "a", "-f", path],
    ] {
        let printed = agent.run(&words);
        assert_eq!(printed.code, 0, "{}{}", printed.stdout, printed.stderr);
        let findings: Vec<Value> = serde_json::from_str(&printed.stdout).unwrap();
        let ipv6 = findings
            .iter()
            .find(|finding| finding["check"] == "ipv6")
            .unwrap();
        assert_eq!(ipv6["level"], "warning", "{ipv6}");
    }
}

#[test]
fn a_wg_quick_file_of_ipv4_goes_up_and_down() {
    if !ready(&["wireguard"]) {
        return;
    }
    let netns = NetNs::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("wg0.conf");
    let key = |number: u8| PrivateKey::from_random(&[number; 32]);
    let text = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.90.0.1/24\nTable = auto\n[Peer]\nPublicKey = {}\nEndpoint = 192.0.2.9:51820\nAllowedIPs = 0.0.0.0/0\n",
        key(1).to_base64().as_str(),
        key(2).public_key(),
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let adit = |word: &str| {
        let output = netns.enter(|| Command::new(binary()).args(["wg", word]).arg(&path).output());
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    adit("up");
    assert!(netns.ip("address show dev wg0").contains("10.90.0.1/24"));
    assert!(netns.ip("rule show").contains("fwmark"));
    adit("down");
    assert!(!snapshot::run(&netns, "ip", "-br link show").contains("wg0"));
    assert!(!netns.ip("rule show").contains("fwmark"));
}
