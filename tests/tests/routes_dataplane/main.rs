//! Networks without BPF programs: the same traffic by routes, next-hop objects and neighbours.

mod repair;
mod switching;
mod withdrawal;

use std::net::IpAddr;

use adit_tests::agent::start_all;
use adit_tests::topology::{Host, SHARED_V4, SHARED_V6};
use adit_tests::traffic::{self, refusal};
use adit_tests::{Agent, Overlay, Topology, flows, require_module};
use dataplane_user::net::Family;
use nix::errno::Errno;

const ROUTES: &str = "dataplane: routes";

fn has_modules() -> bool {
    ["dummy", "geneve"].iter().all(|module| require_module(module))
}

/// Three hosts, of which the second and the third advertise the same prefixes.
fn shared<'a>(topology: &'a Topology<3>, network: Vec<&'static str>) -> (Overlay, [Agent<'a>; 3]) {
    weighted(topology, network, Vec::new())
}

/// As [`shared`], with weights.
fn weighted<'a>(
    topology: &'a Topology<3>,
    network: Vec<&'static str>,
    weights: Vec<(&'static str, u8)>,
) -> (Overlay, [Agent<'a>; 3]) {
    let overlay = Overlay {
        shared: vec!["b", "c"],
        requested: vec![("c", "vxlan")],
        network,
        weights,
        ..Overlay::new(topology, "auto")
    };
    topology.hosts[1..].iter().for_each(Host::take_shared_address);
    // The kernel hashes only addresses unless it is configured to include ports.
    for name in [
        "net/ipv4/fib_multipath_hash_policy",
        "net/ipv6/fib_multipath_hash_policy",
    ] {
        topology.hosts[0].netns.sysctl(name, "1");
    }
    let agents = start_all(topology, &overlay.manifests(topology));
    (overlay, agents)
}

#[test]
fn a_group_is_shared_and_a_second_reconciliation_changes_nothing() {
    if !has_modules() {
        return;
    }
    let topology = Topology::<3>::new();
    let (_, agents) = shared(&topology, vec![ROUTES]);
    let [_, b, c] = &topology.hosts;
    for address in [IpAddr::V4(SHARED_V4), IpAddr::V6(SHARED_V6)] {
        flows::reach_both(&agents[0], [b, c], address);
    }
    for agent in &agents {
        let status = agent.next_reconciliation();
        assert_eq!(
            (status.reconciliation.changed, status.reconciliation.residual),
            (0, 0),
            "{status:?}"
        );
        let planned = agent.plan(&[]);
        assert_eq!(planned.code, 0, "{planned:?}");
    }
}

#[test]
fn flows_are_distributed_by_weight_by_ebpf() {
    are_shared_by_weight(vec![]);
}

#[test]
fn flows_are_distributed_by_weight_by_routes() {
    are_shared_by_weight(vec![ROUTES]);
}

#[test]
fn flows_are_distributed_by_weight_in_resilient_groups() {
    are_shared_by_weight(vec![ROUTES, "routes: {resilient: true}"]);
}

fn are_shared_by_weight(network: Vec<&'static str>) {
    if !has_modules() {
        return;
    }
    const FLOWS: usize = 240;
    let topology = Topology::<3>::new();
    let (overlay, agents) = weighted(&topology, network, vec![("b", 3)]);
    let [_, b, c] = &topology.hosts;
    for address in [IpAddr::V4(SHARED_V4), IpAddr::V6(SHARED_V6)] {
        let [to_b, to_c] = flows::shares(&agents[0], [b, c], address, FLOWS);
        println!("{:?}, {address}: {to_b} to {to_c}", overlay.network);
        // Of 240 flows 180 are expected; 30 are four and a half standard deviations.
        assert!((150..=210).contains(&to_b), "{address}: {to_b} to {to_c}");
    }
}

#[test]
fn a_resilient_group_works_in_a_separate_table() {
    if !has_modules() {
        return;
    }
    let topology = Topology::<3>::new();
    let (_, agents) = shared(&topology, vec![ROUTES, "routes: {table: 1730, resilient: true}"]);
    let [a, b, c] = &topology.hosts;
    for address in [IpAddr::V4(SHARED_V4), IpAddr::V6(SHARED_V6)] {
        flows::reach_both(&agents[0], [b, c], address);
    }
    for family in Family::BOTH {
        traffic::all(a.end(), b.end(), family).unwrap();
        traffic::all(c.pod_end(), a.pod_end(), family).unwrap();
    }
    assert!(a.netns.ip("nexthop show").contains("type resilient"));
    for words in ["rule show", "-6 rule show"] {
        assert!(
            a.netns
                .ip(words)
                .contains("1730:\tfrom all lookup 1730 proto 173"),
            "{}",
            a.netns.ip(words)
        );
    }
    let main = a.netns.ip("route show table main proto 173");
    assert!(main.lines().all(|line| line.starts_with("unreachable")), "{main}");
    assert!(a.netns.ip("route show table 1730").contains("throw 10.1.1.0/24"));
    let status = agents[0].next_reconciliation();
    assert_eq!(status.reconciliation.changed, 0, "{status:?}");
}

#[test]
fn a_destination_that_no_node_advertises_is_unreachable() {
    if !has_modules() {
        return;
    }
    let topology = Topology::<2>::new();
    let overlay = Overlay {
        network: vec![ROUTES],
        ..Overlay::new(&topology, "geneve")
    };
    let _agents = start_all(&topology, &overlay.manifests(&topology));
    for address in ["10.77.0.1", "fd00:77::1"] {
        let said = refusal(&topology.hosts[0].netns, address.parse().unwrap()).unwrap();
        assert_eq!(said, Some(Errno::EHOSTUNREACH), "{address}");
    }
}
