//! Manifests that change while the agent runs: valid ones are applied, invalid ones change nothing.

use std::{fs, iter};

use adit_tests::agent::start_all;
use adit_tests::capture::{Capture, Packet};
use adit_tests::traffic::{self, Probes};
use adit_tests::{Agent, Overlay, Topology, require, snapshot};
use dataplane_user::net::Family;
use dataplane_user::status::PeerStatus;

#[test]
fn devices_are_created_and_deleted_with_their_peers() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<3>::new();
    let all = Overlay {
        requested: vec![("c", "vxlan")],
        ..Overlay::new(&topology, "auto")
    };
    let two = Overlay {
        members: vec!["a", "b"],
        ..all.clone()
    };
    let [a, b, c] = &topology.hosts;
    let agents = [a, b].map(|host| Agent::started(host, &two.manifests(&topology)));
    let late = Agent::started(c, &all.manifests(&topology));
    assert!(!has(&agents[0], "adit-vxlan"));
    let probes = Probes::start(a.end(), b.end(), Family::Ipv4).unwrap();

    agents[0].write(&all.manifests(&topology));
    agents[0].wait("with c", |status| status.ready && status.peers.len() == 2);
    assert!(has(&agents[0], "adit-vxlan") && has(&agents[0], "adit-geneve"));
    for family in Family::BOTH {
        traffic::udp(a.pod_end(), c.pod_end(), family, 100).unwrap();
    }
    agents[0].write(&two.manifests(&topology));
    agents[0].wait("without c", |status| status.ready && status.peers.len() == 1);
    assert!(!has(&agents[0], "adit-vxlan"));
    let gone = agents[0].run(&["map", "lookup", &c.end().address(Family::Ipv4).to_string()]);
    assert_eq!(gone.code, 3, "{gone:?}");
    drop(late);
    let lost = probes.finish().unwrap();
    assert_eq!(lost.lost, 0, "of the link that stayed: {lost:?}");
}

#[test]
fn changes_of_encapsulation_port_and_mtu_are_applied() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let geneve = Overlay::new(&topology, "geneve");
    // Only the files cause reconciliations: the status shows the one that applied the change.
    let manifests = geneve.manifests(&topology);
    let agents = start_all(&topology, &manifests);
    let [a, b] = &topology.hosts;
    let capture = Capture::new(&topology.router);
    let flows_by = |port: u16| {
        drop(capture.packets());
        for family in Family::BOTH {
            traffic::udp(a.pod_end(), b.pod_end(), family, 1200).unwrap();
        }
        let packets = capture.packets();
        assert!(
            packets.iter().filter_map(Packet::port).all(|found| found == port),
            "{packets:?}"
        );
        assert!(packets.iter().any(|packet| packet.port() == Some(port)));
        assert!(!packets.iter().any(Packet::is_in_clear), "{packets:?}");
    };
    let take = |overlay: &Overlay, done: &dyn Fn(&Agent<'_>) -> bool| {
        let manifests = overlay.manifests(&topology);
        let passes = agents
            .iter()
            .map(|agent| agent.status().unwrap().reconciliation.number)
            .collect::<Vec<_>>();
        agents.iter().for_each(|agent| agent.write(&manifests));
        for (agent, before) in agents.iter().zip(passes) {
            // The status before the reconciliation that applies it is ready, too.
            agent.wait("applying it", |status| {
                status.ready && status.reconciliation.number > before && done(agent)
            });
        }
    };
    flows_by(6081);

    let vxlan = Overlay::new(&topology, "vxlan");
    take(&vxlan, &|agent| {
        has(agent, "adit-vxlan") && !has(agent, "adit-geneve")
    });
    flows_by(4789);

    let port = Overlay {
        network: vec!["ports: {vxlan: 8472}"],
        ..vxlan.clone()
    };
    let of_port = |agent: &Agent<'_>| {
        agent
            .host()
            .netns
            .ip("-d link show adit-vxlan")
            .contains("dstport 8472")
    };
    take(&port, &of_port);
    for agent in &agents {
        agent.wait("having recreated a device", |status| status.recreated == 1);
    }
    let log = agents[0].log();
    assert!(
        log.contains("to recreate it (vxlan external dstport 4789"),
        "{log}"
    );
    flows_by(8472);

    let small = Overlay {
        network: vec!["ports: {vxlan: 8472}", "mtu: 1300"],
        ..port
    };
    take(&small, &|agent| {
        agent
            .host()
            .netns
            .ip("route show 10.0.0.0/8 metric 173")
            .contains("mtu 1300")
    });
    assert!(
        a.netns
            .ip("-6 route show fd00::/16 metric 173")
            .contains("mtu 1300")
    );
    assert!(a.netns.ip("link show adit0").contains("mtu 1300"));
    flows_by(8472);
}

