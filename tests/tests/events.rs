//! Events that wake an agent whose full reconciliations are an hour apart: changes of the underlay and lost events do,
//! unmanaged objects do not.

use std::fmt::Write as _;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::agent::start_all;
use adit_tests::hand::operations;
use adit_tests::traffic::Probes;
use adit_tests::{Agent, NetNs, Overlay, Topology, require_module, scrape, traffic};
use dataplane_user::net::Family;
use dataplane_user::status::Status;
use nix::sys::signal::Signal;

fn possible() -> bool {
    ["dummy", "geneve", "wireguard", "ipip"]
        .into_iter()
        .all(require_module)
}

/// Agents on all hosts: the one of `a`, which is tested, and the others.
fn start<'a, const N: usize>(topology: &'a Topology<N>, overlay: &Overlay) -> (Agent<'a>, Vec<Agent<'a>>) {
    let mut agents = start_all(topology, &overlay.manifests(topology)).into_iter();
    let agent = agents.next().expect("there is one");
    (agent, agents.collect())
}

#[test]
fn the_mtu_of_the_anchor_follows_the_underlay() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let (agent, _others) = start(&topology, &Overlay::new(&topology, "geneve"));
    let [a, b] = &topology.hosts;
    let remote = b.underlay(Family::Ipv4);
    let mtu = |wanted: u32| {
        agent.wait(&format!("at MTU {wanted}"), |status| {
            status.networks[0].mtu == wanted && status.reconciliation.residual == 0
        });
        let route = a.netns.ip("route show 10.0.0.0/8 metric 173");
        assert!(route.contains(&format!("mtu {wanted}")), "{route}");
    };
    mtu(1450);
    a.netns.ip("link set u0 mtu 1400");
    mtu(1350);
    a.netns.ip("link set u0 mtu 1500");
    mtu(1450);
    a.netns.ip(&format!("route add {remote} via 192.0.2.17 mtu 1420"));
    mtu(1370);
    // By another device.
    a.netns.ip_batch(&format!(
        "link add other type dummy
        link set other mtu 1390 up
        route replace {remote} dev other"
    ));
    mtu(1340);
    a.netns.ip("link delete other");
    mtu(1450);
    assert_eq!(agent.status().unwrap().repairs.total, 0, "nothing was damaged");
}

#[test]
fn a_peer_whose_underlay_route_leads_into_the_overlay_is_reported_and_recovers() {
    if !possible() {
        return;
    }
    for encapsulation in ["geneve", "ipip", "wireguard"] {
        let topology = Topology::<3>::new();
        let overlay = Overlay {
            requested: vec![("b", encapsulation), ("c", "geneve")],
            ..Overlay::new(&topology, "auto")
        };
        let (agent, _others) = start(&topology, &overlay);
        let [a, b, c] = &topology.hosts;
        traffic::udp(a.pod_end(), b.pod_end(), Family::Ipv4, 100).unwrap();
        let to_c = Probes::start(a.pod_end(), c.pod_end(), Family::Ipv4).unwrap();
        let remote = b.underlay(Family::Ipv4);
        let looped = |status: &Status| {
            let mut problems = status.problems.iter();
            problems.any(|problem| problem.reason == "UnderlayLoop" && problem.subject == "TunnelNode/b")
        };
        a.netns
            .ip(&format!("route add {remote} via 169.254.1.1 dev adit0 onlink"));
        let status = agent.wait("reporting of the loop", looped);
        assert!(status.reconciliation.residual == 0, "{status:#?}");
        let to_b = b.end().address(Family::Ipv4).to_string();
        assert_eq!(agent.run(&["map", "lookup", &to_b]).code, 3, "{encapsulation}");
        a.netns.ip(&format!("route delete {remote}"));
        agent.wait("without the loop", |status| !looped(status) && status.ready);
        traffic::udp(a.pod_end(), b.pod_end(), Family::Ipv4, 100).unwrap();
        let lost = to_c.finish().unwrap();
        assert_eq!(lost.lost, 0, "others are not concerned: {lost:?}");
    }
}

