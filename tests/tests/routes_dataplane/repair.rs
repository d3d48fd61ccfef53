//! Changes of managed objects by others, and objects of others.

use adit_tests::agent::start_all;
use adit_tests::{NetNs, Overlay, Topology, snapshot, traffic};
use dataplane_user::net::Family;

use crate::{ROUTES, has_modules, shared};

/// Unmanaged next-hop objects, also one with an id in the range of Adit, a neighbour on a managed device, routes and rules.
fn add_foreign(netns: &NetNs) {
    netns.ip_batch(
        "nexthop add id 7 dev u0
        nexthop add id 1730000 dev u0
        nexthop add id 1730001 blackhole
        route add 172.16.0.0/16 nhid 1730000
        rule add priority 1730 from 203.0.113.1 lookup 99
        neighbour add 192.0.2.99 lladdr 02:00:00:00:00:99 nud permanent dev u0",
    );
}

fn foreign(netns: &NetNs) -> String {
    let mut text = String::new();
    for words in [
        "nexthop show",
        "route show 172.16.0.0/16",
        "rule show",
        "neighbour show nud permanent",
    ] {
        let lines = netns.ip(words);
        let ours = |line: &&str| !line.contains("proto 173");
        lines
            .lines()
            .filter(ours)
            .for_each(|line| text.push_str(&format!("{line}\n")));
    }
    text
}

#[test]
fn unmanaged_objects_stay_and_uninstall_leaves_nothing() {
    if !has_modules() {
        return;
    }
    let topology = Topology::<2>::new();
    let a = &topology.hosts[0];
    add_foreign(&a.netns);
    let before = snapshot::everything(&a.netns, &[]);
    let others = foreign(&a.netns);
    let overlay = Overlay {
        network: vec![ROUTES, "routes: {table: 1730}"],
        ..Overlay::new(&topology, "geneve")
    };
    let mut agents = start_all(&topology, &overlay.manifests(&topology));
    assert_eq!(foreign(&a.netns), others);
    traffic::ping(a.end(), topology.hosts[1].end(), Family::Ipv4).unwrap();
    // An unmanaged neighbour with the address is a conflict, and stays.
    let agent = &mut agents[0];
    let neighbour = a.netns.ip("-6 neighbour show dev adit-geneve nud permanent");
    let address = neighbour
        .split_whitespace()
        .next()
        .expect("there is one")
        .to_owned();
    a.netns.ip(&format!(
        "neighbour replace {address} lladdr 02:00:00:00:00:98 nud permanent protocol static dev adit-geneve"
    ));
    agent.wait("in conflict", |status| {
        status.problems.iter().any(|problem| problem.reason == "Conflict")
    });
    a.netns.ip(&format!("neighbour del {address} dev adit-geneve"));
    agent.next_reconciliation();
    agent.ready();
    traffic::ping(a.end(), topology.hosts[1].end(), Family::Ipv6).unwrap();
    agent.stop();
    let removed = agent.run(&["uninstall"]);
    assert_eq!(removed.code, 0, "{removed:?}");
    assert_eq!(snapshot::everything(&a.netns, &[]), before);
}

