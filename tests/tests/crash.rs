//! An agent that crashes between any two changes: the next start reaches the desired state nevertheless.

use adit_tests::agent::start_all;
use adit_tests::crash::{child, crash};
use adit_tests::{Agent, Overlay, Topology, require, traffic};
use dataplane_user::net::Family;
use serde_json::Value;

/// The part of the tests that runs in the process that crashes.
#[test]
fn crashing_child() {
    child();
}

#[test]
fn a_crash_at_any_change_from_an_empty_kernel_is_recovered() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let [a, b] = &topology.hosts;
    let _peer = Agent::started(b, &manifests);
    let mut agent = Agent::new(a, &manifests);
    for after in spread(changes(&agent)) {
        crash(&agent, after, "crashing_child");
        converges(&topology, &mut agent, after);
        agent.stop();
        let uninstalled = agent.run(&["uninstall"]);
        assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    }
}

#[test]
fn a_crash_at_any_change_from_geneve_to_vxlan_is_recovered() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let manifests = |encapsulation| Overlay::new(&topology, encapsulation).manifests(&topology);
    let mut agents = start_all(&topology, &manifests("geneve"));
    let mut next = "vxlan";
    agents[0].stop();
    agents[0].write(&manifests(next));
    let numbers = spread(changes(&agents[0]));
    for after in numbers {
        agents[0].write(&manifests(next));
        agents[1].write(&manifests(next));
        crash(&agents[0], after, "crashing_child");
        agents[1].wait("applying the new version", |status| {
            status.ready && status.peers.iter().all(|peer| peer.encapsulation.name() == next)
        });
        converges(&topology, &mut agents[0], after);
        agents[0].stop();
        next = if next == "vxlan" { "geneve" } else { "vxlan" };
    }
}

/// Asserts that a normal start makes the node ready with nothing left to change, and that traffic flows.
fn converges(topology: &Topology<2>, agent: &mut Agent<'_>, after: usize) {
    agent.start();
    agent.ready();
    let status = agent.status().unwrap();
    assert_eq!(
        (status.reconciliation.residual, status.reconciliation.failed),
        (0, 0),
        "after {after}: {status:#?}"
    );
    let plan = agent.plan(&[]);
    assert_eq!(plan.code, 0, "after {after}: {plan:?}");
    let dump = agent.json(&["map", "dump"]);
    assert_eq!(dump["unreadable_slots"], 0, "after {after}: {dump}");
    assert_eq!(
        dump["next_hops"].as_array().map(Vec::len),
        Some(1),
        "after {after}: {dump}"
    );
    let [from, to] = [0, 1].map(|host| topology.hosts[host].pod_end());
    for family in Family::BOTH {
        traffic::udp(from, to, family, 100).unwrap_or_else(|error| panic!("after {after}: {error}"));
    }
}

/// The number of changes of a start.
fn changes(agent: &Agent<'_>) -> usize {
    let plan = agent.plan(&["-o", "json"]);
    assert_eq!(plan.code, 4, "{plan:?}");
    let plan: Value = serde_json::from_str(&plan.stdout).unwrap();
    plan["changes"].as_array().unwrap().len()
}

/// Five positions in the whole list: after the first change, before the last, and between.
fn spread(changes: usize) -> [usize; 5] {
    assert!(changes > 8, "{changes} changes are too few");
    [1, changes / 4, changes / 2, changes * 3 / 4, changes - 1]
}
