//! Endpoints inside the overlay, and paths to endpoints that lead into it: refused with every encapsulation.

use super::*;
use crate::model::facts::{FoundRoute, Lookup, OwnKey};
use crate::model::{MAIN_TABLE, RouteKey};
use crate::net::Encapsulation;
use crate::plan::lookups;
use crate::resource::WireGuardPeer;

const ALL: [Encapsulation; 5] = [
    Encapsulation::Geneve,
    Encapsulation::Vxlan,
    Encapsulation::Ipip,
    Encapsulation::WireGuard,
    Encapsulation::None,
];

#[test]
fn a_path_through_the_overlay_is_not_used() {
    for encapsulation in ALL {
        for device in [ANCHOR, "adit-geneve", "adit-wg0"] {
            let mut facts = known(&[(2, 1500), (3, 1500)]);
            let straight = plan_of(&with_keys(encapsulation), &facts);
            assert_eq!(straight.1, [], "{encapsulation}");
            facts.paths.insert(underlay(2), by(device, 1450));
            let (desired, problems) = plan_of(&with_keys(encapsulation), &facts);
            assert_eq!(
                reasons(&problems),
                [Reason::UnderlayLoop],
                "{encapsulation} by {device}"
            );
            assert_eq!(problems[0].subject, "TunnelNode/b");
            assert!(
                problems[0].message.contains(&format!("leads through {device}")),
                "{}",
                problems[0]
            );
            assert_eq!(led(&desired), led_to(3), "{encapsulation} by {device}");
            // The looped path does not reduce the MTU.
            assert_eq!(anchor_mtus(&desired), anchor_mtus(&straight.0));
            assert!(desired.wireguard.values().all(|device| device.peers.len() == 1));
        }
    }
}

#[test]
fn an_endpoint_inside_of_a_network_needs_a_more_specific_route() {
    let inside = IpAddr::from([10, 77, 0, 2]);
    for encapsulation in ALL {
        let mut resources = with_keys(encapsulation);
        let b = resources.nodes.get_mut(&NodeName::new("b").unwrap()).unwrap();
        b.underlay.ipv4 = Some([10, 77, 0, 2].into());
        let found = |table, prefix: &str, metric| FoundRoute {
            key: RouteKey::new(table, prefix.parse().unwrap(), metric),
            links: [LinkName::constant("eth0")].into(),
        };
        for (route, loops) in [
            (None, true),
            (Some(found(MAIN_TABLE, "0.0.0.0/0", 0)), true),
            (Some(found(MAIN_TABLE, "10.0.0.0/8", ANCHOR_METRIC + 1)), true),
            (Some(found(MAIN_TABLE, "10.0.0.0/8", 0)), false),
            (Some(found(MAIN_TABLE, "10.77.0.0/24", 0)), false),
            // A rule selects this table before the main one.
            (Some(found(100, "0.0.0.0/0", 0)), false),
        ] {
            let mut facts = known(&[(2, 1500), (3, 1500)]);
            facts.paths.insert(inside, by("eth0", 1500));
            let words = format!("{encapsulation} with {route:?}");
            facts
                .routes
                .extend(route.map(|route| (Lookup::unmarked(inside), route)));
            let (desired, problems) = plan_of(&resources, &facts);
            if !loops {
                assert_eq!(problems, [], "{words}");
                assert_eq!(led(&desired).len(), 2, "{words}");
                continue;
            }
            assert_eq!(reasons(&problems), [Reason::UnderlayLoop], "{words}");
            assert!(
                problems[0].message.contains("10.0.0.0/8"),
                "{words}: {}",
                problems[0]
            );
            assert_eq!(led(&desired), led_to(3), "{words}");
        }
    }
}

#[test]
fn with_dataplane_routes_the_prefixes_of_the_peer_count() {
    let inside = IpAddr::from([10, 77, 0, 2]);
    let looped = |prefix: &str, table: u32| {
        let mut resources = with_keys(Encapsulation::Geneve);
        for network in resources.networks.values_mut() {
            network.dataplane = Dataplane::Routes;
            network.routes.table = table;
        }
        let b = resources.nodes.get_mut(&NodeName::new("b").unwrap()).unwrap();
        b.underlay.ipv4 = Some([10, 77, 0, 2].into());
        b.prefixes.push(AdvertisedPrefix {
            cidr: "10.77.0.0/24".parse().unwrap(),
            weight: 1,
            tier: 0,
        });
        let mut facts = known(&[(3, 1500)]);
        facts.paths.insert(inside, by("eth0", 1500));
        let key = RouteKey::new(MAIN_TABLE, prefix.parse().unwrap(), 0);
        let links = [LinkName::constant("eth0")].into();
        facts
            .routes
            .insert(Lookup::unmarked(inside), FoundRoute { key, links });
        reasons(&plan_of(&resources, &facts).1) == [Reason::UnderlayLoop]
    };
    assert!(
        looped("10.77.0.0/16", MAIN_TABLE),
        "10.77.0.0/24 is more specific"
    );
    assert!(!looped("10.77.0.0/28", MAIN_TABLE));
    assert!(
        looped("10.77.0.0/28", 1730),
        "a separate table is looked up first"
    );
}

