//! Other namespaces: by name, path and process; that come late, go and come again; and what is left there.

use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};

use adit_tests::{Agent, NetNs, Topology, require};

use crate::{Named, becomes, interface, is_settled, manifest, reaches, route, waits};

/// A veth pair from the host to a namespace.
fn pair(namespace: &str) -> String {
    interface(
        "host0",
        &format!(
            "type: veth, addresses: [10.80.0.1/24], peer: {{ name: eth0, namespace: {{ {namespace} }}, addresses: [10.80.0.2/24], mac: '02:00:00:00:80:02', mtu: 1420 }}"
        ),
    )
}

#[test]
fn an_end_in_a_named_namespace_carries_pings_and_is_mended() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let there = Named::new();
    let inside = format!("namespace: {{ name: {} }}", there.0);
    let manifests = [
        pair(&format!("name: {}", there.0)),
        interface(
            "inner",
            &format!("type: dummy, {inside}, addresses: [10.81.0.1/24]"),
        ),
        route(
            "default-inside",
            &format!("{inside}, to: default, via: 10.80.0.1"),
        ),
        manifest(
            "NetlinkRule",
            "rule",
            &format!("{inside}, priority: 100, table: 100, fwmark: 7"),
        ),
        route("back", "to: 10.81.0.0/24, via: 10.80.0.2"),
    ];
    there.ip("link add theirs type dummy");
    there.ip("route add 10.99.0.0/16 dev lo");
    let theirs = || there.ip("-d link show theirs") + &there.ip("route show 10.99.0.0/16");
    let before = theirs();
    let mut agent = Agent::started(host, &manifests.concat());
    is_settled(&agent);
    assert!(there.reaches("10.80.0.1") && reaches(&host.netns, "10.81.0.1"));
    assert!(there.ip("-d link show eth0").contains("mtu 1420"));
    assert!(there.ip("rule").contains("fwmark 0x7 lookup 100"));

    for damage in [
        "link delete eth0",
        "link set eth0 down",
        "link set eth0 down\nlink set eth0 name odd",
        "address delete 10.80.0.2/24 dev eth0",
        "route delete default",
        "rule delete priority 100",
        "link delete inner",
    ] {
        there.ip_batch(damage);
        becomes(
            "mended",
            || agent.plan(&[]).stdout,
            |plan| plan.contains("Nothing to do."),
        );
    }
    is_settled(&agent);
    host.netns.ip("link delete host0");
    assert!(there.reaches("10.80.0.1"));

    // Its manifests go while no agent runs: what is there goes with the next start all the same.
    agent.stop();
    agent.write(&interface("other", "type: dummy"));
    agent.start();
    agent.ready();
    let left = there.ip("-br link show") + &there.ip("rule") + &there.ip("route");
    for gone in ["inner", "eth0", "lookup 100", "default via"] {
        assert!(!left.contains(gone), "{gone}: {left}");
    }
    // And by `adit uninstall`.
    agent.write(&manifests.concat());
    becomes(
        "there again",
        || there.ip("-br link show"),
        |shown| shown.contains("inner"),
    );
    agent.stop();
    assert_eq!(agent.run(&["uninstall"]).code, 0);
    let left = there.ip("-br link show") + &there.ip("rule");
    assert!(!left.contains("inner") && !left.contains("lookup 100"), "{left}");
    assert_eq!(theirs(), before);
}

#[test]
fn a_namespace_that_comes_late_or_again_gets_its_interface() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let there = Named::new();
    let name = there.0.clone();
    drop(there);
    let manifests = pair(&format!("name: {name}")) + &interface("free", "type: dummy");
    let mut agent = Agent::new(&topology.hosts[0], &manifests).with_pauses("waiting=200");
    agent.start();
    agent.ready();
    let status = agent.next_pass();
    assert_eq!(waits(&status), ["NetlinkInterface/host0"], "{status:#?}");
    assert!(topology.hosts[0].netns.ip("-br link show").contains("free"));
    for _ in 0..2 {
        let there = Named::of(&name);
        assert!(there.reaches("10.80.0.1"));
        agent.wait("not waiting", |status| {
            waits(status).is_empty() && status.pass.residual == 0
        });
        drop(there);
        agent.wait("waiting", |status| !waits(status).is_empty());
    }
}

