//! An agent that finds a dataplane with another map ABI: an older one is adopted without losing a packet, also if the
//! agent crashes meanwhile; a newer one is not changed.

use std::fs;
use std::path::{Path, PathBuf};

use adit_tests::agent::start_all;
use adit_tests::crash::{child, crash};
use adit_tests::traffic::{self, Lost, Probes};
use adit_tests::{Agent, NetNs, Overlay, Topology, require, snapshot};
use dataplane_ebpf::layout::ABI_VERSION;
use dataplane_user::model::Hook;
use dataplane_user::net::Family;
use serde_json::Value;

/// The part of the tests that runs in the process that crashes.
#[test]
fn crashing_child() {
    child();
}

#[test]
fn an_older_version_is_adopted_without_a_lost_packet() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agents = start_all(&topology, &manifests);
    let probes = probes(&topology);
    let agent = &mut agents[0];
    let older = make_older(agent);

    let before = look(agent);
    let planned = changes(agent);
    assert_eq!(look(agent), before, "a plan changes nothing");
    let version = format!("delete what map ABI {} has left", ABI_VERSION - 1);
    assert!(planned.contains(&version), "{planned:?}");
    assert!(
        planned
            .iter()
            .any(|text| text.starts_with("take over the egress program of adit0")),
        "{planned:?}"
    );

    agent.start();
    agent.ready();
    taken_over(agent, &older);
    assert!(agent.pins().join("carry").exists());
    no_loss(probes);
    for family in Family::BOTH {
        traffic::all(topology.hosts[0].pod_end(), topology.hosts[1].pod_end(), family).unwrap();
    }
}

#[test]
fn a_crash_during_the_adoption_loses_no_packet() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agents = start_all(&topology, &manifests);
    let probes = probes(&topology);
    let agent = &mut agents[0];
    let mut older = make_older(agent);
    let whole = changes(agent).len();
    assert!(whole > 6, "{whole} changes take nothing over");
    // While the maps are filled, around the replacement of each program, and before the older pins are deleted.
    for after in [1, whole / 2, whole - 3, whole - 2, whole - 1] {
        crash(agent, after, "crashing_child");
        assert_eq!(programs(&topology.hosts[0].netns), [1, 1], "after {after}");
        agent.start();
        agent.ready();
        taken_over(agent, &older);
        older = make_older(agent);
        assert_eq!(changes(agent).len(), whole);
    }
    no_loss(probes);
}

#[test]
fn a_newer_version_is_not_changed() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agents = start_all(&topology, &manifests);
    let probes = probes(&topology);
    let agent = &mut agents[0];
    let newer = agent.pins().join(format!("v{}", ABI_VERSION + 1));

    // Pins of a newer version beside a running agent: it changes nothing while they exist, and continues afterwards.
    fs::create_dir(&newer).unwrap();
    let named = newer.to_str().unwrap().to_owned();
    let is_told = |text: &str| text.contains(&named) && text.contains("adit uninstall");
    let status = agent.next_reconciliation();
    let told = status.problems.iter().any(|problem| is_told(&problem.message));
    assert!(told, "{status:#?}");
    fs::remove_dir(&newer).unwrap();
    assert!(agent.next_reconciliation().ready);
    agent.stop();

    fs::rename(own(agent), &newer).unwrap();
    let before = look(agent);
    let path = agent.manifests();
    let run = agent.run(&["run", "--node", "a", "-f", path.to_str().unwrap()]);
    for refused in [run, agent.plan(&[])] {
        assert_eq!(refused.code, 8, "{refused:?}");
        assert!(is_told(&refused.stderr), "{refused:?}");
    }
    assert_eq!(look(agent), before);
    no_loss(probes);

    // Everything of this version, and of an older one.
    fs::create_dir_all(agent.pins().join("v0/maps")).unwrap();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(!agent.pins().exists());
}

/// The pin directory of this version.
fn own(agent: &Agent<'_>) -> PathBuf {
    agent.pins().join(format!("v{ABI_VERSION}"))
}

/// Stops a running agent and turns its pins into those of an older version; returns the directory of that version.
fn make_older(agent: &mut Agent<'_>) -> PathBuf {
    agent.stop();
    let older = agent.pins().join(format!("v{}", ABI_VERSION - 1));
    fs::rename(own(agent), &older).unwrap();
    older
}

/// Asserts that nothing is left of the older version, and that each hook has one program.
fn taken_over(agent: &Agent<'_>, older: &Path) {
    let status = agent.status().unwrap();
    assert_eq!(
        (status.reconciliation.residual, status.reconciliation.failed),
        (0, 0),
        "{status:#?}"
    );
    assert!(!older.exists());
    assert_eq!(programs(&agent.host().netns), [1, 1]);
    let plan = agent.plan(&[]);
    assert_eq!(plan.code, 0, "{plan:?}");
}

fn programs(netns: &NetNs) -> [usize; 2] {
    [("adit0", Hook::Egress), ("adit-geneve", Hook::Ingress)]
        .map(|(device, hook)| snapshot::programs(netns, device, hook))
}

fn look(agent: &Agent<'_>) -> String {
    snapshot::everything(&agent.host().netns, &[&agent.pins()])
}

/// The changes of a start, as text.
fn changes(agent: &Agent<'_>) -> Vec<String> {
    let plan = agent.plan(&["-o", "json"]);
    assert_eq!(plan.code, 4, "{plan:?}");
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    let changes = plan["changes"].as_array().unwrap().iter();
    changes
        .map(|change| change["text"].as_str().unwrap().to_owned())
        .collect()
}

/// Each probe tests both directions: the node sends by the egress program, and the answer arrives by the ingress program.
fn probes(topology: &Topology<2>) -> [Probes; 2] {
    let [a, b] = &topology.hosts;
    Family::BOTH.map(|family| Probes::start(a.pod_end(), b.pod_end(), family).unwrap())
}

fn no_loss(probes: [Probes; 2]) {
    for probes in probes {
        let Lost { sent, lost } = probes.finish().unwrap();
        println!("{sent} probes, {lost} lost");
        assert!(sent > 20, "{sent} probes show nothing");
        assert_eq!(lost, 0, "of {sent}");
    }
}