/// The route of the kernel to an underlay address inside of the overlay decides. If it leads to the underlay, the peer is
/// reached. If the route of the overlay is used, the peer is not reached, and a more specific route is the remedy.
#[test]
fn an_endpoint_inside_of_the_overlay_needs_a_more_specific_route() {
    if !possible() {
        return;
    }
    for dataplane in ["ebpf", "routes"] {
        let topology = Topology::<2>::new();
        let overlay = Overlay {
            dataplanes: vec![("a", dataplane), ("b", dataplane)],
            ..Overlay::new(&topology, "geneve")
        };
        // Each underlay address is in the address space of the overlay, in a subnet that only includes the router.
        let manifests = overlay.manifests(&topology);
        let manifests = manifests.replace("prefixes: [10.0.0.0/8,", "prefixes: [10.0.0.0/8, 192.0.2.0/24,");
        let agents = topology.hosts.iter().map(|host| {
            let mut agent = Agent::new(host, &manifests);
            agent.start();
            agent.ready();
            agent
        });
        let agents = agents.collect::<Vec<_>>();
        let looped = |status: &Status| {
            let mut problems = status.problems.iter();
            problems.any(|problem| problem.reason == "UnderlayLoop")
        };
        let [a, b] = &topology.hosts[..] else {
            unreachable!("there are two");
        };
        let remotes = [(a, b, "192.0.2.17"), (b, a, "192.0.2.33")];
        for (agent, (host, peer, _)) in agents.iter().zip(remotes) {
            agent.wait("reporting of the loop", looped);
            let remote = peer.underlay(Family::Ipv4);
            // The kernel agrees: by the anchor, or by the backstop of the peer routes.
            let led = host.netns.enter(|| {
                Command::new("ip")
                    .args(["route", "get", &remote.to_string()])
                    .output()
            });
            let led = led.unwrap();
            let words = String::from_utf8_lossy(&led.stdout).into_owned();
            assert!(words.contains("dev adit0") || !led.status.success(), "{words}");
        }
        for (host, peer, gateway) in remotes {
            host.netns.ip(&format!(
                "route add {} via {gateway} dev u0",
                peer.underlay(Family::Ipv4)
            ));
        }
        for agent in &agents {
            agent.wait("without a loop", |status| {
                status.problems.is_empty() && status.ready
            });
        }
        for family in Family::BOTH {
            traffic::all(a.pod_end(), b.pod_end(), family).unwrap();
        }
        a.netns.ip(&format!("route delete {}", b.underlay(Family::Ipv4)));
        agents[0].wait("reporting of the loop again", looped);
    }
}

#[test]
fn an_endpoint_inside_of_the_overlay_is_reached_by_the_subnet_that_it_is_on() {
    if !possible() {
        return;
    }
    for dataplane in ["ebpf", "routes"] {
        let topology = Topology::<2>::new();
        let [a, b] = &topology.hosts[..] else {
            unreachable!("there are two");
        };
        a.netns.ip_batch(&format!(
            "link add x0 type veth peer name x0 netns {}
            link set x0 up
            address add 10.200.0.1/30 dev x0",
            b.netns.path().display()
        ));
        b.netns
            .ip_batch("link set x0 up\naddress add 10.200.0.2/30 dev x0");
        let overlay = Overlay {
            dataplanes: vec![("a", dataplane), ("b", dataplane)],
            ..Overlay::new(&topology, "geneve")
        };
        let mut manifests = overlay.manifests(&topology);
        for (host, address) in [(a, "10.200.0.1"), (b, "10.200.0.2")] {
            let underlay = format!("ipv4: {},", host.underlay(Family::Ipv4));
            manifests = manifests.replace(&underlay, &format!("ipv4: {address},"));
        }
        let agents = start_all(&topology, &manifests);
        for agent in &agents {
            assert_eq!(agent.next_reconciliation().problems, [], "{dataplane}");
        }
        for family in Family::BOTH {
            traffic::all(a.pod_end(), b.pod_end(), family).unwrap();
        }
        let led = a.netns.ip("route get 10.200.0.2");
        assert!(led.contains("dev x0"), "{led}");
    }
}

