//! Return paths: numbers in order of device names, gateways from the main table, and devices that don't exist
//! yet.

use super::*;
use crate::model::facts::ReturnPath;
use crate::model::firewall::{Action, Chain, Match};
use crate::model::rule::Mark;
use crate::model::{RETURN_PATH_METRIC, RETURN_PATH_PRIORITY, RouteKey, Rule};

fn back_by(devices: &[&'static str], nft: Nft) -> (KernelState, Vec<Problem>) {
    let mut resources = resources(|_| {}, &["a", "b"]);
    let node = resources.nodes.get_mut("a").unwrap();
    node.return_path = devices.iter().map(|name| LinkName::constant(name)).collect();
    let path = |ipv6, gateways: &[&str]| ReturnPath {
        ipv6,
        gateways: gateways
            .iter()
            .map(|text| text.parse().unwrap())
            .map(|gateway: IpAddr| (Family::of(gateway), gateway))
            .collect(),
        on_link: ["203.0.113.0/24", "2001:db8:b::/64"]
            .map(|text| text.parse().unwrap())
            .into(),
    };
    let facts = NodeFacts {
        return_paths: [
            (LinkName::constant("eth1"), path(true, &["203.0.113.1"])),
            (LinkName::constant("ppp0"), path(false, &[])),
        ]
        .into(),
        nft,
        ..facts(&[(2, 1500)])
    };
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    plan(&intent, &facts)
}

fn mark(value: u32) -> Mark {
    Mark::new(value, 0x0f00_0000).unwrap()
}

#[test]
fn each_device_has_a_number_a_rule_and_a_table() {
    let (desired, problems) = back_by(&["ppp0", "eth1", "eth0"], Nft::Usable);
    assert_eq!(reasons(&problems), [Reason::Waiting], "{problems:?}");
    assert!(problems[0].message.contains("device eth0"), "{}", problems[0]);
    let rule = |family, value, table| Rule {
        mark: Some(mark(value)),
        ..Rule::to_table(family, RETURN_PATH_PRIORITY, table)
    };
    let expected = [
        rule(Family::Ipv4, 0x0200_0000, 17302),
        rule(Family::Ipv4, 0x0300_0000, 17303),
        rule(Family::Ipv6, 0x0200_0000, 17302),
    ];
    assert_eq!(desired.rules, expected.into());
    let route = |table, prefix: &str| {
        let key = RouteKey::new(table, prefix.parse().unwrap(), RETURN_PATH_METRIC);
        desired.routes[&key].kind.to_string()
    };
    assert_eq!(route(17302, "0.0.0.0/0"), "via 203.0.113.1 dev eth1 onlink");
    assert!(route(17302, "::/0").starts_with("dev eth1"), "{desired:?}");
    assert!(route(17303, "0.0.0.0/0").starts_with("dev ppp0"), "{desired:?}");
    // Hosts in the subnet of a device need no gateway; without a gateway, everything is on the link.
    assert!(
        route(17302, "203.0.113.0/24").starts_with("dev eth1"),
        "{desired:?}"
    );
    let tables = [(17302, 3), (17303, 1)];
    for (table, routes) in tables {
        assert_eq!(
            desired.routes.keys().filter(|key| key.table == table).count(),
            routes
        );
    }
}

#[test]
fn what_comes_from_the_overlay_is_never_marked() {
    let (desired, _) = back_by(&["eth1"], Nft::Usable);
    let firewall = desired.firewall.unwrap();
    let rules = &firewall.chains[&Chain::ManglePrerouting];
    let actions: Vec<_> = rules.iter().map(|rule| rule.action.clone()).collect();
    let number = mark(0x0100_0000);
    assert_eq!(
        actions,
        [
            Action::MarkPacket(number),
            Action::Return,
            Action::Return,
            Action::MarkConnection(number)
        ]
    );
    assert_eq!(
        firewall.chains[&Chain::MangleOutput][0].matches,
        [Match::Reply, Match::ConnectionMark(number)]
    );
}

#[test]
fn without_the_table_there_are_no_rules_and_the_node_says_so() {
    let (desired, problems) = back_by(&["eth1"], Nft::NoProgram);
    assert!(desired.rules.is_empty() && desired.firewall.is_none());
    assert_eq!(problems[0].severity, Severity::Error);
    assert!(problems[0].message.contains("returnPath"), "{}", problems[0]);
    let (desired, problems) = back_by(&[], Nft::Usable);
    assert!(desired.rules.is_empty() && problems.is_empty(), "{problems:?}");
    let chains = desired.firewall.unwrap().chains;
    assert!(!chains.contains_key(&Chain::ManglePrerouting));
}
