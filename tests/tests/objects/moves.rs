//! A property that moves from one declared object to another arrives in one reconciliation.

use adit_tests::{Agent, Topology, require};

use crate::{interface, is_settled, route};

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