#[test]
fn rejected_manifests_leave_the_running_version() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let good = overlay.manifests(&topology);
    let agents = start_all(&topology, &good);
    let [a, b] = &topology.hosts;
    let probes = Probes::start(a.pod_end(), b.pod_end(), Family::Ipv6).unwrap();
    let before = snapshot::everything(&a.netns, &[&agents[0].pins()]);
    let taken = without_counts(agents[0].status().unwrap().peers);
    let other = "spec:\n  network: other\n";
    for (bad, word) in [
        // A syntax error.
        (
            good.replace("prefixes: [10.0.0.0/8", "prefixes: [10.0.0.0/8]"),
            "",
        ),
        (good.replace("  vni:", "  vnni:"), "vni"),
        (good.replace("10.0.0.0/8", "10.0.0.1/8"), "10.0.0.0/8"),
        (good.replace("spec:\n  network: net\n", other), "other"),
        (good.replace("metadata: {name: b}", "metadata: {name: a}"), "a"),
        (good.replace("  vni: 4711", "  vni: many"), "vni"),
    ] {
        let line = 1 + iter::zip(good.lines(), bad.lines())
            .take_while(|(good, bad)| good == bad)
            .count();
        assert_ne!(bad, good);
        agents[0].write(&bad);
        let at = format!("all.yaml:{line}");
        let status = agents[0].wait(&format!("refusing {word:?} at {at}"), |status| {
            status
                .source
                .error
                .as_ref()
                .is_some_and(|error| error.contains(&at) && error.contains(word))
        });
        assert!(!status.ready && status.source.synced, "{status:#?}");
        assert_eq!(without_counts(status.peers), taken);
        assert!(
            status
                .problems
                .iter()
                .any(|problem| problem.reason == "SourceInvalid")
        );
        assert!(agents[0].log().contains(&at));
        assert_eq!(snapshot::everything(&a.netns, &[&agents[0].pins()]), before);
    }

    let lost = probes.finish().unwrap();
    assert!(lost.sent > 20 && lost.lost == 0, "{lost:?}");

    let corrected = Overlay { vni: 17, ..overlay };
    agents
        .iter()
        .for_each(|agent| agent.write(&corrected.manifests(&topology)));
    for agent in &agents {
        agent.wait("applying the corrected version", |status| {
            status.ready && status.networks[0].vni == 17
        });
    }
    assert_eq!(agents[0].status().unwrap().source.error, None);
}

#[test]
fn a_node_that_the_manifests_lack_removes_nothing() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let good = overlay.manifests(&topology);
    let agents = start_all(&topology, &good);
    let [a, b] = &topology.hosts;
    let before = snapshot::everything(&a.netns, &[&agents[0].pins()]);
    let without = Overlay {
        members: vec!["b"],
        ..overlay
    };
    agents[0].write(&without.manifests(&topology));
    let absent = |agent: &Agent<'_>| {
        let status = agent.wait("absent", |status| {
            status
                .problems
                .iter()
                .any(|problem| problem.reason == "NodeAbsent")
        });
        assert!(!status.ready, "{status:#?}");
        assert_eq!(snapshot::everything(&a.netns, &[&agent.pins()]), before);
        for family in Family::BOTH {
            traffic::udp(a.end(), b.end(), family, 100).unwrap();
        }
    };
    absent(&agents[0]);
    agents[0].write(&good);
    agents[0].ready();
    fs::remove_file(agents[0].manifests().join("all.yaml")).unwrap();
    absent(&agents[0]);
    agents[0].write(&good);
    agents[0].ready();
    assert_eq!(snapshot::everything(&a.netns, &[&agents[0].pins()]), before);
}

fn has(agent: &Agent<'_>, device: &str) -> bool {
    agent
        .host()
        .netns
        .ip("-o link show group 173")
        .contains(&format!(" {device}:"))
}

/// Peers without what the probes change.
fn without_counts(peers: Vec<PeerStatus>) -> Vec<PeerStatus> {
    peers
        .into_iter()
        .map(|peer| PeerStatus {
            path: None,
            received: None,
            ..peer
        })
        .collect()
}