#[test]
fn unmanaged_routes_do_not_wake_the_agent() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let (agent, _others) = start(&topology, &Overlay::new(&topology, "geneve"));
    let a = &topology.hosts[0].netns;
    settle(&agent, a);
    let before = agent.status().unwrap().reconciliation.number;
    let heard = value(a, r#"adit_kernel_events_total{kind="route"}"#);
    a.ip_batch(&storm("add", 10_000));
    a.ip_batch(&storm("delete", 10_000));
    wait_for(
        a,
        r#"adit_kernel_events_total{kind="route"}"#,
        |now| now >= heard + 20_000,
        &agent,
    );
    // Later events arrive after it.
    a.ip("link delete adit-geneve");
    let status = agent.wait("repaired", |status| status.repairs.total == 1 && status.ready);
    let passes = status.reconciliation.number - before;
    println!("{passes} reconciliations beside 20,000 unmanaged events");
    assert!(
        passes <= 2,
        "{passes} reconciliations for one change of a managed object"
    );
}

#[test]
fn changes_during_the_start_of_an_agent_are_not_missed() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let (mut agent, _others) = start(&topology, &Overlay::new(&topology, "geneve"));
    let a = &topology.hosts[0].netns;
    // So that a listing takes long, and state may change after it was read.
    a.ip_batch(&storm("add", 10_000));
    agent.stop();
    let begun = Instant::now();
    agent.start();
    agent.ready();
    let start = begun.elapsed();
    const MOMENTS: u32 = 8;
    for moment in 0..MOMENTS {
        agent.stop();
        agent.start();
        thread::sleep(start * moment / MOMENTS);
        a.ip("route delete 10.0.0.0/8 metric 173");
        // No reconciliation happens by itself.
        let back = || !a.ip("route show 10.0.0.0/8 metric 173").is_empty();
        agent.wait(&format!("mended, deleted at {moment} of {MOMENTS}"), |status| {
            status.ready && back()
        });
    }
}

/// Map entries send no events, so only a full reconciliation restores them, and none happens unless asked for.
#[test]
fn a_hangup_asks_for_one_reconciliation_that_begins_after_it() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let (agent, _others) = start(&topology, &Overlay::new(&topology, "geneve"));
    settle(&agent, &topology.hosts[0].netns);
    let mut all = operations(&agent);
    all.retain(|operation| operation.kind == "map");
    let before = agent.status().unwrap().reconciliation;
    assert_eq!(before.begun, before.number, "no reconciliation runs");
    let entry = &all[0];
    entry.act(&agent);
    let after = agent.next_reconciliation();
    assert_eq!(
        (after.reconciliation.number, after.repairs.total),
        (before.number + 1, 1)
    );
    settle(&agent, &topology.hosts[0].netns);
    assert_eq!(
        agent.status().unwrap().reconciliation.number,
        before.number + 1,
        "one and no more"
    );

    // A running reconciliation may have read the state before this change.
    for repairs in 2..=5 {
        agent.signal(Signal::SIGHUP);
        entry.act(&agent);
        assert_eq!(agent.next_reconciliation().repairs.total, repairs);
    }
}

#[test]
fn changes_by_the_agent_do_not_wake_it() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let (agent, _others) = start(&topology, &Overlay::new(&topology, "geneve"));
    let a = &topology.hosts[0].netns;
    settle(&agent, a);
    let passes = || agent.status().unwrap().reconciliation.number;
    let before = passes();
    let deeds = [
        "link delete adit-geneve",
        "route delete 10.0.0.0/8 metric 173",
        "link delete adit0",
        "address delete fd00:1::1/128 dev adit0",
    ];
    for (deed, number) in deeds.into_iter().zip(1..) {
        a.ip(deed);
        agent.wait("repaired", |status| {
            status.repairs.total == number && status.ready
        });
        settle(&agent, a);
    }
    let passes = passes() - before;
    println!("{passes} reconciliations for {} changes by others", deeds.len());
    // A device that comes up sends another event some time later.
    assert!(passes <= 6, "{passes} reconciliations");
}

