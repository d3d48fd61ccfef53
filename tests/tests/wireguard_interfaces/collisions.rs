//! Resources that only one device can have: ports that move, other owners, and changes that wait for them.

use std::net::UdpSocket;

use adit_tests::declared::of_node;
use adit_tests::{Agent, Topology, require};
use dataplane_user::status::{ProblemStatus, Status};

use crate::{interface, is_settled, key, wg};

/// Interfaces by name and listen port, each with an address, a peer and a route to it.
fn interfaces(list: &[(&str, u16)]) -> String {
    let one = |(name, port): &(&str, u16)| {
        let number: u8 = name[2..].parse().expect("a number");
        let peer = key(100 + number).public_key();
        let spec = format!(
            "listenPort: {port}, addresses: [10.7{number}.0.1/24], peers: [{{ name: one, publicKey: '{peer}', allowedIPs: [10.8{number}.0.0/16] }}]"
        );
        interface("a", name, &spec)
    };
    list.iter().map(one).collect()
}

/// A device in another namespace, whose sockets are in the namespace of the agent.
fn within(name: &str, namespace: &str, port: u16) -> String {
    interface(
        "a",
        name,
        &format!("namespace: {{ path: {namespace} }}, listenPort: {port}"),
    )
}

fn problem<'a>(status: &'a Status, reason: &str) -> &'a ProblemStatus {
    let mut problems = status.problems.iter();
    let found = problems.find(|problem| problem.reason == reason);
    found.unwrap_or_else(|| panic!("{reason}: {:#?}", status.problems))
}

#[test]
fn ports_move_between_interfaces_and_swap() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let agent = Agent::started(host, &interfaces(&[("wg0", 5000), ("wg1", 5001), ("wg2", 5002)]));
    is_settled(&agent);
    let ports = || {
        let all = wg(&host.netns, "show all listen-port");
        let mut ports = all.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        ports.sort();
        ports.join(" ")
    };
    assert_eq!(ports(), "5000 5001 5002 wg0 wg1 wg2");
    let index = || host.netns.ip("-o link show wg1");
    let before = index();

    // The first one is deleted, and the others get its port and the next.
    agent.apply(&interfaces(&[("wg1", 5000), ("wg2", 5001)]));
    is_settled(&agent);
    assert_eq!(ports(), "5000 5001 wg1 wg2");
    // In a circle, which needs an unused port.
    for (one, two) in [(5001, 5000), (5000, 5001)] {
        agent.apply(&interfaces(&[("wg1", one), ("wg2", two)]));
        is_settled(&agent);
        let own = wg(&host.netns, "show wg1 listen-port");
        assert_eq!(own.trim(), one.to_string());
    }
    assert_eq!(index(), before, "wg1 was made anew");
    assert_eq!(agent.next_reconciliation().recreated, 0);
}

#[test]
fn the_owner_of_a_port_is_named_and_a_revoked_peer_is_removed_nevertheless() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let with_wg0 = interfaces(&[("wg0", 5000)]);
    let agent = Agent::started(host, &with_wg0);
    is_settled(&agent);
    let own = host.netns.enter(|| UdpSocket::bind("0.0.0.0:5001").unwrap());
    // wg1 cannot get its port, the peer of wg0 is revoked, and its route is deleted.
    let former = key(100).public_key().to_string();
    let without = with_wg0.replace(&former, &key(120).public_key().to_string());
    agent.write(&(without.replace("10.80.0.0/16", "10.88.0.0/16") + &interfaces(&[("wg1", 5001)])));
    let status = agent.next_reconciliation();
    let failed = problem(&status, "ApplyFailed");
    let holder = format!("UDP port 5001 is used by process {}", std::process::id());
    assert!(failed.message.contains(&holder), "{failed:?}");
    let waiting = problem(&status, "Waiting");
    assert!(waiting.message.contains("10.81.0.0/16"), "{waiting:?}");
    assert_eq!(status.problems.len(), 2, "{:#?}", status.problems);
    let peers = wg(&host.netns, "show wg0 peers");
    assert!(!peers.contains(&former), "{peers}");
    let routes = host.netns.ip("route show dev wg0 proto 173");
    assert!(
        routes.contains("10.88.0.0/16") && !routes.contains("10.80.0.0/16"),
        "{routes}"
    );
    drop(own);
    agent.next_reconciliation();
    is_settled(&agent);

    // An unmanaged device is named, too.
    host.netns.ip("link add gnv type geneve external dstport 5002");
    host.netns.ip("link set gnv up");
    agent.write(&interfaces(&[("wg2", 5002)]));
    let status = agent.next_reconciliation();
    let failed = problem(&status, "ApplyFailed");
    let holder = "UDP port 5002 is used by device gnv (geneve external dstport 5002)";
    assert!(failed.message.contains(holder), "{failed:?}");
    host.netns.ip("link delete gnv");
    agent.next_reconciliation();
    is_settled(&agent);
}

