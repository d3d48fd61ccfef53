//! Peers that an operator withdraws.

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::thread;
use std::time::Instant;

use adit_tests::agent::PATIENCE;
use adit_tests::topology::{SHARED_V4, SHARED_V6};
use adit_tests::traffic::{self, bound, refusal};
use adit_tests::{Topology, flows};
use dataplane_user::net::Family;
use dataplane_user::resource::{Reason, Severity};
use dataplane_user::status::Status;
use nix::errno::Errno;

use crate::{ROUTES, has_modules, shared};

/// How many of forty flows to an address of two pods reached each of them.
fn reached(topology: &Topology<3>, shared: IpAddr) -> [usize; 2] {
    let servers = [1, 2].map(|index: usize| {
        let bind = || UdpSocket::bind((shared, 7001));
        let server = topology.hosts[index]
            .pod
            .enter(bind)
            .expect("the pod has the address");
        server.set_nonblocking(true).unwrap();
        server
    });
    let end = topology.hosts[0].pod_end();
    let mut reached = [0; 2];
    for _ in 0..40 {
        let client = bound(end.netns, end.address(Family::of(shared))).unwrap();
        client.send_to(b"adit", (shared, 7001)).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let server = loop {
            let got = servers.iter().position(|server| server.recv(&mut [0; 8]).is_ok());
            assert!(
                got.is_some() || Instant::now() < deadline,
                "{shared}: neither receives it"
            );
            if let Some(server) = got {
                break server;
            }
            thread::yield_now();
        };
        reached[server] += 1;
    }
    reached
}

fn withdraw_and_restore(network: Vec<&'static str>) {
    if !has_modules() {
        return;
    }
    let topology = Topology::<3>::new();
    let (_, mut agents) = shared(&topology, network);
    let addresses = [IpAddr::V4(SHARED_V4), IpAddr::V6(SHARED_V6)];
    let agent = &mut agents[0];
    let unknown = agent.run(&["route", "withdraw", "bb"]);
    assert_eq!(unknown.code, 3, "{unknown:?}");
    assert!(unknown.stderr.contains("did you mean `b`?"), "{unknown:?}");

    for _ in 0..2 {
        let done = agent.run(&["route", "withdraw", "b"]);
        assert_eq!(done.code, 0, "{done:?}");
    }
    for address in addresses {
        assert_eq!(reached(&topology, address), [0, 40], "{address}");
    }
    // Prefixes that only the withdrawn peer advertises are refused, by the backstop or by the program.
    let from = topology.hosts[0].end();
    let to = topology.hosts[1].end().address(Family::Ipv4);
    let refused = refusal(from.netns, to).unwrap();
    assert!(
        matches!(refused, Some(Errno::EHOSTUNREACH | Errno::ENOBUFS)),
        "{refused:?}"
    );
    let shown = agent.run(&["status"]).stdout;
    let row = |line: &str| line.starts_with("b ") && line.contains("withdrawn");
    assert!(shown.lines().any(row), "{shown}");

    // The shared prefixes are refused, too, if no peer is left.
    let shared = || {
        let netns = &topology.hosts[0].netns;
        let routes = [
            "route show 10.9.0.0/16 proto 173",
            "-6 route show fd00:9::/32 proto 173",
        ];
        routes.map(|words| netns.ip(words)).concat()
    };
    let by_routes = !shared().is_empty();
    assert_eq!(agent.run(&["route", "withdraw", "c"]).code, 0);
    assert_eq!(shared(), "", "the last next hop takes its routes along");
    for address in addresses {
        let refused = refusal(from.netns, address).unwrap();
        assert!(
            matches!(refused, Some(Errno::EHOSTUNREACH | Errno::ENOBUFS)),
            "{refused:?}"
        );
    }
    assert_eq!(agent.run(&["route", "restore", "c"]).code, 0);
    assert_eq!(!shared().is_empty(), by_routes);

    // The withdrawal survives a restart, and another reconciliation changes nothing.
    agent.stop();
    agent.start();
    agent.ready();
    let status = agent.next_reconciliation();
    assert_eq!(status.reconciliation.changed, 0, "{status:?}");
    let withdrawn = |name: &str| {
        let mut links = status.peers.iter();
        links.any(|peer| peer.node.as_str() == name && peer.withdrawn)
    };
    assert!(withdrawn("b") && !withdrawn("c"));
    for address in addresses {
        assert_eq!(reached(&topology, address), [0, 40], "{address}");
    }
    let planned = agent.plan(&[]);
    assert_eq!(planned.code, 0, "{planned:?}");

    for _ in 0..2 {
        let done = agent.run(&["route", "restore", "b"]);
        assert_eq!(done.code, 0, "{done:?}");
    }
    for address in addresses {
        flows::reach_both(agent, [&topology.hosts[1], &topology.hosts[2]], address);
    }
    traffic::udp(from, topology.hosts[1].end(), Family::Ipv4, 100).unwrap();
}

