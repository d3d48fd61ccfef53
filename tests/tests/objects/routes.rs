//! Declared routes and rules, `adit route`, and faults of earlier agents.

use adit_tests::{Agent, Topology, require_module};
use serde_json::Value;

use crate::{becomes, interface, is_settled, manifest, route};

/// Two links with a subnet each.
fn links() -> String {
    interface(
        "n0",
        "type: dummy, noarp: false, addresses: [10.90.0.1/24, 'fd90::1/64']",
    ) + &interface(
        "n1",
        "type: dummy, noarp: false, addresses: [10.91.0.1/24, 'fd91::1/64']",
    ) + &interface("gen0", "type: geneve, id: 9, remote: 192.0.2.99, dstport: 6099")
}

fn some() -> String {
    [
        links(),
        route("on-link", "to: 10.1.0.0/16, dev: n0"),
        route("gateway", "to: 10.2.0.0/16, via: 10.90.0.2, mtu: 1300, src: 10.90.0.1"),
        route("gateway-6", "to: 'fd02::/48', via: 'fd90::2'"),
        route("far", "to: 10.3.0.0/16, via: 10.200.0.1, dev: n1, onlink: true, table: 1730"),
        route(
            "many",
            "to: 10.4.0.0/16, metric: 50, nextHops: [{ via: 10.90.0.2, weight: 3, peer: p/1 }, { via: 10.91.0.2, dev: n1, peer: p/2 }]",
        ),
        route("many-6", "to: 'fd04::/48', nextHops: [{ via: 'fd90::2', weight: 3 }, { via: 'fd91::2' }]"),
        route(
            "encap",
            "to: 10.5.0.0/16, dev: n0, encap: { type: ip, id: 77, src: 192.0.2.1, dst: 192.0.2.2, ttl: 9 }",
        ),
        route("encap-6", "to: 'fd05::/48', dev: n0, encap: { type: ip6, id: 78, dst: '2001:db8::2' }"),
        route("hole", "to: 10.6.0.0/16, type: blackhole"),
        route("hole-6", "to: 'fd06::/48', type: blackhole"),
        route("refused", "to: 10.7.0.1, type: unreachable, metric: 7"),
        route("mixed", "to: 10.8.0.0/16, via: 'fe80::9', dev: n0, onlink: true"),
        manifest("NetlinkRule", "rule", "priority: 1000, from: 10.90.0.0/24, table: 1730"),
        manifest("NetlinkRule", "both", "priority: 1001, fwmark: 0x10/0xf0, table: main, suppressPrefixlength: 0"),
    ]
    .concat()
}

const SHOWN: [&str; 9] = [
    "10.1.0.0/16 dev n0 proto 173 scope link",
    "10.2.0.0/16 via 10.90.0.2 dev n0 proto 173 src 10.90.0.1 mtu 1300",
    "10.3.0.0/16 via 10.200.0.1 dev n1 table 1730 proto 173 onlink",
    "nexthop via 10.90.0.2 dev n0 weight 3",
    "10.5.0.0/16  encap ip id 77 src 192.0.2.1 dst 192.0.2.2 ttl 9",
    "blackhole 10.6.0.0/16 proto 173",
    "unreachable 10.7.0.1 proto 173 metric 7",
    "10.8.0.0/16 via inet6 fe80::9 dev n0",
    "fd05::/48  encap ip6 id 78",
];

fn have_modules() -> bool {
    require_module("dummy") && require_module("geneve")
}

#[test]
fn all_kinds_of_routes_and_rules_are_created_and_a_second_reconciliation_changes_nothing() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let agent = Agent::started(&topology.hosts[0], &some());
    is_settled(&agent);
    let look = || squeezed(&(netns.ip("route show table all") + &netns.ip("-6 route show table all")));
    for wanted in SHOWN {
        assert!(look().contains(&squeezed(wanted)), "{wanted}: {}", look());
    }
    let rules = netns.ip("-N rule") + &netns.ip("-N -6 rule");
    assert_eq!(rules.matches("fwmark 0x10/0xf0").count(), 2, "{rules}");
    assert_eq!(
        rules.matches("from 10.90.0.0/24 lookup 1730").count(),
        1,
        "{rules}"
    );

    for damage in [
        "route delete 10.1.0.0/16",
        "route replace 10.2.0.0/16 via 10.90.0.3 proto 173",
        "route delete 10.4.0.0/16 metric 50",
        "-6 route delete fd04::/48",
        "route delete blackhole 10.6.0.0/16",
        "rule delete priority 1000",
        "route add 10.66.0.0/16 dev n0 proto 173",
        "rule add priority 5 table 9 protocol 173",
        "link set n0 down",
    ] {
        netns.ip(damage);
        becomes(
            "mended",
            || agent.plan(&[]).stdout,
            |plan| plan.contains("Nothing to do."),
        );
    }
    is_settled(&agent);
    for wanted in SHOWN {
        assert!(look().contains(&squeezed(wanted)), "{wanted}: {}", look());
    }
}

fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn route_list_validate_and_flush() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    netns.ip("route add 10.77.0.0/16 via 192.0.2.250 proto static onlink dev u0");
    let mut agent = Agent::started(&topology.hosts[0], &some());
    agent.stop();
    let manifests = agent.manifests();
    let manifests = manifests.to_str().unwrap();
    let with = ["--node", "a", "-f", manifests];
    let listed = agent.json(&[&["route", "list"][..], &with].concat());
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 12, "{listed:#?}");
    let many = listed.iter().find(|row| row["prefix"] == "10.4.0.0/16").unwrap();
    assert_eq!(many["next_hops"].as_array().unwrap().len(), 2);
    assert_eq!(many["peers"], serde_json::json!(["p/1", "p/2"]));
    assert_eq!(
        (many["metric"].as_u64(), many["table"].as_u64()),
        (Some(50), Some(254))
    );
    let row = |prefix: &str| listed.iter().find(|row| row["prefix"] == prefix).unwrap();
    assert_eq!([&row("10.1.0.0/16")["scope"], &many["scope"]], ["link", "global"]);
    assert_eq!(
        [&row("10.2.0.0/16")["mtu"], &many["mtu"]],
        [&serde_json::json!(1300), &Value::Null]
    );
    // Whether a device has routes, also as one of several.
    let numbers = [("--dev", "n1"), ("--dev", "gen0"), ("--table", "1730")]
        .map(|(by, what)| agent.json(&["route", "list", by, what]).as_array().unwrap().len());
    assert_eq!(numbers, [3, 0, 1]);
    let text = agent.run(&["route", "list"]);
    assert!(
        text.stdout.contains("10.1.0.0/16") && text.stdout.contains("link"),
        "{text:?}"
    );

    let figures =
        |said: &Value| ["missing", "unexpected", "diverged"].map(|name| said[name].as_u64().unwrap());
    let validate = |wanted: [u64; 3]| {
        let printed = agent.run(&[&["route", "validate", "-o", "json"][..], &with].concat());
        let said = serde_json::from_str(&printed.stdout).unwrap();
        let code = if wanted == [0; 3] { 0 } else { 4 };
        assert_eq!((figures(&said), printed.code), (wanted, code), "{printed:?}");
    };
    validate([0, 0, 0]);
    netns.ip("route delete 10.1.0.0/16");
    netns.ip("route add 10.66.0.0/16 dev n0 proto 173");
    netns.ip("route replace 10.5.0.0/16 dev n0 proto 173 scope link encap ip id 77 src 192.0.2.1 dst 192.0.2.3 ttl 9");
    // Validation only reports; repair changes.
    validate([1, 1, 1]);
    validate([1, 1, 1]);
    let repaired = agent.json(&[&["route", "repair"][..], &with].concat());
    assert_eq!(figures(&repaired), [1, 1, 1]);
    validate([0, 0, 0]);

    let flushed = agent.run(&["route", "flush", "--table", "1730"]);
    assert_eq!((flushed.code, flushed.stdout.as_str()), (0, "1 route deleted.\n"));
    let flushed = agent.run(&["route", "flush"]);
    assert_eq!(
        (flushed.code, flushed.stdout.as_str()),
        (
            0,
            "8 routes deleted.\n3 unreachable or blackhole routes kept; --include-unreachable deletes them too.\n"
        )
    );
    let flushed = agent.run(&["route", "flush", "--include-unreachable"]);
    assert_eq!(
        (flushed.code, flushed.stdout.as_str()),
        (0, "3 routes deleted.\n")
    );
    assert!(
        netns.ip("route").contains("10.77.0.0/16"),
        "an unmanaged route stays"
    );
    validate([12, 0, 0]);
}

#[test]
fn a_route_that_waits_or_is_in_conflict_does_not_pass_validation() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let mut agent = Agent::started(&topology.hosts[0], &links());
    agent.stop();
    let path = agent.manifests();
    let validate = |more: &str| {
        agent.write(&(links() + more));
        let with = ["--node", "a", "-f", path.to_str().unwrap()];
        let said = agent.run(&[&["route", "validate"][..], &with].concat());
        assert!(said.stdout.starts_with("0 missing, 0 unexpected"), "{said:?}");
        said
    };
    let fine = validate("");
    assert_eq!(fine.code, 0, "{fine:?}");
    let waits = validate(&route("w", "to: 10.1.0.0/16, dev: nowhere"));
    assert_eq!(waits.code, 5, "{waits:?}");
    assert!(waits.stderr.contains("nowhere"), "{waits:?}");
    // Without the device the route is not compared at all.
    netns.ip("link add d9 type dummy");
    let device = interface("d9", "type: dummy");
    let conflict = validate(&(device.clone() + &route("c", "to: 10.1.0.0/16, dev: d9")));
    assert_eq!(conflict.code, 5, "{conflict:?}");
    assert_eq!(validate(&device).code, 0, "no route needs this device");
}

