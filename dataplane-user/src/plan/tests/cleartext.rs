//! Cleartext packets with overlay addresses: dropped if a network declares it, depending on the kernel's
//! routes, with the exceptions that peers without encapsulation need.

use super::*;
use crate::model::facts::{FoundRoute, Lookup};
use crate::model::firewall::{Action, Chain, Match, Rule, Side};
use crate::model::{MAIN_TABLE, RouteKey};
use crate::net::Encapsulation;

#[test]
fn sources_are_judged_by_routes_and_own_addresses_by_devices() {
    let rules = rules(&resources(asks, &["a", "b"]), &facts(&[(2, 1500)]));
    let inside = || links(&["adit-geneve", "adit0", "lo"]);
    let overlay = || Match::SourceRoutedBy(links(&["adit-geneve", "adit0"]));
    let own = |address| {
        let to = within(Side::Destination, &[address]);
        drop_of(vec![Match::NotIn(inside()), to, Match::NoRouteBack])
    };
    let from = |prefix| {
        let source = within(Side::Source, &[prefix]);
        drop_of(vec![Match::NotIn(inside()), source, overlay()])
    };
    let expected = [
        from("10.0.0.0/8"),
        from("fd00::/16"),
        own("10.1.0.1/32"),
        own("fd00:1::1/128"),
    ];
    assert_eq!(rules, expected);
}

#[test]
fn nothing_is_dropped_where_nobody_asks_for_it() {
    let off = resources(|_| {}, &["a", "b"]);
    assert_eq!(rules(&off, &facts(&[(2, 1500)])), []);
    let refused = resources(
        |network| {
            asks(network);
            network.firewall.drop_cleartext = Some(false);
        },
        &["a", "b"],
    );
    assert_eq!(rules(&refused, &facts(&[(2, 1500)])), []);
    // Only one of two networks drops cleartext: the prefixes of the other one have no rule.
    let mut two = resources(asks, &["a", "b"]);
    let mut other = two.networks.values().next().unwrap().clone();
    other.name = NetworkName::new("other").unwrap();
    other.prefixes = [net("172.30.0.0/16")].into();
    other.source_protection = SourceProtection::Log;
    for node in two.nodes.values_mut() {
        node.networks.insert(other.name.clone());
        node.addresses.push([172, 30, 0, 1].into());
    }
    two.networks.insert(other.name.clone(), other);
    let rules = rules(&two, &facts(&[(2, 1500)]));
    assert!(!format!("{rules:?}").contains("172.30"), "{rules:#?}");
    assert_eq!(rules.len(), 4);
}

#[test]
fn a_network_of_everything_spares_hosts_without_an_address() {
    let everything = resources(
        |network| {
            asks(network);
            network.prefixes = ["0.0.0.0/0", "fd00::/16"].map(net).into();
        },
        &["a", "b"],
    );
    let facts = reached(facts(&[(2, 1500)]), "192.0.2.0/24", 2);
    let specified = || Match::Address {
        side: Side::Source,
        within: false,
        prefixes: [net("0.0.0.0/32")].into(),
    };
    let first = &rules(&everything, &facts)[0];
    // The match also implies IPv4.
    assert_eq!(
        (&first.matches[1], first.matches.len()),
        (&specified(), 3),
        "{first:?}"
    );
    let half = resources(
        |network| {
            asks(network);
            network.prefixes = ["0.0.0.0/1"].map(net).into();
        },
        &["a", "b"],
    );
    let first = &rules(&half, &facts)[0];
    assert_eq!(
        first.matches[1..3],
        [within(Side::Source, &["0.0.0.0/1"]), specified()]
    );
}

#[test]
fn peers_without_encapsulation_are_accepted_by_device_and_advertised_prefixes() {
    let resources = resources(
        |network| {
            asks(network);
            network.encapsulation = Some(Encapsulation::None);
        },
        &["a", "b"],
    );
    let rules = rules(&resources, &facts(&[(2, 1500)]));
    let by = || Match::In(links(&["eth0"]));
    let exception = |prefix| Rule {
        matches: vec![by(), within(Side::Source, &[prefix])],
        action: Action::Return,
    };
    assert_eq!(rules[..2], [exception("10.2.0.1/32"), exception("fd00:2::1/128")]);
    assert!(
        rules[2..].iter().all(|rule| rule.action == Action::Drop),
        "{rules:#?}"
    );
    assert_eq!(rules.len(), 6);
}

