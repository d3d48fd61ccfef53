//! Links by WireGuard: the devices that nodes agree on, keys, endpoints, and secrets in no output.

mod keys;
mod places;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::process::Command;

use adit_tests::agent::start_all;
use adit_tests::capture::{Capture, Packet};
use adit_tests::topology::{Host, SHARED_V4, SHARED_V6};
use adit_tests::{Agent, Overlay, Topology, flows, require_module, traffic};
use dataplane_user::kernel::wireguard::generate;
use dataplane_user::net::Family;
use dataplane_user::status::Status;

/// Whether the kernel and the machine have what these tests need.
fn possible() -> bool {
    ["dummy", "geneve", "wireguard"].into_iter().all(require_module)
}

/// The output of the real `wg` on a host.
fn wg(host: &Host, words: &str) -> String {
    let run = || Command::new("wg").args(words.split_whitespace()).output();
    let output = host.netns.enter(run).unwrap();
    assert!(output.status.success(), "wg {words}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn key(host: &Host) -> String {
    host.private_key().public_key().to_string()
}

/// The encapsulations of a node's links, by peer.
fn links(status: &Status) -> BTreeSet<(&str, &str)> {
    status
        .peers
        .iter()
        .map(|peer| (peer.node.as_str(), peer.encapsulation.name()))
        .collect()
}

fn has_problem(status: &Status, severity: &str, reason: &str) -> bool {
    status
        .problems
        .iter()
        .any(|problem| problem.severity.name() == severity && problem.reason == reason)
}

#[test]
fn peers_that_advertise_one_prefix_are_on_different_devices() {
    if !possible() {
        return;
    }
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        shared: vec!["b", "c"],
        ..Overlay::new(&topology, "wireguard")
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
    for shared in [IpAddr::V4(SHARED_V4), IpAddr::V6(SHARED_V6)] {
        flows::reach_both(&agents[0], [b, c], shared);
    }
    assert!(capture.packets().iter().all(|packet| !packet.is_in_clear()));

    // The sum of both colours: b has the first, c the second, and a the first as well.
    assert_eq!(wg(a, "show interfaces"), "adit-wg0 adit-wg1");
    let shown = |device: &str| wg(a, &format!("show {device} allowed-ips"));
    for (device, peer) in [("adit-wg0", b), ("adit-wg1", c)] {
        let shown = shown(device);
        assert!(
            shown.starts_with(&key(peer)) && shown.contains("10.9.0.0/16"),
            "{shown}"
        );
    }
    assert_eq!(wg(b, "show adit-wg1 listen-port"), "51821");
    assert_eq!(wg(b, "show adit-wg1 peers"), key(c));
}

#[test]
fn each_pair_uses_the_encapsulation_of_its_ends_and_the_network() {
    if !possible() {
        return;
    }
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        requested: vec![("b", "vxlan"), ("c", "wireguard")],
        ..Overlay::new(&topology, "auto")
    };
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let statuses: Vec<Status> = agents.iter().map(|agent| agent.status().unwrap()).collect();
    assert_eq!(links(&statuses[0]), [("b", "vxlan"), ("c", "wireguard")].into());
    assert_eq!(links(&statuses[1]), [("a", "vxlan"), ("c", "wireguard")].into());
    assert_eq!(
        links(&statuses[2]),
        [("a", "wireguard"), ("b", "wireguard")].into()
    );
    let mtu = |status: &Status| status.networks[0].mtu;
    assert_eq!(
        statuses.iter().map(mtu).collect::<Vec<_>>(),
        [1440; 3],
        "the smallest of each node's links"
    );

    let capture = Capture::new(&topology.router);
    for family in Family::BOTH {
        for from in &topology.hosts {
            for to in topology.hosts.iter().filter(|to| to.name != from.name) {
                traffic::all(from.end(), to.pod_end(), family).unwrap();
            }
        }
    }
    let packets = capture.packets();
    assert!(packets.iter().all(|packet| !packet.is_in_clear()));
    let ports: BTreeSet<u16> = packets.iter().filter_map(Packet::port).collect();
    assert_eq!(ports, [4789, 51820].into());
}

#[test]
fn changes_by_others_are_reverted() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys[0].1 = "keepalive: 25s".to_owned();
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b] = &topology.hosts;
    let foreign = generate::private_key().unwrap().public_key();
    let before = wg(a, "showconf adit-wg0");
    assert!(before.contains("PersistentKeepalive = 25"), "{before}");
    assert!(!wg(b, "showconf adit-wg0").contains("PersistentKeepalive"));
    for damage in [
        format!("set adit-wg0 peer {} remove", key(b)),
        format!("set adit-wg0 peer {foreign} allowed-ips 10.2.0.0/16"),
        format!(
            "set adit-wg0 peer {} allowed-ips 10.77.0.0/16 persistent-keepalive 7",
            key(b)
        ),
        "set adit-wg0 listen-port 4711 fwmark 3".to_owned(),
        "set adit-wg0 private-key /dev/null".to_owned(),
    ] {
        wg(a, &damage);
        agents[0].next_reconciliation();
        assert_eq!(wg(a, "showconf adit-wg0"), before, "{damage}");
        traffic::ping(a.end(), b.end(), Family::Ipv4).unwrap();
    }
    assert_eq!(agents[0].plan(&[]).code, 0);
}

#[test]
fn an_unmanaged_device_with_the_name_is_a_conflict_and_stays() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "wireguard");
    let a = &topology.hosts[0];
    a.netns.ip("link add adit-wg0 type wireguard");
    let mut agent = Agent::new(a, &overlay.manifests(&topology));
    agent.start();
    let status = agent.wait("reported", |status| has_problem(status, "error", "Conflict"));
    assert!(!status.ready);
    assert_eq!(wg(a, "show adit-wg0 listen-port"), "0", "it is left alone");
    agent.stop();
    let printed = agent.run(&["uninstall"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert_eq!(wg(a, "show interfaces"), "adit-wg0");
}

#[test]
fn uninstall_removes_devices_and_stored_endpoints() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "wireguard");
    let mut agents = start_all(&topology, &overlay.manifests(&topology));
    let agent = &mut agents[0];
    assert!(agent.pins().join("carry/adit_carry").exists());
    agent.stop();
    let printed = agent.run(&["uninstall", "--purge"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert_eq!(wg(&topology.hosts[0], "show interfaces"), "");
    assert!(!agent.pins().join("carry").exists());
    assert!(!agent.state_directory().exists());
}