/// Objects that others delete are restored: next-hop objects with all their routes, neighbours, rules.
#[test]
fn deleted_objects_are_restored() {
    if !has_modules() {
        return;
    }
    let topology = Topology::<3>::new();
    let (_, agents) = shared(&topology, vec![ROUTES, "routes: {table: 1730}"]);
    let a = &topology.hosts[0];
    let shown = || {
        let mut lines = Vec::new();
        for words in [
            "nexthop show",
            "route show table 1730",
            "-6 route show table 1730",
            "rule show",
        ] {
            let text = a.netns.ip(words);
            // The kernel chooses the ids.
            let line = |line: &str| {
                line.split(' ')
                    .filter(|word| !word.contains("17300"))
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            lines.extend(text.lines().map(line));
        }
        lines.extend(
            a.netns
                .ip("-6 neighbour show nud permanent")
                .lines()
                .map(str::to_owned),
        );
        lines.sort();
        lines
    };
    let whole = shown();
    let harms = [
        "nexthop flush proto 173",
        "neighbour flush dev adit-geneve nud permanent",
        "rule del priority 1730",
        "-6 route del fd00:9::/32 table 1730",
        "link set adit-geneve down",
        "link del adit-vxlan",
    ];
    for harm in harms {
        a.netns.ip(harm);
        agents[0].next_reconciliation();
        agents[0].ready();
        assert_eq!(shown(), whole, "after {harm}");
    }
    for host in &topology.hosts[1..] {
        for family in Family::BOTH {
            traffic::ping(a.pod_end(), host.pod_end(), family).unwrap();
        }
    }
}

/// Missing, unexpected and different routes are corrected once, without an agent; then nothing is left to change.
#[test]
fn a_second_repair_finds_nothing() {
    if !has_modules() {
        return;
    }
    let topology = Topology::<3>::new();
    let (_, mut agents) = shared(&topology, vec![ROUTES, "routes: {table: 1730}"]);
    let netns = &topology.hosts[0].netns;
    let agent = &mut agents[0];
    agent.stop();
    let manifests = agent.manifests();
    let manifests = manifests.to_str().expect("our directory's name is UTF-8");
    let arguments = ["-f", manifests, "--node", "a"];
    let repair = || {
        let found = agent.json(&[&["route", "repair"], &arguments[..]].concat());
        ["missing", "unexpected", "diverged"].map(|what| found[what].as_u64().expect("a number"))
    };
    assert_eq!(repair(), [0; 3], "an agent was here");
    let harms = [
        ("route del 10.2.0.1 table 1730", [1, 0, 0]),
        ("-6 route del fd00:9::/32 table 1730", [1, 0, 0]),
        ("route add 10.2.7.0/24 dev adit0 table 1730 proto 173", [0, 1, 0]),
        (
            "route change 10.2.0.1 dev adit0 table 1730 proto 173 metric 173",
            [0, 0, 1],
        ),
        ("rule del priority 1730", [1, 0, 0]),
    ];
    for (harm, counts) in harms {
        netns.ip(harm);
        assert_eq!(repair(), counts, "after {harm}");
        assert_eq!(repair(), [0; 3], "again after {harm}");
    }
    // `ip route flush` itself fails if routes have next-hop objects.
    let routes = netns.ip("route show table 1730 proto 173");
    let emptied = routes
        .lines()
        .filter_map(|line| line.split(" nhid ").next().filter(|prefix| *prefix != line))
        .map(|prefix| format!("route del {prefix} table 1730\n"))
        .collect::<String>();
    assert!(emptied.lines().count() > 2, "{routes}");
    for harm in [
        &emptied,
        "nexthop flush proto 173",
        "neighbour flush dev adit-geneve nud permanent",
    ] {
        netns.ip_batch(harm);
        let [missing, unexpected, diverged] = repair();
        assert!(missing > 0, "{unexpected} {diverged}");
        assert_eq!(repair(), [0; 3], "again after {harm}");
    }
    for host in &topology.hosts[1..] {
        traffic::ping(topology.hosts[0].pod_end(), host.pod_end(), Family::Ipv4).unwrap();
    }
    let listed = agent.json(&[&["route", "list"], &arguments[..]].concat());
    let rows = listed.as_array().expect("a list");
    let row = |prefix: &str| {
        let found = rows
            .iter()
            .find(|row| row["prefix"] == prefix && row["metric"] == 173);
        found.unwrap_or_else(|| panic!("{prefix} is not in {rows:#?}"))
    };
    assert_eq!(row("10.2.0.1/32")["peers"], serde_json::json!(["b"]));
    assert_eq!(row("10.9.0.0/16")["peers"], serde_json::json!(["b", "c"]));
    assert_eq!(row("10.9.0.0/16")["table"], 1730);
    assert_eq!(row("10.9.0.0/16")["mtu"], 1450);
}