#[test]
fn duplicate_prefixes_merge() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let manifests = [
        links(),
        route("worse", "to: 10.1.0.0/16, via: 10.90.0.9, metric: 20"),
        route(
            "one",
            "to: 10.1.0.0/16, metric: 10, mtu: 1400, nextHops: [{ via: 10.90.0.2, peer: one }]",
        ),
        route(
            "two",
            "to: 10.1.0.0/16, via: 10.91.0.2, metric: 10, mtu: 1300, healthImmune: true",
        ),
    ];
    let agent = Agent::started(&topology.hosts[0], &manifests.concat());
    is_settled(&agent);
    let shown = netns.ip("route show 10.1.0.0/16");
    assert!(shown.contains("metric 10 mtu 1300"), "{shown}");
    assert_eq!(shown.matches("nexthop").count(), 2, "{shown}");
    assert!(!shown.contains("10.90.0.9"), "{shown}");
    // One of them is immune, so the merged route is.
    assert_eq!(agent.run(&["route", "withdraw", "one"]).code, 0);
    assert_eq!(netns.ip("route show 10.1.0.0/16"), shown);
    assert_eq!(agent.run(&["route", "restore", "one"]).code, 0);
    // The last route with the best metric is removed, so the other one is used.
    agent.write(&manifests[..2].concat());
    becomes(
        "the other",
        || netns.ip("route show 10.1.0.0/16"),
        |shown| shown.contains("via 10.90.0.9") && !shown.contains("nexthop"),
    );
}

#[test]
fn fault_10_scope_global_survives_a_merge_and_single_gateways_are_not_reported() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let manifests = [
        links(),
        route("global", "to: 10.1.0.0/16, dev: n0, scope: global"),
        route("again", "to: 10.1.0.0/16, dev: n0"),
        route("single", "to: 10.2.0.0/16, via: 10.90.0.2"),
    ];
    let mut agent = Agent::started(&topology.hosts[0], &manifests.concat());
    is_settled(&agent);
    agent.stop();
    let shown = netns.ip("-N route show 10.1.0.0/16");
    assert!(shown.contains("dev n0") && !shown.contains("scope"), "{shown}");
    let manifests = agent.manifests();
    for _ in 0..2 {
        let said = agent.run(&[
            "route",
            "validate",
            "--node",
            "a",
            "-f",
            manifests.to_str().unwrap(),
        ]);
        assert_eq!(said.stdout, "0 missing, 0 unexpected, 0 diverged.\n");
    }
}

#[test]
fn fault_11_encapsulation_is_compared_field_by_field() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let wanted = route(
        "r",
        "to: 10.1.0.0/16, dev: n0, encap: { type: ip, id: 7, src: 192.0.2.1, dst: 192.0.2.2, ttl: 9 }",
    );
    let agent = Agent::started(&topology.hosts[0], &(links() + &wanted));
    is_settled(&agent);
    for other in [
        "id 8 src 192.0.2.1 dst 192.0.2.2 ttl 9",
        "id 7 src 192.0.2.9 dst 192.0.2.2 ttl 9",
        "id 7 src 192.0.2.1 dst 192.0.2.9 ttl 9",
        "id 7 src 192.0.2.1 dst 192.0.2.2 ttl 8",
        "id 7 src 192.0.2.1 dst 192.0.2.2 ttl 9 tos 4",
    ] {
        netns.ip(&format!(
            "route replace 10.1.0.0/16 scope link proto 173 dev n0 encap ip {other}"
        ));
        becomes(
            "as it was",
            || netns.ip("route show 10.1.0.0/16"),
            |shown| shown.contains("id 7 src 192.0.2.1 dst 192.0.2.2 ttl 9") && !shown.contains("tos 4"),
        );
    }
}

#[test]
fn fault_12_routes_of_an_administrator_stay_also_on_managed_devices() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let mut agent = Agent::started(&topology.hosts[0], &links());
    netns.ip("route add 10.1.0.0/16 dev n0 proto static");
    netns.ip("route add 10.2.0.0/16 via 10.90.0.7");
    let look = || netns.ip("route show 10.1.0.0/16") + &netns.ip("route show 10.2.0.0/16");
    let before = look();
    // An unmanaged route has the position of a desired one.
    agent.write(
        &(links() + &route("r", "to: 10.1.0.0/16, via: 10.90.0.2") + &route("s", "to: 10.3.0.0/16, dev: n0")),
    );
    let status = agent.wait("in conflict", |status| {
        status.problems.iter().any(|problem| problem.reason == "Conflict")
    });
    assert_eq!(status.reconciliation.failed, 0, "{status:#?}");
    agent.next_reconciliation();
    assert_eq!(look(), before);
    assert!(netns.ip("route show 10.3.0.0/16").contains("dev n0"));
    agent.stop();
    assert_eq!(agent.run(&["route", "flush"]).code, 0);
    assert_eq!(look(), before);
}

