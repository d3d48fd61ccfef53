//! Links by WireGuard: which devices nodes meet on, whose keys are taken, where peers are, and that no secret shows.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use adit_tests::agent::{start_all, start_all_as};
use adit_tests::capture::{Capture, Packet};
use adit_tests::topology::{Host, SHARED_V4, SHARED_V6};
use adit_tests::traffic::{Lost, Probes};
use adit_tests::{Agent, Bpffs, Overlay, Topology, flows, require_module, traffic, unreadable};
use dataplane_user::kernel::wireguard::generate;
use dataplane_user::net::Family;
use dataplane_user::status::Status;

/// What the tests need of the kernel.
fn possible() -> bool {
    ["dummy", "geneve", "wireguard"].into_iter().all(require_module)
}

/// Names are looked up all the time.
const SHORT: &str = "names=100,waiting=100";

/// What the real `wg` prints on a host.
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
        .map(|peer| (peer.node.as_str(), peer.encapsulation.as_str()))
        .collect()
}

fn has_problem(status: &Status, severity: &str, reason: &str) -> bool {
    status
        .problems
        .iter()
        .any(|problem| problem.severity == severity && problem.reason == reason)
}

#[test]
fn peers_that_carry_one_prefix_are_met_on_different_devices() {
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
fn each_pair_takes_what_its_ends_and_the_network_say() {
    if !possible() {
        return;
    }
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        wishes: vec![("b", "vxlan"), ("c", "wireguard")],
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
fn another_key_than_the_manifests_turns_wireguard_off_and_nothing_else() {
    if !possible() {
        return;
    }
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        wishes: vec![("c", "wireguard")],
        ..Overlay::new(&topology, "geneve")
    };
    let mut agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b, c] = &topology.hosts;
    traffic::ping(a.end(), c.end(), Family::Ipv4).unwrap();
    let own = a.private_key();
    agents[0].set_key(&generate::private_key().unwrap());
    let status = agents[0].next_pass();
    assert!(
        has_problem(&status, "error", "KeyMismatch") && !status.ready,
        "{status:#?}"
    );
    assert_eq!(links(&status), [("b", "geneve")].into());
    let refused: Vec<_> = status
        .refused
        .iter()
        .map(|refused| (refused.to.as_str(), refused.family.as_str()))
        .collect();
    assert_eq!(refused, [("c", "ipv4"), ("c", "ipv6")]);
    assert_eq!(wg(a, "show interfaces"), "");
    traffic::ping(a.end(), b.end(), Family::Ipv6).unwrap();
    assert_eq!(agents[0].plan(&[]).code, 5, "nothing can be done");

    agents[0].set_key(&own);
    assert!(agents[0].next_pass().ready);
    traffic::ping(a.end(), c.end(), Family::Ipv6).unwrap();

    // A file that others can read is no key: a device that has one keeps it, and none is given one.
    let file = agents[0].state_directory().join("wireguard.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let status = agents[0].next_pass();
    assert!(has_problem(&status, "warning", "KeyUnreadable"), "{status:#?}");
    let text = format!("{:?}", status.problems);
    assert!(status.ready && text.contains("chmod 600"), "{text}");
    agents[0].stop();
    agents[0].start();
    let status = agents[0].wait("told", |status| has_problem(status, "error", "KeyUnreadable"));
    assert!(
        format!("{:?}", status.problems).contains("chmod 600"),
        "{status:#?}"
    );
    traffic::ping(a.end(), c.end(), Family::Ipv6).unwrap();
    a.netns.ip("link delete adit-wg0");
    agents[0].wait("without a key", |status| {
        has_problem(status, "error", "ApplyFailed")
    });
    assert_eq!(wg(a, "show adit-wg0 private-key"), "(none)");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    agents[0].ready();
    traffic::ping(a.end(), c.end(), Family::Ipv6).unwrap();
    agents[0].stop();
}

#[test]
fn keys_that_cannot_be_read_for_a_while_cost_no_packet() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("preshared");
    let preshared = generate::preshared_key().unwrap();
    fs::write(&file, preshared.to_base64().as_bytes()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys[1].1 = format!("presharedKeyFile: {}", file.display());
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b] = &topology.hosts;
    let probes = Family::BOTH.map(|family| Probes::start(a.pod_end(), b.pod_end(), family).unwrap());
    let own = agents[0].state_directory().join("wireguard.key");
    for (path, subject) in [
        (&own, "TunnelNode/a".to_owned()),
        (&file, format!("preshared key {}", file.display())),
    ] {
        unreadable::each_way(path, |way| {
            let status = agents[0].reconciled(&format!("told that {path:?} {way}"), |status| {
                let mut problems = status.problems.iter();
                problems.any(|problem| problem.reason == "KeyUnreadable" && problem.subject == subject)
            });
            assert!(status.ready && status.repairs.total == 0, "{status:#?}");
            let next = agents[0].next_pass();
            assert_eq!(next.pass.changed, 0, "{path:?} {way}: {next:#?}");
        });
        agents[0].reconciled("read again", |status| status.problems.is_empty());
    }
    for probes in probes {
        let Lost { sent, lost } = probes.finish().unwrap();
        assert!(sent > 20, "{sent} probes show nothing");
        assert_eq!(lost, 0, "of {sent}");
    }
}

