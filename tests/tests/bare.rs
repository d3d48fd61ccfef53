//! Without encapsulation the overlay uses the device of the underlay: its routes are followed, and it is not changed.

use std::fs;
use std::net::IpAddr;

use adit_tests::agent::{PATIENCE, start_all};
use adit_tests::traffic::{Probes, bound};
use adit_tests::{Agent, NetNs, Overlay, Topology, require, snapshot, traffic};
use dataplane_user::net::Family;
use dataplane_user::status::Status;
use serde_json::Value;

/// Other addresses of the router in the subnets of the first host.
const OTHER_GATEWAYS: [&str; 2] = ["192.0.2.30", "2001:db8:0:1::30"];

#[test]
fn the_next_hop_follows_the_route_of_the_underlay() {
    require!(modules: "dummy");
    let topology = Topology::<2>::new();
    topology.route_overlay();
    let overlay = Overlay {
        underlay: Family::Ipv6,
        ..Overlay::new(&topology, "none")
    };
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let agent = &agents[0];
    let [a, b] = &topology.hosts;
    let remote = b.underlay(Family::Ipv6);
    assert_eq!(gateway(agent, remote), "2001:db8:0:1::1");
    let way = agent.status().unwrap().peers[0].path.clone().unwrap();
    assert_eq!(way.device.as_deref(), Some("u0"));
    assert_eq!(way.gateway, Some("2001:db8:0:1::1".parse().unwrap()));
    let wide = agent.run(&["status", "-o", "wide"]).stdout;
    assert!(wide.contains(&format!("{remote} via 2001:db8:0:1::1")), "{wide}");

    // Another address of the router becomes the gateway, and no packet is lost.
    topology
        .router
        .ip(&format!("address add {}/64 dev r1 nodad", OTHER_GATEWAYS[1]));
    let probes = Probes::start(a.end(), b.end(), Family::Ipv4).unwrap();
    let before = class_slots(agent);
    a.netns
        .ip(&format!("-6 route add {remote} via {} dev u0", OTHER_GATEWAYS[1]));
    agent.wait("sending to the other gateway", |_| {
        gateway(agent, remote) == OTHER_GATEWAYS[1]
    });
    traffic::udp(a.pod_end(), b.pod_end(), Family::Ipv6, 100).unwrap();
    let lost = probes.finish().unwrap();
    assert_eq!(lost.lost, 0, "{lost:?}");
    assert_eq!(class_slots(agent), before, "the same device");
    let neighbours = a.netns.ip("-6 neighbour show dev u0");
    assert!(neighbours.contains(OTHER_GATEWAYS[1]), "{neighbours}");

    // Without a route: the prefixes are removed, with a problem, and restored with the route.
    a.netns
        .ip(&format!("-6 route replace unreachable {remote} metric 1"));
    let status = agent.wait("reporting of the missing route", |status| {
        has(status, "NoUnderlayRoute")
    });
    assert!(status.ready, "{status:#?}");
    let to_b = b.end().address(Family::Ipv4).to_string();
    assert!(leads_nowhere(agent, &to_b));
    // A route into the overlay does not count either.
    a.netns
        .ip(&format!("-6 route delete unreachable {remote} metric 1"));
    a.netns.ip(&format!(
        "-6 route replace {remote} via fe80::1 dev adit0 metric 1"
    ));
    let into = |status: &Status| {
        status
            .problems
            .iter()
            .any(|p| p.message.contains("leads through adit0"))
    };
    agent.wait("reporting of the loop", into);
    assert!(leads_nowhere(agent, &to_b));
    a.netns.ip(&format!(
        "-6 route delete {remote} via fe80::1 dev adit0 metric 1"
    ));
    agent.wait("without a problem", |status| status.problems.is_empty());
    traffic::ping(a.end(), b.end(), Family::Ipv4).unwrap();
}

/// The kernel queues packets while it resolves a neighbour, and then sends them.
#[test]
fn packets_arrive_after_the_neighbour_is_resolved() {
    require!(modules: "dummy");
    let topology = Topology::<2>::new();
    topology.route_overlay();
    let overlay = Overlay {
        underlay: Family::Ipv6,
        ..Overlay::new(&topology, "none")
    };
    let _agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b] = &topology.hosts;
    for family in Family::BOTH {
        for (from, to) in [(a.end(), b.end()), (a.pod_end(), b.pod_end())] {
            traffic::udp(from, to, family, 1).unwrap();
            let server = bound(to.netns, to.address(family)).unwrap();
            let client = bound(from.netns, from.address(family)).unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            a.netns.ip("neighbour flush dev u0");
            client.send(b"adit").unwrap();
            let received = server.recv(&mut [0; 16]);
            assert_eq!(received.ok(), Some(4), "{family} to {}", to.address(family));
        }
    }
}