/// The problem, if any, that the route to the endpoint of a declared device leads into the device itself.
#[test]
fn an_endpoint_inside_the_routes_of_its_own_device_is_reported() {
    let told = |allowed: &[&str], route: Option<(u32, &str, &str)>| {
        let intent = with_interface(allowed);
        let mut facts = known(&[]);
        facts.wireguard.keys = [(KeySource::Node, OwnKey::Known(key(1).public_key()))].into();
        let mark = if allowed.contains(&"0.0.0.0/0") { 51820 } else { 0 };
        let lookup = Lookup {
            destination: ENDPOINT.into(),
            mark,
        };
        assert_eq!(
            lookups(&intent, &BTreeSet::new(), &BTreeMap::new()),
            BTreeSet::from([lookup])
        );
        let found = route.map(|(table, prefix, link)| FoundRoute {
            key: RouteKey::new(table, prefix.parse().unwrap(), 0),
            links: [LinkName::new(link).unwrap()].into(),
        });
        facts.routes.extend(found.map(|found| (lookup, found)));
        let (_, problems) = plan(&intent, &facts);
        let loops = problems
            .iter()
            .filter(|problem| problem.reason == Reason::UnderlayLoop);
        let loops = loops.map(|problem| (problem.severity, problem.subject.clone()));
        loops.collect::<Vec<_>>()
    };
    let looped = [(Severity::Error, "WireGuardInterface/home".to_owned())];
    let halves = ["0.0.0.0/1", "128.0.0.0/1"];
    let uplink = Some((MAIN_TABLE, "0.0.0.0/0", "eth0"));
    // Before the routes of the device exist, and after.
    assert_eq!(told(&halves, uplink), looped);
    assert_eq!(told(&halves, None), looped);
    assert_eq!(told(&halves, Some((MAIN_TABLE, "128.0.0.0/1", "wg0"))), looped);
    assert_eq!(told(&["198.51.100.0/24"], uplink), looped);
    // Endpoints in the subnet of the uplink, or routed by a rule, are fine; so is a default route, which
    // exempts the packets of the device.
    assert_eq!(told(&halves, Some((MAIN_TABLE, "198.51.100.0/24", "eth0"))), []);
    assert_eq!(told(&halves, Some((100, "0.0.0.0/0", "eth0"))), []);
    assert_eq!(told(&["0.0.0.0/0"], uplink), []);
    assert_eq!(told(&["10.0.0.0/8"], uplink), []);
}

#[test]
fn a_strict_uplink_below_a_default_route_is_reported() {
    let told = |allowed: &[&str], strict: &'static str| {
        let intent = with_interface(allowed);
        let mut facts = known(&[]);
        facts.wireguard.keys = [(KeySource::Node, OwnKey::Known(key(1).public_key()))].into();
        facts.strict = [LinkName::constant(strict)].into();
        let found = FoundRoute {
            key: RouteKey::new(MAIN_TABLE, "0.0.0.0/0".parse().unwrap(), 0),
            links: [LinkName::constant("eth0")].into(),
        };
        for lookup in lookups(&intent, &BTreeSet::new(), &BTreeMap::new()) {
            facts.routes.insert(lookup, found.clone());
        }
        reasons(&plan(&intent, &facts).1)
    };
    assert_eq!(told(&["0.0.0.0/0"], "eth0"), [Reason::StrictFilter]);
    assert_eq!(told(&["0.0.0.0/0"], "eth1"), []);
    assert_eq!(told(&["10.0.0.0/8"], "eth0"), []);
}

/// A node without overlay, and with a WireGuard device whose peer may send from these prefixes.
fn with_interface(allowed: &[&str]) -> Intent {
    let mut resources = Resources::default();
    let home = ("home".to_owned(), interface(allowed));
    resources.netlink.wireguard.extend([home]);
    Intent::new(resources, NodeName::new("a").unwrap()).unwrap()
}

/// The plan of node a, without the problems that some links can't transport IPv6 over IPv4.
pub(super) fn plan_of(resources: &Resources, facts: &NodeFacts) -> (KernelState, Vec<Problem>) {
    let intent = Intent::new(resources.clone(), NodeName::new("a").unwrap()).unwrap();
    let (desired, mut problems) = plan(&intent, facts);
    problems.retain(|problem| problem.reason != Reason::Unsupported);
    (desired, problems)
}

/// A network of a, b and c, each with a key.
pub(super) fn with_keys(encapsulation: Encapsulation) -> Resources {
    let mut resources = resources(
        |network| network.encapsulation = Some(encapsulation),
        &["a", "b", "c"],
    );
    for (number, node) in (1..).zip(resources.nodes.values_mut()) {
        node.wireguard = Some(WireGuardPeer {
            next_public_key: None,
            public_key: key(number).public_key(),
            endpoint: None,
            keepalive_seconds: None,
            preshared_key_file: None,
        });
    }
    resources
}

pub(super) fn known(paths: &[(u8, u32)]) -> NodeFacts {
    let mut facts = facts(paths);
    facts.wireguard.own_key = OwnKey::Known(key(1).public_key());
    facts
}

fn by(device: &'static str, mtu: u32) -> UnderlayPath {
    UnderlayPath {
        link: LinkName::constant(device),
        gateway: None,
        mtu,
    }
}

/// The IPv4 prefixes that lead to other nodes.
fn led(desired: &KernelState) -> Vec<String> {
    let led = desired
        .prefixes
        .iter()
        .filter(|(prefix, leads_to)| prefix.addr().is_ipv4() && leads_to.next_hops().next().is_some());
    led.map(|(prefix, _)| prefix.to_string()).collect()
}

fn led_to(host: u8) -> [String; 1] {
    [format!("10.{host}.0.1/32")]
}