#[test]
fn a_preshared_key_that_cannot_be_read_at_the_start_costs_no_link() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("preshared");
    let preshared = generate::preshared_key().unwrap();
    fs::write(&file, preshared.to_base64().as_bytes()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys[1].1 = format!("presharedKeyFile: {}", file.display());
    let mut agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b] = &topology.hosts;
    let probes = Family::BOTH.map(|family| Probes::start(a.pod_end(), b.pod_end(), family).unwrap());
    unreadable::each_way(&file, |way| {
        if way == unreadable::GONE {
            return;
        }
        for agent in &mut agents {
            agent.stop();
            agent.start();
            let told = |status: &Status| has_problem(status, "error", "KeyUnreadable");
            agent.wait("told", told);
            // The first one has replaced the programs by its own.
            let next = agent.next_pass();
            assert!(told(&next) && next.pass.changed == 0, "{way}: {next:#?}");
        }
    });
    for agent in &agents {
        agent.reconciled("read again", |status| status.problems.is_empty());
    }
    for probes in probes {
        let Lost { sent, lost } = probes.finish().unwrap();
        assert!(sent > 20, "{sent} probes show nothing");
        assert_eq!(lost, 0, "of {sent}");
    }
}

#[test]
fn a_peer_without_key_is_refused_alone() {
    if !possible() {
        return;
    }
    let topology = Topology::<3>::new();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys.retain(|(name, _)| *name != "c");
    let manifests = overlay.manifests(&topology);
    let mut agents: Vec<_> = topology.hosts[..2]
        .iter()
        .map(|host| Agent::new(host, &manifests))
        .collect();
    agents.iter_mut().for_each(Agent::start);
    agents.iter().for_each(Agent::ready);
    let status = agents[0].status().unwrap();
    assert_eq!(links(&status), [("b", "wireguard")].into());
    assert!(has_problem(&status, "warning", "Incomplete"), "{status:?}");
    assert_eq!(status.refused.len(), 2);
    traffic::ping(topology.hosts[0].end(), topology.hosts[1].pod_end(), Family::Ipv4).unwrap();
}

#[test]
fn a_roamed_peer_stays_where_it_is_until_another_endpoint_is_configured() {
    roams("dataplane: ebpf", |agent| agent);
}

#[test]
fn a_roamed_peer_stays_where_it_is_also_without_a_bpf_file_system() {
    roams("dataplane: routes", |agent| agent.with_bpffs(Bpffs::unmounted()));
}