#[test]
fn an_unmanaged_route_to_an_allowed_ip_is_a_conflict() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    host.netns.ip("route add unreachable 10.80.0.0/16");
    let agent = Agent::new(host, &interfaces(&[("wg0", 5000), ("wg1", 5001)]));
    let mut agent = agent;
    agent.start();
    let status = agent.next_reconciliation();
    assert_eq!(status.problems.len(), 1, "{:#?}", status.problems);
    let conflict = problem(&status, "Conflict");
    assert!(conflict.subject.contains("10.80.0.0/16"), "{conflict:?}");
    let of_other = host.netns.ip("route show dev wg1 proto 173");
    assert!(of_other.contains("10.81.0.0/16"), "{of_other}");
    host.netns.ip("route delete unreachable 10.80.0.0/16");
    agent.next_reconciliation();
    is_settled(&agent);
    let routes = host.netns.ip("route show dev wg0 proto 173");
    assert!(routes.contains("10.80.0.0/16"), "{routes}");
}

#[test]
fn an_interface_is_created_in_a_namespace_although_its_name_is_used_here() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<2>::new();
    let [host, other] = &topology.hosts;
    host.netns.ip("link add wg0 type dummy");
    let place = other.netns.path();
    let place = place.to_str().expect("UTF-8");
    let agent = Agent::started(host, &within("wg0", place, 5000));
    is_settled(&agent);
    assert_eq!(wg(&other.netns, "show wg0 listen-port").trim(), "5000");
    assert!(host.netns.ip("-d link show wg0").contains("dummy"));
    // Moves to another namespace in one reconciliation.
    agent.apply(&(within("wg0", place, 5000) + &interface("a", "wg1", "listenPort: 5001")));
    is_settled(&agent);
    agent.apply(&(within("wg0", place, 5000) + &within("wg1", place, 5001)));
    is_settled(&agent);
    assert_eq!(wg(&other.netns, "show wg1 listen-port").trim(), "5001");
}

#[test]
fn an_interface_that_waits_for_its_successor_has_no_revoked_peer() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let old = interfaces(&[("wg0", 5000)]);
    let agent = Agent::started(host, &old);
    is_settled(&agent);
    let own = host.netns.enter(|| UdpSocket::bind("0.0.0.0:5001").unwrap());
    let new = interfaces(&[("wg1", 5001)]).replace("10.81.0.0/16", "10.80.0.0/16");
    agent.write(&new);
    let status = agent.next_reconciliation();
    assert!(!status.ready);
    assert_eq!(wg(&host.netns, "show wg0 peers").trim(), "");
    // Its route stays, so that no packet uses the default route.
    let routes = host.netns.ip("route show 10.80.0.0/16");
    assert!(routes.contains("dev wg0"), "{routes}");
    drop(own);
    agent.next_reconciliation();
    is_settled(&agent);
    assert!(host.netns.ip("route show 10.80.0.0/16").contains("dev wg1"));
}

#[test]
fn routes_stay_when_a_device_loses_its_last_address() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let with = |addresses: &str, allowed: &str| {
        let peer = key(100).public_key();
        let spec = format!(
            "listenPort: 5000, addresses: [{addresses}], peers: [{{ publicKey: '{peer}', allowedIPs: [{allowed}] }}]"
        );
        interface("a", "wg0", &spec)
    };
    let agent = Agent::started(host, &with("10.70.0.1/24", "10.80.0.0/16, 10.70.0.0/24"));
    is_settled(&agent);
    let connected = || host.netns.ip("route show 10.70.0.0/24");
    assert!(connected().contains("proto kernel"));
    // The route of the subnet is no longer the one of the kernel, and the other one is deleted and restored with it.
    agent.apply(&with("", "10.80.0.0/16, 10.70.0.0/24"));
    is_settled(&agent);
    assert!(host.netns.ip("route show 10.80.0.0/16").contains("dev wg0"));
    assert!(connected().contains("proto 173"), "{}", connected());
    assert_eq!(agent.next_reconciliation().repairs.total, 0);
}

#[test]
fn a_device_stays_while_its_successor_cannot_be_created() {
    require!(modules: "wireguard", "geneve"; programs: "wg");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let with = |geneve: u16, listen_port: u16| {
        let spec = format!("type: geneve, id: 7, remote: 192.0.2.98, dstport: {geneve}");
        of_node("a", "NetlinkInterface", "g", &spec) + &interfaces(&[("wg0", listen_port)])
    };
    let agent = Agent::started(host, &with(6081, 5000));
    is_settled(&agent);
    let own = host.netns.enter(|| UdpSocket::bind("0.0.0.0:5001").unwrap());
    agent.write(&with(5000, 5001));
    assert!(!agent.next_reconciliation().ready);
    let shown = || host.netns.ip("-d link show g");
    assert!(shown().contains("dstport 6081"), "{}", shown());
    drop(own);
    agent.next_reconciliation();
    is_settled(&agent);
    assert!(shown().contains("dstport 5000"), "{}", shown());
}
