//! Answers leave by the device of their connection, if the node asks for it.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Instant;

use adit_tests::topology::{End, Host};
use adit_tests::{Agent, NetNs, Overlay, Topology, snapshot, traffic};
use dataplane_user::net::Family;
use dataplane_user::resource::Reason;
use serde_json::Value;

use crate::ready;

/// A host of the world outside, and the node by its second uplink.
const CLIENT: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(198, 51, 100, 1),
    Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 1),
);
const NODE: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(203, 0, 113, 2),
    Ipv6Addr::new(0x2001, 0xdb8, 0xb, 0, 0, 0, 0, 2),
);

/// A node with a second uplink, `u1`, which the world outside reaches it and its pod by. Its default routes lead out by the
/// first one.
fn topology() -> Topology<1> {
    let topology = Topology::<1>::new();
    let (a, router) = (&topology.hosts[0], &topology.router);
    second_uplink(a, router);
    snapshot::run(
        router,
        "nft",
        "add table inet seen { counter r1 { } ; counter s1 { } ; chain c { type filter hook prerouting priority -400 ; \
         meta l4proto tcp counter name meta iifname map { r1 : \"r1\", s1 : \"s1\" } ; \
         icmp type echo-reply counter name meta iifname map { r1 : \"r1\", s1 : \"s1\" } ; \
         icmpv6 type echo-reply counter name meta iifname map { r1 : \"r1\", s1 : \"s1\" } ; } ; }",
    );
    topology
}

/// IPv6 addresses are without duplicate detection, also on `lo`: there it never fails, but until the kernel's worker has run,
/// which may take long on a busy machine, no route can have such an address as its source.
fn second_uplink(host: &Host, router: &NetNs) {
    host.netns.ip_batch(&format!(
        "link add u1 type veth peer name s1 netns {}
        link set u1 up
        address add 203.0.113.2/24 dev u1
        address add 2001:db8:b::2/64 dev u1 nodad
        route add default via 203.0.113.1 metric 5000
        route add ::/0 via 2001:db8:b::1 metric 5000",
        router.path().display()
    ));
    router.ip_batch(
        "address replace 198.51.100.1/32 dev lo
        address replace 2001:db8:ffff::1/128 dev lo nodad
        link set s1 up
        address add 203.0.113.1/24 dev s1
        address add 2001:db8:b::1/64 dev s1 nodad
        route add 203.0.113.2/32 dev s1 src 198.51.100.1
        route add 2001:db8:b::2/128 dev s1 src 2001:db8:ffff::1
        route add 10.1.1.0/24 via 203.0.113.2 src 198.51.100.1
        route add fd00:1:1::/64 via 2001:db8:b::2 src 2001:db8:ffff::1",
    );
}

fn manifests(topology: &Topology<1>, firewall: &str) -> String {
    Overlay::new(topology, "geneve").manifests(topology) + firewall
}

/// Packets of answers that came to the router by the first uplink and by the second one, so far.
fn seen(router: &NetNs) -> [u64; 2] {
    let json = snapshot::run(router, "nft", "-j list counters table inet seen");
    let listing: Value = serde_json::from_str(&json).unwrap();
    let counters = listing["nftables"].as_array().unwrap();
    ["r1", "s1"].map(|name| {
        let counter = counters.iter().find(|one| one["counter"]["name"] == name);
        counter.unwrap()["counter"]["packets"].as_u64().unwrap()
    })
}

/// Connects from outside to the node and, through it, to its pod: the packets that came back by each uplink.
fn answers(topology: &Topology<1>) -> Vec<[u64; 2]> {
    let a = &topology.hosts[0];
    let client = End::outside(&topology.router, CLIENT);
    let mut all = Vec::new();
    for to in [End::outside(&a.netns, NODE), a.pod_end()] {
        for family in Family::BOTH {
            for by_tcp in [false, true] {
                let before = seen(&topology.router);
                let done = match by_tcp {
                    false => traffic::ping(client, to, family),
                    true => traffic::tcp(client, to, family, 10_000),
                };
                done.unwrap();
                let after = seen(&topology.router);
                all.push([after[0] - before[0], after[1] - before[1]]);
            }
        }
    }
    println!("packets back by the first and by the second uplink: {all:?}");
    all
}

#[track_caller]
fn all_by_the_second(topology: &Topology<1>) {
    let found = answers(topology);
    assert!(found.iter().all(|seen| seen[0] == 0 && seen[1] > 0), "{found:?}");
}

/// All that is ours of it, as `ip` and `nft` print it.
fn ours(netns: &NetNs) -> [String; 4] {
    let rules = |family: &str| netns.ip(&format!("{family} rule show"));
    let routes = |family: &str| {
        let all = netns.ip(&format!("{family} route show table all"));
        let ours = all.lines().filter(|line| line.contains("table 173"));
        ours.map(str::trim_end).collect::<Vec<_>>().join("\n")
    };
    [
        rules("-4") + &rules("-6"),
        routes("-4"),
        routes("-6"),
        snapshot::ruleset(netns),
    ]
}