fn roams(dataplane: &'static str, prepare: impl for<'a> Fn(Agent<'a>) -> Agent<'a>) {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let mut overlay = Overlay {
        network: vec![dataplane],
        ..Overlay::new(&topology, "wireguard")
    };
    let mut agents = start_all_as(&topology, &overlay.manifests(&topology), prepare);
    let [a, b] = &topology.hosts;
    traffic::ping(a.end(), b.end(), Family::Ipv4).unwrap();
    agents[1].stop();
    wg(b, "set adit-wg0 listen-port 41820");
    traffic::ping(b.end(), a.end(), Family::Ipv4).unwrap();
    let endpoint = || wg(a, "show adit-wg0 endpoints");
    let address = b.underlay(Family::Ipv4);
    let roamed = format!("{}\t{address}:41820", key(b));
    assert_eq!(endpoint(), roamed);
    agents[0].next_pass();
    assert_eq!(endpoint(), roamed);
    agents[0].stop();
    agents[0].start();
    agents[0].ready();
    agents[0].next_pass();
    assert_eq!(endpoint(), roamed, "a restart knows what was configured last");
    traffic::ping(a.end(), b.end(), Family::Ipv6).unwrap();

    overlay.keys[1].1 = format!("endpoint: '{address}:4711'");
    agents[0].take(&overlay.manifests(&topology));
    assert!(endpoint().ends_with(":4711"), "{}", endpoint());
    overlay.keys[1].1.clear();
    agents[0].take(&overlay.manifests(&topology));
    assert!(endpoint().ends_with(":51820"), "{}", endpoint());
}

#[test]
fn a_name_is_looked_up_before_a_handshake_can_grow_old_however_rare_passes_are() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys[1].1 = "endpoint: 'b.adit.example:51820'".to_owned();
    let [a, b] = &topology.hosts;
    let at = |family| format!("{} b.adit.example\n", b.underlay(family));
    let manifests = overlay.manifests(&topology);
    let mut agent = Agent::new(a, &manifests)
        .with_hosts(&at(Family::Ipv6))
        .with_pauses(SHORT);
    agent.start();
    agent.ready();
    agent.write_hosts(&at(Family::Ipv4));
    agent.wait("moved", |_| {
        wg(a, "show adit-wg0 endpoints").contains(&b.underlay(Family::Ipv4).to_string())
    });
}

#[test]
fn the_name_of_an_endpoint_is_looked_up_again() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys[1].1 = "endpoint: 'b.adit.example:51820'".to_owned();
    let manifests = overlay.manifests(&topology);
    let [a, b] = &topology.hosts;
    let mut agents = [
        Agent::new(a, &manifests)
            .with_hosts("127.0.0.1 localhost\n")
            .with_pauses(SHORT),
        Agent::new(b, &manifests),
    ];
    agents.iter_mut().for_each(Agent::start);
    agents[1].ready();
    agents[0].wait("told", |status| has_problem(status, "warning", "NameUnresolved"));
    assert_eq!(wg(a, "show adit-wg0 endpoints"), format!("{}\t(none)", key(b)));

    let at = |family| format!("{} b.adit.example\n", b.underlay(family));
    agents[0].write_hosts(&at(Family::Ipv6));
    agents[0].wait("solved", |status| status.problems.is_empty());
    let status = agents[0].next_pass();
    let shown = |family| match family {
        Family::Ipv4 => format!("{}\t{}:51820", key(b), b.underlay(family)),
        Family::Ipv6 => format!("{}\t[{}]:51820", key(b), b.underlay(family)),
    };
    assert_eq!(wg(a, "show adit-wg0 endpoints"), shown(Family::Ipv6));
    assert_eq!(
        status.networks[0].mtu, 1420,
        "the way to the endpoint counts, and its family"
    );
    traffic::ping(a.end(), b.end(), Family::Ipv4).unwrap();

    // Of both, the link's underlay family; the other one is used no longer.
    agents[0].write_hosts(&at(Family::Ipv4));
    agents[0].wait("moved", |_| {
        wg(a, "show adit-wg0 endpoints") == shown(Family::Ipv4)
    });
    assert_eq!(agents[0].next_pass().networks[0].mtu, 1440);
    // What was known stays while nobody answers.
    agents[0].write_hosts("");
    let looks = || {
        agents[0]
            .log()
            .matches("b.adit.example can't be looked up")
            .count()
    };
    let before = looks();
    agents[0].wait("looking", |_| looks() > before);
    agents[0].next_pass();
    assert_eq!(wg(a, "show adit-wg0 endpoints"), shown(Family::Ipv4));
    assert!(agents[0].status().unwrap().ready);
}

