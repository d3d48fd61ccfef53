//! The dataplane without its agent: it continues to forward, can be inspected, and is adopted without losing a packet.

use std::fs;

use adit_tests::agent::{is_settled, start_all};
use adit_tests::traffic::{self, Lost, Probes};
use adit_tests::{Agent, Overlay, Topology, require, snapshot};
use dataplane_ebpf::layout::{ABI_VERSION, names};
use dataplane_user::kernel::bpf::{self, is_locked};
use dataplane_user::model::Hook;
use dataplane_user::net::Family;
use serde_json::Value;

#[test]
fn a_killed_and_restarted_agent_loses_no_packet() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agents = start_all(&topology, &manifests);
    let [a, b] = &topology.hosts;
    let probes = Family::BOTH.map(|family| Probes::start(a.pod_end(), b.pod_end(), family).unwrap());

    let received = |agent: &Agent<'_>| agent.status().unwrap().peers[0].received.unwrap().packets;
    let counted = received(&agents[0]);
    agents[0].kill();
    assert_eq!(
        snapshot::programs(&a.netns, "adit0", Hook::Egress),
        1,
        "without its agent"
    );
    let before = snapshot::everything(&a.netns, &[]);
    let maps = map_ids(&agents[0]);
    assert!(!maps.is_empty());
    agents[0].start();
    agents[0].ready();
    let status = agents[0].status().unwrap();
    assert!(received(&agents[0]) >= counted, "its counts went on");
    // Objects with the same id were not recreated.
    assert_eq!(map_ids(&agents[0]), maps);
    assert_eq!(snapshot::everything(&a.netns, &[]), before);
    assert_eq!(status.reconciliation.residual, 0);
    agents[0].kill();
    let plan = agents[0].plan(&[]);
    assert_eq!(plan.code, 0, "{plan:?}");

    for probes in probes {
        let Lost { sent, lost } = probes.finish().unwrap();
        assert!(sent > 20, "{sent} probes show nothing");
        assert_eq!(lost, 0, "of {sent}");
    }
}

#[test]
fn a_stopped_agent_forwards_and_its_maps_can_be_read() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "vxlan").manifests(&topology);
    let mut agents = start_all(&topology, &manifests);
    let [a, b] = &topology.hosts;
    let second = agents[0].plan(&[]);
    assert_eq!(
        (second.code, second.stdout.trim()),
        (0, "Nothing to do."),
        "{second:?}"
    );
    let waited = agents[0].run(&["status", "--wait", "--timeout", "60"]);
    assert_eq!(waited.code, 0, "{waited:?}");
    // A second agent with the same directories is refused, and the first continues.
    let manifests = agents[0].manifests();
    let refused = agents[0].run(&["run", "--node", "a", "-f", manifests.to_str().unwrap()]);
    assert_eq!(refused.code, 8, "{refused:?}");
    assert!(agents[0].status().unwrap().ready);

    agents.iter_mut().for_each(Agent::stop);
    assert_eq!(agents[0].run(&["status"]).code, 3);
    for family in Family::BOTH {
        traffic::all(a.pod_end(), b.pod_end(), family).unwrap();
    }
    let dump = agents[0].json(&["map", "dump"]);
    let prefixes = dump["prefixes"].as_array().unwrap();
    for prefix in b.prefixes() {
        assert!(
            prefixes.iter().any(|entry| entry["prefix"] == prefix.as_str()),
            "{dump}"
        );
    }
    let pod = b.pod_end().address(Family::Ipv6).to_string();
    let found = agents[0].json(&["map", "lookup", &pod]);
    assert_eq!(found["next_hops"][0]["node"], "b", "{found}");
    assert_eq!(agents[0].run(&["map", "lookup", "10.77.0.1"]).code, 3);
    let stats = agents[0].json(&["map", "stats"]);
    assert!(stats["next_hops"][0]["packets"].as_u64() > Some(10), "{stats}");
    let nowhere = Agent::new(b, "").run(&["map", "dump"]);
    assert_eq!(nowhere.code, 3, "{nowhere:?}");
}

#[test]
fn removed_pins_are_restored_and_the_next_agent_adopts_the_maps() {
    require!(modules: "dummy", "geneve", "wireguard");
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        requested: vec![("b", "geneve"), ("c", "wireguard")],
        ..Overlay::new(&topology, "auto")
    };
    let mut agents = start_all(&topology, &overlay.manifests(&topology));
    let [agent, ..] = &mut agents;
    let [a, b, c] = &topology.hosts;
    let maps = map_ids(agent);
    assert!(maps.iter().any(|(path, _)| path.contains("carry")), "{maps:?}");
    fs::remove_dir_all(agent.pins()).unwrap();
    assert_eq!(agent.run(&["map", "dump"]).code, 3);

    let status = agent.next_reconciliation();
    assert!(status.ready, "{status:#?}");
    assert_eq!(status.repairs.kinds.get("map"), Some(&1), "{status:#?}");
    assert_eq!(map_ids(agent), maps, "the same maps are pinned again");
    assert_eq!(agent.run(&["map", "dump"]).code, 0);
    is_settled(agent);
    for host in [b, c] {
        for family in Family::BOTH {
            traffic::all(a.pod_end(), host.pod_end(), family).unwrap();
        }
    }

    let probes = Family::BOTH.map(|family| Probes::start(a.pod_end(), b.pod_end(), family).unwrap());
    agent.kill();
    agent.start();
    agent.ready();
    assert_eq!(map_ids(agent), maps);
    is_settled(agent);
    for probes in probes {
        let Lost { sent, lost } = probes.finish().unwrap();
        assert_eq!(lost, 0, "of {sent}");
    }

    // A single pin, and a directory that is locked by the agent again.
    let pin = agent
        .pins()
        .join(format!("v{ABI_VERSION}/maps"))
        .join(names::GROUPS);
    fs::remove_file(&pin).unwrap();
    let status = agent.next_reconciliation();
    assert_eq!(
        (status.reconciliation.changed, status.repairs.total),
        (1, 1),
        "{status:#?}"
    );
    assert_eq!(map_ids(agent), maps);
    let locked = bpf::lock(&agent.pins()).unwrap_err();
    assert!(is_locked(&locked), "{locked}");
    agent.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(!agent.pins().exists());
}

/// The kernel ids of the pinned maps.
fn map_ids(agent: &Agent<'_>) -> Vec<(String, u64)> {
    let all: Value =
        serde_json::from_str(&snapshot::run(&agent.host().netns, "bpftool", "-j -f map show")).unwrap();
    let pins = agent.pins();
    let pinned = all.as_array().unwrap().iter().flat_map(|map| {
        let paths = map["pinned"].as_array().into_iter().flatten();
        paths.filter_map(|path| Some((path.as_str()?.to_owned(), map["id"].as_u64()?)))
    });
    let mut ids = pinned
        .filter(|(path, _)| path.starts_with(pins.to_str().unwrap()))
        .collect::<Vec<_>>();
    ids.sort();
    ids
}
