//! Plain packets with overlay addresses from the underlay are dropped and counted, for each encapsulation; legitimate
//! packets that look like them pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use adit_tests::agent::start_all;
use adit_tests::named::eventually;
use adit_tests::topology::{End, Host};
use adit_tests::traffic::{self, bound};
use adit_tests::{Agent, NetNs, Overlay, Topology, require_module, scrape, snapshot};
use dataplane_user::model::firewall::DropReason;
use dataplane_user::net::Family;
use dataplane_user::status::Status;

use crate::{OUTSIDE, arrives, ready, seen, topology};

/// Addresses of the other host's pod that nobody has, for the router to pretend with.
const FORGED: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(10, 2, 1, 66),
    Ipv6Addr::new(0xfd00, 2, 1, 0, 0, 0, 0, 0x66),
);

#[test]
fn a_forged_packet_from_the_underlay_is_dropped_over_geneve() {
    forgeries("geneve", "ebpf");
}

#[test]
fn a_forged_packet_from_the_underlay_is_dropped_beside_wireguard() {
    if require_module("wireguard") {
        forgeries("wireguard", "ebpf");
    }
}

#[test]
fn a_forged_packet_from_the_underlay_is_dropped_with_dataplane_routes() {
    forgeries("geneve", "routes");
}

fn forgeries(encapsulation: &'static str, dataplane: &'static str) {
    if !ready() {
        return;
    }
    let topology = Topology::<2>::new();
    let [a, b] = &topology.hosts;
    let overlay = |asked| {
        let overlay = Overlay {
            network: vec![asked],
            dataplanes: vec![("a", dataplane), ("b", dataplane)],
            ..Overlay::new(&topology, encapsulation)
        };
        overlay.manifests(&topology)
    };
    let open = overlay("firewall: {dropCleartext: false}");
    let agents = start_all(&topology, &open);
    let agent = &agents[0];
    pretend(&topology.router, a);
    let targets = [a.end(), a.pod_end()];
    let forge = |target: End<'_>, family| {
        let server = bound(target.netns, target.address(family)).unwrap();
        (
            bound(
                &topology.router,
                End::outside(&topology.router, FORGED).address(family),
            )
            .unwrap(),
            server,
        )
    };
    for family in Family::BOTH {
        for target in targets {
            let (client, server) = forge(target, family);
            let from = arrives(&client, &server);
            assert_eq!(
                from,
                Some(client.local_addr().unwrap().ip()),
                "a good packet as long as nobody asks"
            );
        }
    }
    assert_eq!(dropped(&agent.status().unwrap()), 0);

    // Dropped by default, because sources are enforced by default.
    let closed = overlay("sourceProtection: enforce");
    for agent in &agents {
        agent.write(&closed);
        agent.wait("closed", |_| ruleset(agent.host()).contains("fib saddr oifname"));
    }
    let mut sent = 0;
    let mut expect = |family, target, number: u64| {
        let (client, server) = forge(target, family);
        let packets = |number| {
            for _ in 0..number {
                client.send_to(b"adit", server.local_addr().unwrap()).unwrap();
            }
        };
        packets(number);
        sent += number;
        agent.wait("counted", |status| dropped(status) == sent);
        assert_nothing(&server);
    };
    for family in Family::BOTH {
        for target in targets {
            expect(family, target, 5);
        }
    }
    // Packets of peers pass, and are not counted.
    for family in Family::BOTH {
        traffic::all(b.pod_end(), a.pod_end(), family).unwrap();
        traffic::all(a.end(), b.end(), family).unwrap();
    }
    // A replaced table counts from zero; the agent does not, whoever replaced it.
    agent.write(&overlay("masquerade: {}"));
    agent.wait("replaced", |_| ruleset(a).contains("masquerade"));
    expect(Family::Ipv4, a.end(), 3);
    agent.next_reconciliation();
    snapshot::run(&a.netns, "nft", "flush table inet adit");
    agent.wait("repaired", |_| ruleset(a).contains("fib saddr oifname"));
    expect(Family::Ipv6, a.end(), 2);
    let total = agent.wait("counted", |status| dropped(status) == 25);
    assert_eq!(total.dropped[&DropReason::Cleartext].bytes, 13 * 32 + 12 * 52);
    let page = scrape::page(&a.netns);
    let series = "adit_firewall_dropped_packets_total{reason=\"cleartext\"}";
    assert_eq!(scrape::value(&page, series), 25);
    let shown = agent.run(&["status"]).stdout;
    assert!(shown.contains("25 cleartext packets"), "{shown}");
}