#[test]
fn own_prefixes_and_return_paths_lead_to_own_addresses() {
    let mut resources = resources(asks, &["a", "b"]);
    let node = resources.nodes.get_mut(&NodeName::new("a").unwrap()).unwrap();
    let cidr = carry(node);
    node.return_path = links(&["wg0"]);
    let mut facts = facts(&[(2, 1500)]);
    facts
        .routes
        .insert(Lookup::unmarked(cidr.network()), found("10.1.1.0/24", 0, "cni0"));
    let rules = rules(&resources, &facts);
    let to_own = |rule: &&Rule| rule.matches.contains(&Match::NoRouteBack);
    let trusted = Match::NotIn(links(&["adit-geneve", "adit0", "cni0", "lo", "wg0"]));
    assert!(rules.iter().filter(to_own).all(|rule| rule.matches[0] == trusted));
    assert_eq!(rules.iter().filter(to_own).count(), 2);
    // The source of every packet that arrives there is checked.
    let inside = Match::NotIn(links(&["adit-geneve", "adit0", "lo"]));
    assert_eq!(rules.iter().filter(|rule| rule.matches[0] == inside).count(), 2);
}

#[test]
fn a_default_route_to_an_advertised_prefix_trusts_no_device() {
    let mut resources = resources(asks, &["a", "b"]);
    let node = resources.nodes.get_mut(&NodeName::new("a").unwrap()).unwrap();
    let cidr = carry(node);
    // Before the overlay routes exist, and after.
    let after = facts(&[(2, 1500)]);
    let mut before = after.clone();
    before
        .routes
        .insert(Lookup::unmarked(cidr.network()), found("0.0.0.0/0", 0, "eth0"));
    assert_eq!(rules(&resources, &before), rules(&resources, &after));
}

#[test]
fn a_device_that_nft_cannot_express_is_reported_and_the_others_stay() {
    let mut resources = resources(asks, &["a", "b"]);
    let node = resources.nodes.get_mut(&NodeName::new("a").unwrap()).unwrap();
    node.return_path = ["bad\"", "eth*"].map(|name| LinkName::new(name).unwrap()).into();
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    let (desired, problems) = plan(&intent, &facts(&[(2, 1500)]));
    let told: Vec<_> = problems
        .iter()
        .filter(|problem| problem.reason == Reason::Unsupported)
        .collect();
    let [told] = told[..] else {
        panic!("one: {problems:#?}");
    };
    assert_eq!(
        (told.severity, told.subject.as_str()),
        (Severity::Error, "link bad\\\"")
    );
    let firewall = desired.firewall.unwrap();
    assert!(firewall.inexpressible_links().is_empty());
    let named = |name: &str| format!("{firewall:?}").contains(name);
    assert!(named("eth*") && !named("bad"), "{firewall:#?}");
    assert_eq!(firewall.chains[&Chain::RawPrerouting].len(), 5);
}

#[test]
fn without_nft_a_network_that_asks_for_it_is_not_ready() {
    for nft in [Nft::NoProgram, Nft::NoTables] {
        let facts = NodeFacts {
            nft,
            ..facts(&[(2, 1500)])
        };
        let intent = Intent::new(resources(asks, &["a", "b"]), NodeName::new("a").unwrap()).unwrap();
        let (desired, problems) = plan(&intent, &facts);
        assert_eq!(desired.firewall, None);
        assert_eq!(
            (problems.len(), problems[0].severity),
            (1, Severity::Error),
            "{problems:?}"
        );
        assert_eq!(problems[0].subject, "TunnelNetwork/net");
    }
}

/// A network that drops cleartext by default.
fn asks(network: &mut Network) {
    network.source_protection = SourceProtection::Enforce;
}

/// The rules for incoming packets, without those for tunnel ports.
fn rules(resources: &Resources, facts: &NodeFacts) -> Vec<Rule> {
    let intent = Intent::new(resources.clone(), NodeName::new("a").unwrap()).unwrap();
    let firewall = plan(&intent, facts).0.firewall.unwrap();
    let mut rules = firewall
        .chains
        .get(&Chain::RawPrerouting)
        .cloned()
        .unwrap_or_default();
    rules.retain(|rule| rule.action != Action::Notrack);
    rules
}

fn drop_of(matches: Vec<Match>) -> Rule {
    Rule {
        matches,
        action: Action::Drop,
    }
}

/// Makes a node advertise a prefix.
fn carry(node: &mut Node) -> IpNet {
    let cidr = net("10.1.1.0/24");
    node.prefixes.push(AdvertisedPrefix {
        cidr,
        weight: 1,
        tier: 0,
    });
    cidr
}

/// The kernel finds a route through eth0 to the underlay address of a host.
fn reached(mut facts: NodeFacts, prefix: &str, host: u8) -> NodeFacts {
    facts
        .routes
        .insert(Lookup::unmarked(underlay(host)), found(prefix, 0, "eth0"));
    facts
}

fn found(prefix: &str, metric: u32, link: &'static str) -> FoundRoute {
    FoundRoute {
        key: RouteKey::new(MAIN_TABLE, net(prefix), metric),
        links: links(&[link]),
    }
}

fn links(names: &[&'static str]) -> BTreeSet<LinkName> {
    names.iter().map(|name| LinkName::constant(name)).collect()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn within(side: Side, prefixes: &[&str]) -> Match {
    Match::Address {
        side,
        within: true,
        prefixes: prefixes.iter().map(|text| net(text)).collect(),
    }
}
