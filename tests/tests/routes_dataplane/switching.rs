//! Networks that change their dataplane, and networks with nodes of both dataplanes.

use adit_tests::agent::{is_settled, start_all};
use adit_tests::traffic::{self, Probes};
use adit_tests::{Overlay, Topology};
use dataplane_user::net::Family;

use crate::{ROUTES, has_modules};

/// Changes between the two dataplanes, and between tables, in each direction, while packets flow in both directions.
#[test]
fn no_packet_is_lost_while_a_network_changes_its_dataplane() {
    if !has_modules() {
        return;
    }
    let topology = Topology::<2>::new();
    let by = |network: Vec<&'static str>| Overlay {
        network,
        ..Overlay::new(&topology, "geneve")
    };
    let ebpf = by(Vec::new());
    let [a, b] = &topology.hosts;
    // The first IPv4 rule of a namespace makes Linux split its local table from the main one (`fib_unmerge`). Meanwhile it
    // accepts no packets for itself, so this happens before the test.
    for host in &topology.hosts {
        host.netns.ip("rule add priority 5 table 99");
    }
    let agents = start_all(&topology, &ebpf.manifests(&topology));
    let probes = Family::BOTH.map(|family| {
        [(a.end(), b.end()), (b.pod_end(), a.pod_end())]
            .map(|(from, to)| Probes::start(from, to, family).unwrap())
    });
    let ways = [
        (by(vec![ROUTES]), "10.2.0.1 nhid", "main"),
        (by(vec![ROUTES, "routes: {table: 1730}"]), "10.2.0.1 nhid", "1730"),
        (ebpf.clone(), "10.0.0.0/8", "main"),
        (by(vec![ROUTES, "routes: {table: 1730}"]), "10.2.0.1 nhid", "1730"),
        (by(vec![ROUTES]), "10.2.0.1 nhid", "main"),
        (ebpf.clone(), "10.0.0.0/8", "main"),
    ];
    for (overlay, prefix, table) in ways {
        // One node after the other, so that they differ meanwhile.
        for agent in &agents {
            agent.apply(&overlay.manifests(&topology));
            is_settled(agent);
        }
        let routes = a.netns.ip(&format!("route show table {table} proto 173"));
        assert!(routes.contains(prefix), "{prefix} in {table}: {routes}");
    }
    for probes in probes.into_iter().flatten() {
        let lost = probes.finish().unwrap();
        assert!(lost.lost == 0 && lost.sent > 20, "{lost:?}");
    }
    assert_eq!(a.netns.ip("nexthop show"), "");
    assert_eq!(a.netns.ip("neighbour show nud permanent"), "");
    assert!(!a.netns.ip("rule show").contains("1730"));
}

#[test]
fn nodes_of_both_dataplanes_reach_each_other() {
    if !has_modules() {
        return;
    }
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        dataplanes: vec![("b", "routes")],
        requested: vec![("c", "vxlan")],
        ..Overlay::new(&topology, "auto")
    };
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b, c] = &topology.hosts;
    for family in Family::BOTH {
        for (from, to) in [(a, b), (b, c), (a, c)] {
            traffic::all(from.end(), to.end(), family).unwrap();
            traffic::all(to.pod_end(), from.pod_end(), family).unwrap();
        }
    }
    assert_eq!(a.netns.ip("nexthop show"), "");
    assert_eq!(b.netns.ip("nexthop show").lines().count(), 2);
    drop(agents);
}
