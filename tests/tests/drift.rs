//! Changes of managed objects by others are reverted: at once if the kernel sends an event; else by the next check of
//! programs and WireGuard peers (`--recheck`); entries of maps by the next full reconciliation.
//!
//! The tests distinguish these cases by agents whose other checks are an hour apart.

use std::time::Instant;

use adit_tests::agent::NEVER;
use adit_tests::chaos::declared;
use adit_tests::hand::{Operation, last_repair, operations};
use adit_tests::named::Named;
use adit_tests::{Agent, Overlay, Topology, require, traffic};
use dataplane_user::net::Family;

#[test]
fn every_object_of_geneve_and_wireguard_is_restored() {
    returns(["geneve", "wireguard"], Family::Ipv4, |_| true);
}

/// Next-hop objects, groups of them, their neighbours, and the table with its rules.
#[test]
fn every_object_of_a_network_by_routes_is_restored() {
    let ways = ["nexthop", "neighbour", "rule"];
    let is_tried = |operation: &Operation| {
        ways.contains(&operation.kind)
            || operation.object.contains("table 1731")
            || operation.kind == "link"
            || operation.kind == "address"
    };
    returns_in(["geneve", "wireguard"], Family::Ipv4, is_tried, true);
}

#[test]
fn next_hops_over_ipip_are_restored() {
    let is_tried = |operation: &Operation| operation.kind == "nexthop" || operation.object.contains("ip6tnl");
    returns_in(["ipip", "vxlan"], Family::Ipv6, is_tried, true);
}

/// The anchor and the maps are tested with other encapsulations.
#[test]
fn devices_of_vxlan_and_ipip_are_restored() {
    let on_tunnels = |operation: &Operation| operation.object.contains("adit-");
    returns(["vxlan", "ipip"], Family::Ipv4, on_tunnels);
}

#[test]
fn the_ip6tnl_device_is_restored() {
    let on_tunnels = |operation: &Operation| operation.object.contains("adit-ip6tnl");
    returns(["ipip", "geneve"], Family::Ipv6, on_tunnels);
}

/// Damages the selected objects of `a`, whose links to `b` and `c` have these encapsulations, and expects exactly one repair
/// for each.
fn returns(encapsulations: [&'static str; 2], underlay: Family, is_tried: impl Fn(&Operation) -> bool) {
    returns_in(encapsulations, underlay, is_tried, false);
}

/// The same, optionally with a second network with dataplane `routes`.
fn returns_in(
    encapsulations: [&'static str; 2],
    underlay: Family,
    is_tried: impl Fn(&Operation) -> bool,
    beside: bool,
) {
    require!(modules: "dummy", "geneve", "wireguard", "ipip", "ip6_tunnel");
    let topology = Topology::<3>::new();
    let [a, b, c] = &topology.hosts;
    let [to_b, to_c] = encapsulations;
    let overlay = Overlay {
        underlay,
        requested: vec![("b", to_b), ("c", to_c)],
        shared: if beside { vec!["b", "c"] } else { Vec::new() },
        beside,
        ..Overlay::new(&topology, "auto")
    };
    let manifests = overlay.manifests(&topology);
    let _peers = [b, c].map(|host| Agent::started(host, &manifests));
    // Repeated damage of one object is not a fight here.
    let mut agent = Agent::new(a, &manifests).with_pauses("fight-window=1");
    agent.start();
    agent.ready();
    let flows = || {
        for host in [b, c] {
            traffic::udp(a.pod_end(), host.pod_end(), Family::Ipv4, 100).unwrap();
        }
        traffic::udp(a.pod_end(), b.end(), Family::Ipv4, 100).unwrap();
        for host in [b, c].into_iter().filter(|_| beside) {
            for family in Family::BOTH {
                traffic::udp(a.beside(), host.beside(), family, 100).unwrap();
            }
        }
    };
    flows();
    let mut all = operations(&agent);
    all.retain(is_tried);
    let (evented, silent): (Vec<_>, Vec<_>) = all.iter().partition(|operation| operation.evented);
    assert!(evented.len() > 5, "{all:#?}");
    one_repair_each(&agent, &evented);
    flows();
    let (entries, revised): (Vec<_>, Vec<_>) =
        silent.into_iter().partition(|operation| operation.kind == "map");
    for (operations, resync, recheck) in [(revised, NEVER, 1), (entries, 1, NEVER)] {
        if operations.is_empty() {
            continue;
        }
        agent.stop();
        agent = agent.with_resync(resync).with_recheck(recheck);
        agent.start();
        agent.ready();
        one_repair_each(&agent, &operations);
        flows();
    }
}

/// Declared devices, addresses, routes and rules, with a pair into another namespace. Deleting a device or its last IPv4
/// address deletes the routes by it.
#[test]
fn each_declared_object_is_restored_by_one_repair() {
    require!(modules: "dummy", "geneve", "wireguard");
    let topology = Topology::<2>::new();
    let there = Named::new();
    let overlay = Overlay::new(&topology, "auto").manifests(&topology);
    let manifests = overlay + &declared::manifests(&there);
    let mut agent = Agent::new(&topology.hosts[0], &manifests).with_pauses("fight-window=1");
    agent.start();
    agent.ready();
    let all = declared::operations(&there);
    one_repair_each(&agent, &all.iter().collect::<Vec<_>>());
}

#[test]
fn a_recheck_without_changes_causes_no_reconciliation() {
    require!(modules: "dummy", "geneve", "wireguard");
    let topology = Topology::<3>::new();
    let [a, b, c] = &topology.hosts;
    let overlay = Overlay {
        requested: vec![("b", "geneve"), ("c", "wireguard")],
        ..Overlay::new(&topology, "auto")
    };
    let manifests = overlay.manifests(&topology);
    let _peers = [b, c].map(|host| Agent::started(host, &manifests));
    let mut agent = Agent::new(a, &manifests).with_recheck(1);
    agent.start();
    agent.ready();
    let looks = || agent.log().matches("nothing changed without an event").count();
    let wait = |wanted: usize| agent.wait("looking", |_| looks() >= wanted).reconciliation.number;
    // Wait for the events of its own start.
    let before = wait(3);
    // A session and a learned endpoint are no changes.
    traffic::udp(a.pod_end(), c.pod_end(), Family::Ipv4, 100).unwrap();
    let after = wait(looks() + 3);
    assert_eq!(before, after, "{}", agent.log());
}

fn one_repair_each(agent: &Agent<'_>, operations: &[&Operation]) {
    let (mut before, _) = last_repair(&agent.status().unwrap());
    for operation in operations {
        let what = &operation.what;
        println!("{what}");
        operation.act(agent);
        let start = Instant::now();
        let status = agent.wait(&format!("repaired after: {what}"), |status| {
            status.repairs.total > before && status.ready
        });
        println!("… is repaired after {} ms", start.elapsed().as_millis());
        let (total, last) = last_repair(&status);
        let (kind, object, found) = last.expect("there is one");
        assert_eq!(
            (total, kind.as_str(), &object),
            (before + 1, operation.kind, &operation.object),
            "{what}: {found}"
        );
        let said = format!("repaired: {object} {found}");
        assert!(agent.log().contains(&said), "{said}");
        before = total;
    }
    let plan = agent.plan(&[]);
    assert_eq!(plan.code, 0, "{plan:?}");
}