/// Whatever is for the node's own overlay address from where no route of its source leads.
#[test]
fn a_forged_neighbour_does_not_reach_the_own_address_of_the_node() {
    if !ready() {
        return;
    }
    let topology = Topology::<2>::new();
    let a = &topology.hosts[0];
    let agent = Agent::started(a, &Overlay::new(&topology, "geneve").manifests(&topology));
    // A LAN of the host outside of the overlay, whose addresses the router forges.
    let lan = beside(&a.netns, "l0", "203.0.113.1/24", "203.0.113.2/24");
    topology.router.ip_batch(&format!(
        "address add 203.0.113.9/32 dev lo
        route add 10.1.0.0/16 via {}",
        a.underlay(Family::Ipv4)
    ));
    let target = bound(&a.netns, a.end().address(Family::Ipv4)).unwrap();
    let to = target.local_addr().unwrap();
    let forger = bound(&topology.router, [203, 0, 113, 9].into()).unwrap();
    for _ in 0..4 {
        forger.send_to(b"adit", to).unwrap();
    }
    agent.wait("counted", |status| dropped(status) == 4);
    assert_nothing(&target);
    // Packets from the LAN itself pass, and those from the internet by the device that leads there.
    for (netns, source) in [(&lan, [203, 0, 113, 2]), (&topology.router, [192, 0, 2, 17])] {
        let client = bound(netns, source.into()).unwrap();
        assert_eq!(arrives(&client, &target), Some(source.into()));
    }
    assert_eq!(dropped(&agent.next_reconciliation()), 4);
}

#[test]
fn legitimate_traffic_with_overlay_addresses_passes() {
    if !ready() {
        return;
    }
    let topology = topology();
    let [a, b] = &topology.hosts;
    let overlay = Overlay {
        network: vec!["masquerade: {}"],
        ..Overlay::new(&topology, "geneve")
    };
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let router = &topology.router;
    // Inside of 10.0.0.0/8 of the overlay: a LAN, a bridge with a container, and a LAN on the device of the underlay.
    let lan = beside(&a.netns, "l0", "10.50.0.1/24", "10.50.0.2/24");
    let container = NetNs::new();
    a.netns.ip_batch(&format!(
        "link add docker0 type bridge
        link add c0 type veth peer name eth0 netns {}
        link set c0 master docker0 up
        link set docker0 up
        address add 10.60.0.1/24 dev docker0
        address add 10.70.0.1/24 dev u0",
        container.path().display()
    ));
    container.ip_batch(
        "link set eth0 up
        address add 10.60.0.2/24 dev eth0
        route add default via 10.60.0.1",
    );
    router.ip_batch(
        "address add 10.70.0.2/24 dev r1
        route add 10.1.0.0/16 via 10.70.0.1",
    );
    // A pod on its own device, which has no subnet: its route has a single address.
    let pod = NetNs::new();
    a.netns.ip_batch(&format!(
        "link add p7 type veth peer name eth0 netns {}
        link set p7 up
        address add 169.254.7.1/32 dev p7
        route add 10.1.1.7/32 dev p7",
        pod.path().display()
    ));
    pod.ip_batch(
        "link set eth0 up
        address add 10.1.1.7/32 dev eth0
        route add 169.254.7.1 dev eth0
        route add default via 169.254.7.1 dev eth0 src 10.1.1.7",
    );
    let sources = [
        v4(&lan, [10, 50, 0, 2]),
        v4(&container, [10, 60, 0, 2]),
        v4(router, [10, 70, 0, 2]),
        a.end(),
    ];
    for source in sources {
        for target in [a.end(), a.pod_end()] {
            let (from, to) = (source.address(Family::Ipv4), target.address(Family::Ipv4));
            let sent = traffic::udp(source, target, Family::Ipv4, 100);
            assert!(sent.is_ok(), "{from} to {to}: {sent:?}");
        }
    }
    // Such a pod belongs to the overlay, and so do packets of the node itself.
    for family in Family::BOTH {
        traffic::all(a.end(), b.pod_end(), family).unwrap();
        traffic::all(a.pod_end(), a.end(), family).unwrap();
    }
    for target in [a.end(), b.end(), b.pod_end()] {
        traffic::udp(v4(&pod, [10, 1, 1, 7]), target, Family::Ipv4, 100).unwrap();
    }
    masqueraded_and_published(&topology, a);
    for agent in &agents {
        let status = agent.next_reconciliation();
        assert_eq!(dropped(&status), 0, "{}: {}", status.node, ruleset(agent.host()));
    }
}