#[test]
fn lost_events_cause_a_full_reconciliation() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let (agent, _others) = start(&topology, &Overlay::new(&topology, "geneve"));
    let a = &topology.hosts[0].netns;
    settle(&agent, a);
    assert_eq!(value(a, "adit_kernel_event_overruns_total"), 0);
    agent.signal(Signal::SIGSTOP);
    // Far more than the socket buffer holds.
    a.ip_batch(&storm("add", 30_000));
    a.ip_batch(&storm("delete", 30_000));
    // The event of this change is lost.
    a.ip("route delete 10.0.0.0/8 metric 173");
    agent.signal(Signal::SIGCONT);
    agent.wait("repaired", |status| status.repairs.total == 1 && status.ready);
    assert!(value(a, "adit_kernel_event_overruns_total") >= 1);
    assert!(value(a, r#"adit_reconcile_wakeups_total{cause="overrun"}"#) >= 1);
    assert_eq!(agent.plan(&[]).code, 0);
    // The subscription continues.
    a.ip("link delete adit-geneve");
    agent.wait("repaired again", |status| {
        status.repairs.total == 2 && status.ready
    });
}

#[test]
fn an_object_deleted_repeatedly_is_a_conflict_and_the_rest_continues() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agent = Agent::new(&topology.hosts[0], &manifests).with_pauses("first-fight=2000");
    agent.start();
    agent.ready();
    let a = &topology.hosts[0].netns;
    let fought = "route 10.0.0.0/8 metric 173";
    for number in 1..=5 {
        a.ip("route delete 10.0.0.0/8 metric 173");
        agent.wait("repaired", |status| {
            status.repairs.total == number && status.ready
        });
    }
    a.ip("route delete 10.0.0.0/8 metric 173");
    let status = agent.wait("in conflict", |status| {
        status
            .problems
            .iter()
            .any(|problem| problem.reason == "Conflict" && problem.subject == fought)
    });
    assert_eq!(status.repairs.total, 5, "{status:#?}");
    assert!(!status.ready);
    // The rest continues.
    a.ip("address delete fd00:1::1/128 dev adit0");
    agent.wait("repaired beside it", |status| {
        status.repairs.kinds.get("address") == Some(&1)
    });
    // The conflict ends.
    agent.wait("retried", |status| status.ready && status.repairs.total == 7);
    let status = agent.run(&["status"]);
    assert!(status.stdout.contains("repaired 7 times"), "{status:?}");
}

/// Waits until the agent has handled the events of its own start.
fn settle(agent: &Agent<'_>, netns: &NetNs) {
    let passes = || agent.status().unwrap().reconciliation.number;
    let (mut seen, mut quiet) = (passes(), 0);
    while quiet < 20 {
        thread::sleep(Duration::from_millis(50));
        let now = passes();
        quiet = if now == seen { quiet + 1 } else { 0 };
        seen = now;
    }
    let _heard = value(netns, "adit_kernel_event_overruns_total");
}

/// A number of unmanaged routes, none to a peer.
fn storm(verb: &str, routes: u32) -> String {
    let mut lines = String::new();
    for number in 0..routes {
        let [_, high, middle, low] = number.to_be_bytes();
        writeln!(lines, "route {verb} 100.{}.{middle}.{low}/32 dev u0", 64 + high).unwrap();
    }
    lines
}

/// A series of the metrics page of the agent.
fn value(netns: &NetNs, series: &str) -> u64 {
    scrape::value(&scrape::page(netns), series)
}

fn wait_for(netns: &NetNs, series: &str, is: impl Fn(u64) -> bool, agent: &Agent<'_>) {
    agent.wait(&format!("enough {series}"), |_| is(value(netns, series)));
}
