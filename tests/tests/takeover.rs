//! An agent that finds another map ABI's dataplane: an older one is taken over without losing a packet, also by an agent
//! that dies on the way; a newer one is left alone.

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

/// The other half of the tests here, in the process that dies.
#[test]
fn crashing_child() {
    child();
}

#[test]
fn an_older_version_is_taken_over_without_a_lost_packet() {
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
fn dying_on_the_way_loses_no_packet() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agents = start_all(&topology, &manifests);
    let probes = probes(&topology);
    let agent = &mut agents[0];
    let mut older = make_older(agent);
    let whole = changes(agent).len();
    assert!(whole > 6, "{whole} changes take nothing over");
    // While our maps are filled, then around the takeover of each program and before the older pins go.
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
fn a_newer_version_is_left_alone() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agents = start_all(&topology, &manifests);
    let probes = probes(&topology);
    let agent = &mut agents[0];
    let newer = agent.pins().join(format!("v{}", ABI_VERSION + 1));

    // Beside a running agent: it touches nothing while it is there, and goes on afterwards.
    fs::create_dir(&newer).unwrap();
    let named = newer.to_str().unwrap().to_owned();
    let is_told = |text: &str| text.contains(&named) && text.contains("adit uninstall");
    let status = agent.next_pass();
    let told = status.problems.iter().any(|problem| is_told(&problem.message));
    assert!(told, "{status:#?}");
    fs::remove_dir(&newer).unwrap();
    assert!(agent.next_pass().ready);
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

    // All of it, and an older one's too.
    fs::create_dir_all(agent.pins().join("v0/maps")).unwrap();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(!agent.pins().exists());
}

/// This version's directory.
fn own(agent: &Agent<'_>) -> PathBuf {
    agent.pins().join(format!("v{ABI_VERSION}"))
}

/// Stops an agent where one runs, and makes what it has left an older version's; returns that one's directory.
fn make_older(agent: &mut Agent<'_>) -> PathBuf {
    agent.stop();
    let older = agent.pins().join(format!("v{}", ABI_VERSION - 1));
    fs::rename(own(agent), &older).unwrap();
    older
}

/// Nothing is left of the older version, and each hook has one program.
fn taken_over(agent: &Agent<'_>, older: &Path) {
    let status = agent.status().unwrap();
    assert_eq!((status.pass.residual, status.pass.failed), (0, 0), "{status:#?}");
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

/// What a start would change, in words.
fn changes(agent: &Agent<'_>) -> Vec<String> {
    let plan = agent.plan(&["-o", "json"]);
    assert_eq!(plan.code, 4, "{plan:?}");
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    let changes = plan["changes"].as_array().unwrap().iter();
    changes
        .map(|change| change["text"].as_str().unwrap().to_owned())
        .collect()
}

/// Both ways of the taken-over node are in each probe: it sends by the egress program, and its answer comes in by the
/// ingress program.
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