/// An IPv4 underlay with an IPv6 gateway (RFC 5549) transports both families.
#[test]
fn an_ipv6_gateway_of_an_ipv4_route_is_used_for_both_families() {
    require!(modules: "dummy");
    let topology = Topology::<2>::new();
    topology.route_overlay();
    let agents = start_all(&topology, &Overlay::new(&topology, "none").manifests(&topology));
    let [a, b] = &topology.hosts;
    for (agent, other) in agents.iter().zip([b, a]) {
        assert_eq!(agent.status().unwrap().refused.len(), 1);
        let gateway = previous(agent.host().underlay(Family::Ipv6));
        let remote = other.underlay(Family::Ipv4);
        let netns = &agent.host().netns;
        netns.ip(&format!("route add {remote} via inet6 {gateway} dev u0"));
        let both = |status: &Status| status.refused.is_empty() && status.problems.is_empty();
        agent.wait("forwarding both families", both);
    }
    for family in Family::BOTH {
        traffic::all(a.end(), b.end(), family).unwrap();
        traffic::all(b.pod_end(), a.pod_end(), family).unwrap();
    }
}

#[test]
fn the_underlay_device_is_not_changed() {
    require!(modules: "dummy");
    let topology = Topology::<2>::new();
    topology.route_overlay();
    let overlay = Overlay::new(&topology, "none");
    let [a, b] = &topology.hosts;
    let netns = &a.netns;
    let device = || underlay_device(netns);
    let mut agent = Agent::new(a, &overlay.manifests(&topology));
    let all = || snapshot::everything(netns, &[agent.pins().parent().unwrap()]);
    let (empty, untouched) = (all(), device());
    agent.start();
    agent.ready();
    let mut peer = Agent::started(b, &overlay.manifests(&topology));
    traffic::all(a.end(), b.end(), Family::Ipv4).unwrap();
    assert_eq!(device(), untouched);
    assert_eq!(agent.plan(&[]).code, 0);
    let links = netns.ip("-br link show");
    assert!(!links.contains("adit-"), "no tunnel device is needed: {links}");
    agent.stop();
    peer.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert_eq!(device(), untouched);
    let all = snapshot::everything(netns, &[agent.pins().parent().unwrap()]);
    assert_eq!(all, empty);
}

/// Adit does not set the rp_filter of the underlay: doctor reports the problem.
#[test]
fn a_strict_rp_filter_on_the_underlay_device_is_reported() {
    require!(modules: "dummy");
    let topology = Topology::<2>::new();
    topology.route_overlay();
    let agents = start_all(&topology, &Overlay::new(&topology, "none").manifests(&topology));
    let [a, b] = &topology.hosts;
    let levels = || {
        let manifests = agents[0].manifests();
        let printed = agents[0].run(&[
            "doctor",
            "--json",
            "--node",
            "a",
            "-f",
            manifests.to_str().unwrap(),
        ]);
        let findings: Vec<Value> = serde_json::from_str(&printed.stdout).unwrap();
        let of_device = findings
            .iter()
            .filter(|finding| finding["evidence"].to_string().contains("u0, which receives"));
        of_device
            .map(|finding| finding["level"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    for (value, level) in [("0", "ok"), ("2", "ok"), ("1", "error")] {
        a.netns.sysctl("net/ipv4/conf/u0/rp_filter", value);
        assert_eq!(levels(), [level], "rp_filter {value}");
        if level == "ok" {
            traffic::ping(b.end(), a.end(), Family::Ipv4).unwrap();
        }
    }
}

/// The gateway of the next hop to an underlay address, from `adit map dump`.
fn gateway(agent: &Agent<'_>, remote: IpAddr) -> String {
    let dump = agent.json(&["map", "dump"]);
    let hops = dump["next_hops"].as_array().unwrap();
    // During the change there are two.
    let last = hops.iter().rfind(|hop| hop["remote"] == remote.to_string());
    last.map_or_else(String::new, |hop| {
        hop["gateway"].as_str().unwrap_or_default().to_owned()
    })
}

fn leads_nowhere(agent: &Agent<'_>, address: &str) -> bool {
    let printed = agent.run(&["map", "lookup", address]).stdout;
    printed.contains("no prefix contains it")
}

fn class_slots(agent: &Agent<'_>) -> Value {
    agent.json(&["map", "dump"])["classes"].clone()
}

fn has(status: &Status, reason: &str) -> bool {
    status.problems.iter().any(|problem| problem.reason == reason)
}

/// Everything that an agent could change of it: settings, addresses and programs.
fn underlay_device(netns: &NetNs) -> String {
    let settings = ["ipv4", "ipv6"].map(|family| {
        let folder = format!("/proc/sys/net/{family}/conf/u0");
        netns.enter(|| {
            let files = fs::read_dir(&folder).unwrap().map(|file| file.unwrap().path());
            // The stable secret cannot be read before it is set.
            let read = |path: std::path::PathBuf| {
                format!("{}={:?}\n", path.display(), fs::read_to_string(&path).ok())
            };
            let mut lines = files.map(read).collect::<Vec<_>>();
            lines.sort();
            lines.concat()
        })
    });
    let printed = ["-d -j link show u0", "-j address show u0"].map(|words| netns.ip(words));
    let qdisc = snapshot::run(netns, "tc", "qdisc show dev u0");
    let bpf = snapshot::run(netns, "bpftool", "net show dev u0");
    [
        &settings[..],
        &printed,
        &[qdisc, snapshot::filters(netns, "u0"), bpf],
    ]
    .concat()
    .concat()
}

fn previous(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => std::net::Ipv4Addr::from_bits(address.to_bits() - 1).into(),
        IpAddr::V6(address) => std::net::Ipv6Addr::from_bits(address.to_bits() - 1).into(),
    }
}
