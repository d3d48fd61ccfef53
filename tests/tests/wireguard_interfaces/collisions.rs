//! Resources that only one device can have: ports that move, others who have them, and what waits meanwhile.

use std::net::UdpSocket;

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

    // The first one goes, the others get its port and the next.
    agent.take(&interfaces(&[("wg1", 5000), ("wg2", 5001)]));
    is_settled(&agent);
    assert_eq!(ports(), "5000 5001 wg1 wg2");
    // In a circle, which takes a port that nobody has.
    for (one, two) in [(5001, 5000), (5000, 5001)] {
        agent.take(&interfaces(&[("wg1", one), ("wg2", two)]));
        is_settled(&agent);
        let own = wg(&host.netns, "show wg1 listen-port");
        assert_eq!(own.trim(), one.to_string());
    }
    assert_eq!(index(), before, "wg1 was made anew");
    assert_eq!(agent.next_pass().recreated, 0);
}

#[test]
fn who_has_a_port_is_named_and_a_revoked_peer_goes_all_the_same() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let with_wg0 = interfaces(&[("wg0", 5000)]);
    let agent = Agent::started(host, &with_wg0);
    is_settled(&agent);
    let own = host.netns.enter(|| UdpSocket::bind("0.0.0.0:5001").unwrap());
    // wg1 can't have its port, wg0's peer is revoked, and its route goes.
    let former = key(100).public_key().to_string();
    let without = with_wg0.replace(&former, &key(120).public_key().to_string());
    agent.write(&(without.replace("10.80.0.0/16", "10.88.0.0/16") + &interfaces(&[("wg1", 5001)])));
    let status = agent.next_pass();
    let failed = problem(&status, "ApplyFailed");
    let holder = format!("UDP port 5001 is taken by process {}", std::process::id());
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
    agent.next_pass();
    is_settled(&agent);

    // A device that is not Adit's is named too.
    host.netns.ip("link add gnv type geneve external dstport 5002");
    host.netns.ip("link set gnv up");
    agent.write(&interfaces(&[("wg2", 5002)]));
    let status = agent.next_pass();
    let failed = problem(&status, "ApplyFailed");
    let holder = "UDP port 5002 is taken by device gnv (geneve external dstport 5002)";
    assert!(failed.message.contains(holder), "{failed:?}");
    host.netns.ip("link delete gnv");
    agent.next_pass();
    is_settled(&agent);
}

#[test]
fn a_foreign_route_in_the_place_of_an_allowed_ip_s_is_a_conflict() {
    require!(modules: "wireguard"; programs: "wg");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    host.netns.ip("route add unreachable 10.80.0.0/16");
    let agent = Agent::new(host, &interfaces(&[("wg0", 5000), ("wg1", 5001)]));
    let mut agent = agent;
    agent.start();
    let status = agent.next_pass();
    assert_eq!(status.problems.len(), 1, "{:#?}", status.problems);
    let conflict = problem(&status, "Conflict");
    assert!(conflict.subject.contains("10.80.0.0/16"), "{conflict:?}");
    let of_other = host.netns.ip("route show dev wg1 proto 173");
    assert!(of_other.contains("10.81.0.0/16"), "{of_other}");
    host.netns.ip("route delete unreachable 10.80.0.0/16");
    agent.next_pass();
    is_settled(&agent);
    let routes = host.netns.ip("route show dev wg0 proto 173");
    assert!(routes.contains("10.80.0.0/16"), "{routes}");
}
