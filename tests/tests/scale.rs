//! One node of a large network: the cost of its agent grows with the network, and no faster. The printed times are those
//! under `strace`, which slows everything down.

use std::fmt::Write as _;
use std::time::Instant;

use adit_tests::{Agent, Overlay, Topology, require};
use dataplane_user::net::Family;

/// The number of prefixes that each node advertises besides its two addresses.
const PREFIXES: u32 = 4;

#[test]
fn syscalls_of_a_thousand_nodes_are_four_times_those_of_250() {
    require!(modules: "dummy", "geneve");
    let few = measure(250);
    let many = measure(1000);
    assert!(
        many * 10 <= few * 45,
        "{many} syscalls with 1,000 nodes, {few} with 250"
    );
}

/// Each route needs a part of a send and causes one event; acks are per batch.
#[test]
fn ten_thousand_routes_need_few_sends_and_one_event_each() {
    const PREFIXES: u64 = 5_000;
    const ROUTES: u64 = 2 * PREFIXES;
    require!(modules: "dummy", "geneve");
    let topology = Topology::<1>::new();
    let mut prefixes = String::new();
    for number in 0..PREFIXES {
        write!(prefixes, "10.{}.{}.0/24, ", 8 + number / 250, number % 250).unwrap();
    }
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let manifests = manifests.replace(
        "prefixes: [10.0.0.0/8, ",
        &format!("prefixes: [10.0.0.0/13, {prefixes}"),
    );
    let mut agent = Agent::new(&topology.hosts[0], &manifests)
        .with_log("info")
        .with_counted_syscalls();
    agent.start();
    agent.wait_for_log("ready=true");
    agent.stop();

    let made = topology.hosts[0].netns.ip("route show proto 173");
    assert!(u64::try_from(made.lines().count()).unwrap() >= ROUTES, "{made}");
    let [sends, receives] = [["sendto", "sendmsg"], ["recvfrom", "recvmsg"]]
        .map(|names| names.map(|name| agent.syscalls_of(name)).iter().sum::<u64>());
    println!("{sends} sends and {receives} receives for {ROUTES} routes");
    assert!(sends <= ROUTES / 50, "{sends} sends");
    // The agent loses none of its own events.
    assert!(
        (ROUTES..=ROUTES + ROUTES / 5).contains(&receives),
        "{receives} receives"
    );
}

/// Starts the first of a number of nodes, stops it when it is ready, and returns its system calls.
fn measure(nodes: u32) -> u64 {
    let topology = Topology::<1>::new();
    let mut manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    (1..nodes).for_each(|number| manifests.push_str(&peer(number)));
    let mut agent = Agent::new(&topology.hosts[0], &manifests)
        .with_log("info")
        .with_counted_syscalls();

    let started = Instant::now();
    agent.start();
    // Waits for the log, because a status request costs system calls, too.
    agent.wait_for_log("ready=true");
    let ready = started.elapsed();
    let memory = agent.peak_memory();
    agent.stop();

    let peers = usize::try_from(nodes - 1).unwrap();
    let table = agent.json(&["map", "dump"]);
    let per_peer = usize::try_from(PREFIXES).unwrap() + Family::BOTH.len();
    let own = 2 * Family::BOTH.len();
    assert_eq!(
        table["prefixes"].as_array().unwrap().len(),
        peers * per_peer + own
    );
    let syscalls = agent.syscalls();
    println!(
        "{nodes} nodes with {PREFIXES} prefixes each: {syscalls} syscalls, ready after {:.1} s under strace, {} MiB",
        ready.as_secs_f64(),
        memory >> 10
    );
    syscalls
}

/// The manifest of a node that does not exist but has a route.
fn peer(number: u32) -> String {
    let [_, _, high, low] = number.to_be_bytes();
    let mut prefixes = String::new();
    for prefix in 0..PREFIXES / 2 {
        write!(prefixes, "10.{}.{high}.{low}/32, ", 128 + prefix).unwrap();
        write!(prefixes, "\"fd00:8000:{prefix:x}:{number:x}::/64\", ").unwrap();
    }
    format!(
        "---
apiVersion: adit.dev/v1alpha1
kind: TunnelNode
metadata: {{name: node{number}}}
spec:
  network: net
  underlay: {{ipv4: 198.51.{high}.{low}}}
  addresses: [10.127.{high}.{low}, \"fd00:7fff::{number:x}\"]
  prefixes: [{prefixes}]
"
    )
}