#[test]
fn what_others_change_is_put_right() {
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
        agents[0].next_pass();
        assert_eq!(wg(a, "showconf adit-wg0"), before, "{damage}");
        traffic::ping(a.end(), b.end(), Family::Ipv4).unwrap();
    }
    assert_eq!(agents[0].plan(&[]).code, 0);
}

#[test]
fn a_foreign_device_in_the_way_is_a_conflict_and_stays() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "wireguard");
    let a = &topology.hosts[0];
    a.netns.ip("link add adit-wg0 type wireguard");
    let mut agent = Agent::new(a, &overlay.manifests(&topology));
    agent.start();
    let status = agent.wait("told", |status| has_problem(status, "error", "Conflict"));
    assert!(!status.ready);
    assert_eq!(wg(a, "show adit-wg0 listen-port"), "0", "it is left alone");
    agent.stop();
    let printed = agent.run(&["uninstall"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert_eq!(wg(a, "show interfaces"), "adit-wg0");
}

#[test]
fn uninstall_leaves_neither_devices_nor_what_was_carried() {
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

#[test]
fn no_secret_shows_in_what_the_agent_says() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("preshared");
    let preshared = generate::preshared_key().unwrap();
    fs::write(&file, preshared.to_base64().as_bytes()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys[1].1 = format!("presharedKeyFile: {}", file.display());
    let manifests = overlay.manifests(&topology);
    let hosts = topology.hosts.iter();
    let mut agents: Vec<_> = hosts
        .map(|host| Agent::new(host, &manifests).with_log("trace"))
        .collect();
    agents.iter_mut().for_each(Agent::start);
    agents.iter().for_each(Agent::ready);
    let [a, b] = &topology.hosts;
    traffic::ping(a.end(), b.end(), Family::Ipv4).unwrap();
    let shown = wg(a, "show adit-wg0 preshared-keys");
    assert_eq!(shown, format!("{}\t{}", key(b), preshared.to_base64().as_str()));

    // Something to be said of each: a damage, its repair, a refusal.
    wg(
        a,
        &format!("set adit-wg0 private-key /dev/null peer {} remove", key(b)),
    );
    let mut said = format!("{:?}", agents[0].next_pass());
    fs::write(&file, "no key").unwrap();
    let status = agents[0].next_pass();
    assert!(has_problem(&status, "warning", "KeyUnreadable"), "{status:#?}");
    said += &format!("{status:?}");
    for words in [
        ["status", "-o", "json"],
        ["status", "-o", "wide"],
        ["map", "dump", "-ojson"],
    ] {
        let printed = agents[0].run(&words);
        said += &printed.stdout;
        said += &printed.stderr;
    }
    said += &agents[0].plan(&[]).stdout;
    said += &agents[0].log();
    assert!(said.contains(&key(b)) && said.contains("TRACE"), "{said}");
    for secret in [a.private_key(), b.private_key()] {
        assert_hidden(secret.as_bytes(), &secret.to_base64(), &said);
    }
    assert_hidden(preshared.as_bytes(), &preshared.to_base64(), &said);
}

/// None of a secret's usual forms is in a text.
fn assert_hidden(secret: &[u8; 32], base64: &str, text: &str) {
    let decimal: Vec<_> = secret[..6].iter().map(ToString::to_string).collect();
    let hex: Vec<_> = secret[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    for form in [&base64[..42], &decimal.join(", "), &hex.concat(), &hex.join(" ")] {
        assert!(!text.contains(form), "{form} is in {text}");
    }
}
