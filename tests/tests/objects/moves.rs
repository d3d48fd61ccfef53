//! A property that moves from one declared object to another arrives in one reconciliation.

use adit_tests::named::Named;
use adit_tests::{Agent, Topology, require};

use crate::{becomes, interface, is_settled, route, waits};

#[test]
fn ends_of_pairs_are_exchanged() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let pairs = |one: &str, two: &str| {
        let pair = |name: &str, peer: &str| {
            let spec = format!(
                "type: veth, addresses: [10.7{}.0.1/24], peer: {{ name: {peer} }}",
                &name[1..]
            );
            interface(name, &spec)
        };
        pair("a0", one) + &pair("b1", two)
    };
    let agent = Agent::started(host, &pairs("c0", "d0"));
    is_settled(&agent);
    agent.apply(&pairs("d0", "c0"));
    is_settled(&agent);
    assert!(host.netns.ip("link show a0").contains("a0@d0"));
    assert!(host.netns.ip("link show b1").contains("b1@c0"));
    assert_eq!(agent.next_reconciliation().repairs.total, 0);
}

#[test]
fn a_tunnel_over_a_recreated_device_is_recreated_with_it() {
    require!(modules: "vxlan", "dummy", "bridge");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let above = interface(
        "vx0",
        "type: vxlan, vni: 7, dstport: 4790, group: 239.7.0.1, dev: low, addresses: [10.7.0.1/24]",
    );
    let agent = Agent::started(host, &(interface("low", "type: dummy") + &above));
    is_settled(&agent);
    agent.apply(&(interface("low", "type: bridge") + &above));
    is_settled(&agent);
    assert!(host.netns.ip("-d link show vx0").contains("dev low"));
    assert!(host.netns.ip("address show vx0").contains("10.7.0.1/24"));
}

#[test]
fn a_route_follows_the_subnet_of_its_gateway_to_another_device() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let with = |first: &str, second: &str| {
        interface("d1", &format!("type: dummy, addresses: [10.90.0.1/24, {first}]"))
            + &interface("d2", &format!("type: dummy, addresses: [10.91.0.1/24, {second}]"))
            + &route("r", "to: 10.6.0.0/24, via: 10.1.0.2")
    };
    let agent = Agent::started(host, &with("10.1.0.1/24", "10.2.0.1/24"));
    is_settled(&agent);
    let leads = |device: &str| {
        let shown = host.netns.ip("route show 10.6.0.0/24");
        assert!(shown.contains(device), "{shown}");
    };
    leads("dev d1");
    agent.apply(&with("10.2.0.1/24", "10.1.0.1/24"));
    is_settled(&agent);
    leads("dev d2");
}

/// Two uplinks, the first one down, and a device with default routes that are on its link.
const UPLINKS: &str = "link add up0 type dummy
    link add up1 type dummy
    link add vpn0 type dummy
    address add 10.60.0.1/24 dev up0
    address add 10.61.0.1/24 dev up1
    link set up1 up
    link set vpn0 up
    route add default dev vpn0 metric 5
    route add ::/0 dev vpn0 metric 5";

/// Asserts that routes through 10.60.0.2 and fd60::2 follow the uplink, in the namespace of `ip`.
fn routes_follow_the_uplink(agent: &Agent<'_>, ip: impl Fn(&str) -> String) {
    let look = || ip("route show 10.70.0.0/16") + &ip("-6 route show fd70::/48");
    let lead = |device: &str| {
        let both = |shown: &str| shown.matches(device).count() == 2;
        becomes(device, look, both);
        agent.wait("not waiting", |status| waits(status).is_empty());
        is_settled(agent);
    };
    let up = || {
        ip("link set up0 up");
        ip("address add fd60::1/64 dev up0 nodad");
    };
    let wait = |number: usize| {
        agent.wait("waiting", |status| waits(status).len() == number);
    };
    wait(2);
    assert_eq!(look(), "", "no device reaches the gateways");
    up();
    lead("dev up0");
    ip("link set up0 down");
    agent.next_reconciliation();
    wait(2);
    assert_eq!(look(), "", "the kernel has deleted them");
    up();
    lead("dev up0");

    // The kernel keeps the route while the device has another address.
    ip("address add 10.62.0.1/24 dev up0");
    ip("address delete 10.60.0.1/24 dev up0");
    wait(1);
    assert_eq!(look().matches("dev up0").count(), 2);
    ip("address add 10.60.0.1/24 dev up1");
    becomes("through up1", look, |shown| {
        shown.contains("via 10.60.0.2 dev up1")
    });
    agent.wait("not waiting", |status| waits(status).is_empty());
    is_settled(agent);
}

#[test]
fn a_route_without_a_device_follows_its_gateway_and_waits_while_no_device_reaches_it() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    netns.ip_batch(UPLINKS);
    let manifests =
        route("r", "to: 10.70.0.0/16, via: 10.60.0.2") + &route("r6", "to: 'fd70::/48', via: 'fd60::2'");
    let mut agent = Agent::new(&topology.hosts[0], &manifests).with_pauses("waiting=200");
    agent.start();
    routes_follow_the_uplink(&agent, |words| netns.ip(words));
}

#[test]
fn a_route_in_another_namespace_follows_its_gateway() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let there = Named::new();
    there.ip_batch(UPLINKS);
    let with = |name: &str, spec: &str| route(name, &format!("namespace: {{ name: {} }}, {spec}", there.0));
    let manifests =
        with("r", "to: 10.70.0.0/16, via: 10.60.0.2") + &with("r6", "to: 'fd70::/48', via: 'fd60::2'");
    let mut agent = Agent::new(&topology.hosts[0], &manifests).with_pauses("waiting=200");
    agent.start();
    routes_follow_the_uplink(&agent, |words| there.ip(words));
}

/// Nothing is known about the kernel yet when these are declared together.
#[test]
fn a_declared_route_leads_to_the_gateway_of_another_one_in_one_reconciliation() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let manifests = interface("d1", "type: dummy, addresses: [10.90.0.1/32]")
        + &route("on-link", "to: 172.31.1.1/32, dev: d1")
        + &route("far", "to: 10.6.0.0/24, via: 172.31.1.1");
    let agent = Agent::started(&topology.hosts[0], &manifests);
    let shown = topology.hosts[0].netns.ip("route show 10.6.0.0/24");
    assert!(shown.contains("via 172.31.1.1 dev d1"), "{shown}");
    is_settled(&agent);
}