#[test]
fn a_withdrawn_peer_gets_no_flows_and_a_restored_one_its_share_by_routes() {
    withdraw_and_restore(vec![ROUTES]);
}

#[test]
fn a_withdrawn_peer_gets_no_flows_and_a_restored_one_its_share_by_ebpf() {
    withdraw_and_restore(Vec::new());
}

/// What can't be read is not taken for an empty list: not while the agent runs, and not when it starts.
fn keeps_withdrawn_without_list(network: Vec<&'static str>) {
    if !has_modules() {
        return;
    }
    let topology = Topology::<3>::new();
    let (_, mut agents) = shared(&topology, network);
    let agent = &mut agents[0];
    assert_eq!(agent.run(&["route", "withdraw", "b"]).code, 0);
    let list = agent.state_directory().join("withdrawn");
    let unread = |status: &Status, severity| {
        let mut problems = status.problems.iter();
        problems.any(|problem| {
            (problem.reason.as_str(), problem.severity) == (Reason::WithdrawnUnreadable.name(), severity)
        })
    };
    let is_withdrawn = |status: &Status| {
        let mut links = status.peers.iter();
        links.all(|peer| peer.withdrawn == (peer.node.as_str() == "b"))
    };
    let withdraws_only_b = || {
        for address in [IpAddr::V4(SHARED_V4), IpAddr::V6(SHARED_V6)] {
            assert_eq!(reached(&topology, address), [0, 40], "{address}");
        }
    };
    fs::write(&list, "no id!\n").unwrap();
    let status = agent.next_reconciliation();
    assert!(
        unread(&status, Severity::Warning) && is_withdrawn(&status),
        "{status:#?}"
    );
    agent.kill();
    fs::remove_file(&list).unwrap();
    fs::create_dir(&list).unwrap();
    agent.start();
    let status = agent.wait("reported", |status| unread(status, Severity::Error));
    assert!(is_withdrawn(&status), "{status:#?}");
    withdraws_only_b();
    let status = agent.next_reconciliation();
    assert!(
        unread(&status, Severity::Error) && is_withdrawn(&status),
        "{status:#?}"
    );
    assert_eq!(agent.plan(&[]).code, 5, "nothing to change, and a problem");
    withdraws_only_b();

    // Without the file nobody is withdrawn.
    fs::remove_dir(&list).unwrap();
    let status = agent.next_reconciliation();
    assert!(
        status.ready && status.peers.iter().all(|peer| !peer.withdrawn),
        "{status:#?}"
    );
    for address in [IpAddr::V4(SHARED_V4), IpAddr::V6(SHARED_V6)] {
        flows::reach_both(agent, [&topology.hosts[1], &topology.hosts[2]], address);
    }
}

#[test]
fn an_unreadable_list_withdraws_and_restores_nobody_by_routes() {
    keeps_withdrawn_without_list(vec![ROUTES]);
}

#[test]
fn an_unreadable_list_withdraws_and_restores_nobody_by_ebpf() {
    keeps_withdrawn_without_list(Vec::new());
}

/// A group loses and regains members in place: no route changes, however many there are.
#[test]
fn withdrawing_changes_groups_in_place() {
    if !has_modules() {
        return;
    }
    let topology = Topology::<3>::new();
    let (_, agents) = shared(&topology, vec![ROUTES]);
    let netns = &topology.hosts[0].netns;
    let object = || {
        let route = netns.ip("route show 10.9.0.0/16 proto 173");
        route.split_whitespace().nth(2).map(str::to_owned)
    };
    let before = object();
    assert!(before.is_some());
    for command in ["withdraw", "restore"] {
        let done = agents[0].run(&["route", command, "c"]);
        assert_eq!(done.code, 0, "{done:?}");
        assert_eq!(object(), before, "the same object after {command}");
    }
}