#[test]
fn answers_leave_by_the_device_of_their_connection() {
    if !ready() {
        return;
    }
    let topology = topology();
    let netns = &topology.hosts[0].netns;
    let off = manifests(&topology, "");
    let on = manifests(&topology, "  firewall: {returnPath: [u1]}\n");
    let mut agent = Agent::started(&topology.hosts[0], &off);
    let nothing = ours(netns);
    let found = answers(&topology);
    assert!(found.iter().all(|seen| seen[0] > 0 && seen[1] == 0), "{found:?}");

    agent.write(&on);
    agent.wait("with a return path", |status| {
        status.ready && netns.ip("-6 rule show").contains("17301")
    });
    let whole = ours(netns);
    println!("{}", whole.join("\n"));
    assert_eq!(
        whole[1],
        "default via 203.0.113.1 dev u1 table 17301 proto 173 metric 173 onlink\n\
         203.0.113.0/24 dev u1 table 17301 proto 173 scope link metric 173"
    );
    let lines = whole[2].lines().collect::<Vec<_>>();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines[0].starts_with("2001:db8:b::/64 dev u1 table 17301 proto 173 metric 173")
            && lines[1].starts_with("fe80::/64 dev u1 table 17301 proto 173 metric 173")
            && lines[2].starts_with("default via 2001:db8:b::1 dev u1 table 17301 proto 173 metric 173"),
        "{lines:?}"
    );
    // A client in the subnet is answered directly, one behind the gateway by the gateway.
    for (to, gateway) in [
        ("203.0.113.77", false),
        ("2001:db8:b::77", false),
        ("fe80::77 oif u1", false),
        ("198.51.100.7", true),
        ("2001:db8:ffff::7", true),
    ] {
        let way = netns.ip(&format!("route get {to} mark 0x1000000"));
        assert!(way.contains("dev u1 table 17301"), "{way}");
        assert_eq!(way.contains(" via "), gateway, "{way}");
    }
    all_by_the_second(&topology);
    let planned = agent.plan(&[]);
    assert_eq!(planned.code, 0, "{planned:?}");

    for (program, words) in [
        ("nft", "flush ruleset"),
        ("nft", "flush chain inet adit mangle_prerouting"),
        ("nft", "flush chain inet adit mangle_output"),
        ("ip", "rule del priority 1729"),
        ("ip", "-6 rule del priority 1729"),
        ("ip", "route flush table 17301"),
        ("ip", "-6 route flush table 17301"),
    ] {
        let before = agent.status().unwrap().repairs.total;
        snapshot::run(netns, program, words);
        let since = Instant::now();
        agent.wait(words, |status| {
            status.ready && status.repairs.total > before && ours(netns) == whole
        });
        println!("{program} {words}: repaired within {:?}", since.elapsed());
    }
    all_by_the_second(&topology);

    // If the main table has another gateway on the device, that one is used.
    netns.ip("route replace default via 203.0.113.9 metric 5000");
    agent.wait("with the other gateway", |_| {
        ours(netns)[1].contains("via 203.0.113.9")
    });
    netns.ip("route del default via 203.0.113.9 metric 5000");
    agent.wait("without a gateway", |_| {
        ours(netns)[1] == "default dev u1 table 17301 proto 173 scope link metric 173"
    });
    netns.ip("route add default via 203.0.113.1 metric 5000");
    agent.wait("as it was", |status| status.ready && ours(netns) == whole);

    agent.write(&off);
    agent.wait("without it", |status| status.ready && ours(netns) == nothing);
    let found = answers(&topology);
    assert!(found.iter().all(|seen| seen[0] > 0 && seen[1] == 0), "{found:?}");
    agent.write(&on);
    agent.wait("with it again", |status| status.ready && ours(netns) == whole);
    agent.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    let left = ours(netns);
    assert!(!left[0].contains("1729"), "{}", left[0]);
    assert_eq!(left[1..], ["", "", ""]);
}

#[test]
fn a_missing_device_is_waited_for() {
    if !ready() {
        return;
    }
    let topology = topology();
    let a = &topology.hosts[0];
    let netns = &a.netns;
    let manifests = manifests(&topology, "  firewall: {returnPath: [w0, u1]}\n");
    let agent = Agent::started(a, &manifests);
    let waiting = |name: &str| {
        let said = format!("waiting for device {name}");
        let status = agent.status().unwrap();
        let mut waiting = status
            .problems
            .iter()
            .filter(|problem| problem.reason == Reason::Waiting.name());
        waiting.any(|problem| problem.message.contains(&said))
    };
    let tables = |text: &str| {
        let rules = netns.ip("rule show") + &netns.ip("-6 rule show");
        rules.matches(&format!("lookup {text}")).count()
    };
    agent.wait("waiting for w0", |status| status.ready && waiting("w0"));
    assert_eq!((tables("17301"), tables("17302")), (2, 0));
    all_by_the_second(&topology);

    netns.ip_batch(
        "link add w0 type veth peer name w1
        link set w1 up
        link set w0 up
        address add 203.0.114.2/24 dev w0",
    );
    agent.wait("with w0", |status| {
        status.ready && status.problems.is_empty() && tables("17302") == 2
    });
    netns.ip("link del u1");
    agent.wait("waiting for u1", |status| status.ready && waiting("u1"));
    assert_eq!((tables("17301"), tables("17302")), (0, 2));
    second_uplink(a, &topology.router);
    agent.wait("with u1 again", |status| {
        status.ready && status.problems.is_empty() && tables("17301") == 2
    });
    agent.wait("with its gateway", |_| {
        ours(netns)[1].contains("via 203.0.113.1 dev u1")
    });
    all_by_the_second(&topology);
}