#[test]
fn a_managed_route_for_one_type_of_service_is_deleted_once_also_by_uninstalling() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let mut agent = Agent::started(
        &topology.hosts[0],
        &(links() + &route("r", "to: 10.1.0.0/16, via: 10.90.0.2")),
    );
    netns.ip("route add 10.1.0.0/16 tos 0x08 via 192.0.2.250 dev u0 onlink");
    let look = || netns.ip("route show 10.1.0.0/16");
    let before = look();
    let surplus = "route add 10.1.0.0/16 tos 0x10 via 10.90.0.3 proto 173";
    netns.ip(surplus);
    becomes("deleted", look, |shown| shown == before);
    is_settled(&agent);
    assert_eq!(agent.status().unwrap().repairs.total, 1);
    agent.stop();
    netns.ip(surplus);
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    let left = look();
    assert!(
        left.lines().count() == 1 && left.contains("tos 0x08 via 192.0.2.250"),
        "{left}"
    );
}

#[test]
fn withdrawn_next_hops_are_removed_and_restored_except_on_immune_routes() {
    if !have_modules() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let manifests = [
        links(),
        route(
            "many",
            "to: 10.4.0.0/16, nextHops: [{ via: 10.90.0.2, peer: site/1 }, { via: 10.91.0.2, peer: site/2 }]",
        ),
        route(
            "single",
            "to: 10.5.0.0/16, nextHops: [{ via: 10.90.0.2, peer: site/1 }]",
        ),
        route(
            "immune",
            "to: 10.6.0.0/16, healthImmune: true, nextHops: [{ via: 10.90.0.2, peer: site/1 }]",
        ),
        route("plain", "to: 10.7.0.0/16, via: 10.90.0.2"),
    ];
    let mut agent = Agent::started(&topology.hosts[0], &manifests.concat());
    is_settled(&agent);
    let look = || {
        let lines = netns.ip("-o route show proto 173");
        let of = |prefix: &str| {
            lines
                .lines()
                .filter(|line| line.starts_with(prefix))
                .collect::<String>()
        };
        ["10.4.", "10.5.", "10.6.", "10.7."].map(|prefix| of(prefix).matches("via ").count())
    };
    let withdraw = |agent: &Agent<'_>, what: &str, peer: &str| agent.run(&["route", what, peer]);
    assert_eq!(look(), [2, 1, 1, 1]);
    assert_eq!(withdraw(&agent, "withdraw", "site/1").code, 0);
    assert_eq!(look(), [1, 0, 1, 1]);
    let manifests = agent.manifests();
    let listed = || {
        let words = ["route", "list", "--node", "a", "-f", manifests.to_str().unwrap()];
        let rows = agent.json(&words);
        let peers = |prefix: &str| {
            let mut rows = rows.as_array().unwrap().iter();
            let row = rows.find(|row| row["prefix"] == prefix);
            row.map(|row| row["peers"].clone())
        };
        ["10.4.0.0/16", "10.5.0.0/16", "10.6.0.0/16"].map(peers)
    };
    let [many, single, immune] = listed();
    assert_eq!(many, Some(serde_json::json!(["site/2"])), "active ones alone");
    assert_eq!(single, None);
    assert_eq!(immune, Some(serde_json::json!(["site/1"])));
    // All ids below it, which must also be restored by the same id.
    assert_eq!(withdraw(&agent, "withdraw", "site").code, 0);
    assert_eq!(look(), [0, 0, 1, 1]);
    let said = withdraw(&agent, "restore", "site/2");
    assert!(
        said.code != 0 && said.stderr.contains("`site` is withdrawn"),
        "{said:?}"
    );
    // The drain is remembered.
    agent.stop();
    agent.start();
    agent.ready();
    assert_eq!(look(), [0, 0, 1, 1]);
    for (peer, left) in [("site", [1, 0, 1, 1]), ("site/1", [2, 1, 1, 1])] {
        assert_eq!(withdraw(&agent, "restore", peer).code, 0);
        assert_eq!(look(), left, "{peer}");
    }
    let said = withdraw(&agent, "withdraw", "sit");
    assert!(
        said.code == 3 && said.stderr.contains("no peer is named `sit`"),
        "{said:?}"
    );
    is_settled(&agent);
}