#[test]
fn a_namespace_by_path() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let there = NetNs::new();
    let agent = Agent::started(
        &topology.hosts[0],
        &pair(&format!("path: {}", there.path().display())),
    );
    is_settled(&agent);
    assert!(reaches(&there, "10.80.0.1"));
}

/// A process in a namespace of its own.
struct Sleeper(Child);

impl Sleeper {
    fn new() -> Sleeper {
        let command = ["--net", "sleep", "1000"];
        Sleeper(
            Command::new("unshare")
                .args(command)
                .stdin(Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_namespace_by_process_and_the_own_one_by_another_name() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let sleeper = Sleeper::new();
    let pid = sleeper.0.id();
    let own = File::open(host.netns.path()).unwrap();
    let own = format!("/proc/{}/fd/{}", std::process::id(), own.as_raw_fd());
    let manifests = pair(&format!("pid: {pid}"))
        + &interface("here", &format!("type: dummy, namespace: {{ path: {own} }}"));
    let agent = Agent::started(host, &manifests);
    is_settled(&agent);
    assert!(host.netns.ip("-br link show").contains("here"));
    assert!(reaches(&host.netns, "10.80.0.2"));
    drop(sleeper);
    agent.wait("waiting", |status| waits(status) == ["NetlinkInterface/host0"]);
    assert!(
        !host.netns.ip("-br link show").contains("host0"),
        "nothing keeps the namespace alive"
    );
}

#[test]
fn what_changes_in_another_namespace_is_mended_at_once_and_foreign_changes_wake_nobody() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let there = Named::new();
    let rule = manifest(
        "NetlinkRule",
        "rule",
        &format!("namespace: {{ name: {} }}, priority: 100, table: 100", there.0),
    );
    let manifests = pair(&format!("name: {}", there.0)) + &rule;
    let agent = Agent::started(&topology.hosts[0], &manifests);
    let deeds = [
        ("link set eth0 down", "link eth0", "was down"),
        ("link delete eth0", "link host0", "was gone"),
        (
            "address delete 10.80.0.2/24 dev eth0",
            "address 10.80.0.2/24 dev eth0",
            "was gone",
        ),
        (
            "rule delete priority 100",
            "rule priority 100 table 100",
            "was gone",
        ),
    ];
    for (deed, number) in deeds.into_iter().zip(1..) {
        there.ip(deed.0);
        agent.wait(&format!("mended after {}", deed.0), |status| {
            status.repairs.total == number && status.pass.residual == 0
        });
        let repairs = agent.status().unwrap().repairs;
        let last = repairs.recent.last().unwrap();
        assert!(last.object.ends_with(deed.1), "{last:?}");
        assert!(last.found.contains(deed.2), "{last:?}");
    }
    assert!(there.reaches("10.80.0.1"));

    let before = agent.status().unwrap().pass.number;
    for number in 0..200 {
        there.ip(&format!("route add 10.99.{number}.0/24 dev lo"));
    }
    there.ip("link add theirs type dummy");
    there.ip("link set theirs up");
    there.ip("address add 10.98.0.1/24 dev theirs");
    // What is ours behind all of that is heard after it, and alone wakes; a device that comes up is told of once more.
    there.ip("link set eth0 down");
    let repaired = agent.wait("mended behind them", |status| {
        status.repairs.total > 4 && status.pass.residual == 0
    });
    let passes = repaired.pass.number - before;
    assert!(
        passes <= 2,
        "{passes} passes for one change of ours beside 200 of others"
    );
}