/// An end that has IPv4 alone.
fn v4(netns: &NetNs, address: [u8; 4]) -> End<'_> {
    End::outside(netns, (address.into(), Ipv6Addr::UNSPECIFIED))
}

/// Answers from outside to what was masqueraded, and connections from outside to a port that leads to a pod.
fn masqueraded_and_published<const N: usize>(topology: &Topology<N>, a: &Host) {
    let router = &topology.router;
    let outside: IpAddr = OUTSIDE[0].split_once('/').unwrap().0.parse().unwrap();
    let server = bound(router, outside).unwrap();
    let client = bound(&a.pod, a.pod_end().address(Family::Ipv4)).unwrap();
    let from = arrives(&client, &server).expect("it is masqueraded");
    assert_eq!(from, a.underlay(Family::Ipv4));
    let answer = || {
        client.send_to(b"adit", server.local_addr().unwrap()).unwrap();
        let (_, peer) = server.recv_from(&mut [0; 16]).ok()?;
        server.send_to(b"answer", peer).unwrap();
        client.recv(&mut [0; 16]).ok()
    };
    assert!(eventually(|| answer() == Some(6)));
    let pod = bound(&a.pod, a.pod_end().address(Family::Ipv4)).unwrap();
    let ports = format!(
        "table ip published {{ chain c {{ type nat hook prerouting priority dstnat; iifname u0 udp dport 8080 dnat to {}; }}; }}",
        pod.local_addr().unwrap()
    );
    snapshot::run(&a.netns, "nft", &format!("add {ports}"));
    let client = bound(router, outside).unwrap();
    client.connect((a.underlay(Family::Ipv4), 8080)).unwrap();
    let answered = || {
        client.send(b"adit").ok()?;
        let (_, peer) = pod.recv_from(&mut [0; 16]).ok()?;
        pod.send_to(b"answer", peer).ok()?;
        client.recv(&mut [0; 16]).ok()
    };
    assert!(eventually(|| answered() == Some(6)), "a published port");
}

#[test]
fn a_network_of_all_addresses_blocks_nothing_of_the_underlay() {
    if !ready() {
        return;
    }
    let topology = Topology::<2>::new();
    let [a, b] = &topology.hosts;
    // The underlay is more specific, and everything else belongs to the overlay.
    for host in [a, b] {
        let gateway = |family| match (family, host.underlay(family)) {
            (_, IpAddr::V4(host)) => IpAddr::from(Ipv4Addr::from_bits(host.to_bits() - 1)),
            (_, IpAddr::V6(host)) => IpAddr::from(Ipv6Addr::from_bits(host.to_bits() - 1)),
        };
        host.netns.ip_batch(&format!(
            "route replace 192.0.2.0/24 via {}
            route replace 2001:db8::/32 via {}
            route del default
            route del ::/0",
            gateway(Family::Ipv4),
            gateway(Family::Ipv6)
        ));
    }
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let manifests = manifests.replace("[10.0.0.0/8, \"fd00::/16\"]", "[0.0.0.0/0, \"::/0\"]");
    let agents = start_all(&topology, &manifests);
    for agent in &agents {
        let status = agent.status().unwrap();
        assert_eq!(status.problems, [], "{}", status.node);
    }
    let outside = |family| match family {
        Family::Ipv4 => IpAddr::from([192, 0, 2, 17]),
        Family::Ipv6 => "2001:db8:0:1::1".parse().unwrap(),
    };
    for family in Family::BOTH {
        traffic::all(a.end(), b.end(), family).unwrap();
        traffic::all(b.pod_end(), a.pod_end(), family).unwrap();
        // A neighbour on the underlay, whose route is more specific, also to the own address of the node.
        let underlay = a.underlay(family);
        seen((&topology.router, outside(family)), (&a.netns, underlay));
    }
    // A host without an address, which probes whether its desired address is in use.
    topology.router.sysctl("net/ipv6/conf/r1/accept_dad", "1");
    topology.router.ip("address add 2001:db8:0:1::77/64 dev r1");
    let wanted = || {
        let shown = topology.router.ip("address show dev r1");
        shown.contains("2001:db8:0:1::77") && !shown.contains("tentative")
    };
    assert!(eventually(wanted));
    let before = agents[0].next_reconciliation();
    assert_eq!(dropped(&before), 0, "{}", ruleset(a));
    // Addresses without a route to the underlay belong to the overlay, and plain packets from them are forged.
    topology.router.ip_batch(&format!(
        "address add 198.51.100.1/32 dev lo
        route add 10.1.0.0/16 via {}",
        a.underlay(Family::Ipv4)
    ));
    let client = bound(&topology.router, [198, 51, 100, 1].into()).unwrap();
    client
        .send_to(b"adit", (a.end().address(Family::Ipv4), 9))
        .unwrap();
    agents[0].wait("counted", |status| dropped(status) == 1);
}

