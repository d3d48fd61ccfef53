//! Other routes that take packets of the overlay.

use super::*;
use crate::model::facts::OwnKey;

#[test]
fn a_subnet_of_this_machine_that_shadows_a_prefix_of_a_peer_is_reported() {
    let told = |subnet: &str, dataplane| {
        let mut facts = facts(&[(2, 1500)]);
        facts.subnets = [(LinkName::constant("docker0"), subnet.parse().unwrap())].into();
        shadowed(
            resources(|network| network.dataplane = dataplane, &["a", "b"]),
            &facts,
        )
    };
    for dataplane in [Dataplane::Ebpf, Dataplane::Routes] {
        let problem = told("10.2.17.0/24", dataplane).unwrap();
        assert_eq!(
            (problem.severity, problem.subject.as_str()),
            (Severity::Warning, "TunnelNetwork/net")
        );
        for named in ["10.2.17.0/24", "docker0", "10.2.0.0/16", "TunnelNode/b"] {
            assert!(problem.message.contains(named), "{named}: {problem}");
        }
        // A whole prefix; then prefixes in the overlay that no peer advertises, and outside.
        assert!(told("fd00:2::/80", dataplane).is_some());
        for subnet in ["10.3.0.0/16", "172.17.0.0/16", "192.0.2.0/24"] {
            assert_eq!(told(subnet, dataplane), None, "{subnet}");
        }
    }
    // The anchor route is less specific; a route to the prefix of the peer is more specific.
    assert!(told("10.0.0.0/12", Dataplane::Ebpf).is_some());
    let problem = told("10.0.0.0/12", Dataplane::Routes);
    assert_eq!(problem, None);
    // Equal prefixes: the metric decides.
    assert!(told("10.0.0.0/8", Dataplane::Ebpf).is_some());
    assert_eq!(told("fd00::/16", Dataplane::Ebpf), None);
}

#[test]
fn what_this_node_advertises_itself_hides_nothing() {
    let mut resources = resources(|_| {}, &["a", "b"]);
    let node = resources.nodes.get_mut(&NodeName::new("a").unwrap()).unwrap();
    node.prefixes.push(advertised("10.2.17.0/24"));
    let mut facts = facts(&[(2, 1500)]);
    facts.subnets = [(LinkName::constant("p0"), "10.2.17.0/25".parse().unwrap())].into();
    assert_eq!(shadowed(resources, &facts), None);
}

#[test]
fn an_allowed_ip_that_shadows_a_prefix_of_a_peer_is_reported() {
    let told = |allowed: &str| {
        let mut resources = resources(|_| {}, &["a", "b"]);
        let home = ("home".to_owned(), interface(&[allowed]));
        resources.netlink.wireguard.extend([home]);
        let mut facts = facts(&[(2, 1500)]);
        facts.wireguard.keys = [(KeySource::Node, OwnKey::Known(key(1).public_key()))].into();
        shadowed(resources, &facts)
    };
    for allowed in ["10.2.0.0/16", "10.0.0.0/8", "10.2.0.1/32"] {
        let problem = told(allowed).unwrap();
        for named in [allowed, "WireGuardInterface/home", "peer gate", "TunnelNode/b"] {
            assert!(problem.message.contains(named), "{named}: {problem}");
        }
    }
    // The overlay route is more specific, or no peer advertises the prefix.
    for allowed in [
        "0.0.0.0/0",
        "0.0.0.0/1",
        "10.7.0.0/16",
        "172.16.0.0/12",
        "fd00::/16",
    ] {
        assert_eq!(told(allowed), None, "{allowed}");
    }
}

/// The only problem of node a, where b advertises 10.2.0.0/16 and fd00:2::/64.
fn shadowed(mut resources: Resources, facts: &NodeFacts) -> Option<Problem> {
    let b = resources.nodes.get_mut(&NodeName::new("b").unwrap()).unwrap();
    b.prefixes.extend(["10.2.0.0/16", "fd00:2::/64"].map(advertised));
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    let mut problems = plan(&intent, facts).1;
    problems.retain(|problem| problem.reason == Reason::Shadowed);
    assert!(problems.len() <= 1, "{problems:#?}");
    problems.pop()
}

fn advertised(cidr: &str) -> AdvertisedPrefix {
    AdvertisedPrefix {
        cidr: cidr.parse().unwrap(),
        weight: 1,
        tier: 0,
    }
}