#[test]
fn peers_without_encapsulation_pass_only_by_their_device() {
    if !ready() {
        return;
    }
    let topology = Topology::<3>::new();
    topology.route_overlay();
    let [a, b, c] = &topology.hosts;
    // b sends plain packets, c encapsulated ones.
    let overlay = Overlay {
        underlay: Family::Ipv6,
        requested: vec![("a", "none"), ("b", "none"), ("c", "geneve")],
        ..Overlay::new(&topology, "auto")
    };
    let agents = start_all(&topology, &overlay.manifests(&topology));
    for family in Family::BOTH {
        traffic::all(b.pod_end(), a.pod_end(), family).unwrap();
        traffic::all(b.end(), a.end(), family).unwrap();
        traffic::all(c.pod_end(), a.pod_end(), family).unwrap();
    }
    assert_eq!(dropped(&agents[0].next_reconciliation()), 0, "{}", ruleset(a));
    let forge = |netns: &NetNs, source: [u8; 4]| {
        let client = bound(netns, source.into()).unwrap();
        let server = bound(&a.netns, a.end().address(Family::Ipv4)).unwrap();
        client.send_to(b"adit", server.local_addr().unwrap()).unwrap();
        server
    };
    // Plain packets with the prefix of c, and packets of b by another device.
    topology.router.ip("address add 10.3.1.66/32 dev lo");
    let lan = beside(&a.netns, "l0", "203.0.113.1/24", "203.0.113.2/24");
    lan.ip("address add 10.2.1.66/32 dev lo");
    let first = forge(&topology.router, [10, 3, 1, 66]);
    agents[0].wait("counted", |status| dropped(status) == 1);
    let second = forge(&lan, [10, 2, 1, 66]);
    agents[0].wait("counted", |status| dropped(status) == 2);
    assert_nothing(&first);
    assert_nothing(&second);
}

/// A namespace on a device of its own, with an address each.
fn beside(host: &NetNs, device: &str, own: &str, address: &str) -> NetNs {
    let netns = NetNs::new();
    host.ip_batch(&format!(
        "link add {device} type veth peer name eth0 netns {}
        link set {device} up
        address add {own} dev {device}",
        netns.path().display()
    ));
    let gateway = own.split_once('/').unwrap().0;
    netns.ip_batch(&format!(
        "link set eth0 up
        address add {address} dev eth0
        route add default via {gateway}"
    ));
    netns
}

/// Lets the router send from addresses of the other host's prefixes to a host's.
fn pretend(router: &NetNs, to: &Host) {
    let [v4, v6] = Family::BOTH.map(|family| to.underlay(family));
    router.ip_batch(&format!(
        "address add {}/32 dev lo
        address add {}/128 dev lo nodad
        route add 10.1.0.0/16 via {v4}
        route add fd00:1::/32 via {v6}",
        FORGED.0, FORGED.1
    ));
}

fn dropped(status: &Status) -> u64 {
    status
        .dropped
        .get(&DropReason::Cleartext)
        .map_or(0, |count| count.packets)
}

fn ruleset(host: &Host) -> String {
    snapshot::ruleset(&host.netns)
}

/// Nothing more comes in; what was dropped was dropped before this is asked.
fn assert_nothing(server: &UdpSocket) {
    server.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    assert!(server.recv(&mut [0; 16]).is_err(), "something gets in");
}
