//! Objects that are skipped if the kernel lacks a family.

use super::*;
use crate::model::facts::{Ipv6, OwnKey};
use crate::model::{MAIN_TABLE, RouteKey};
use crate::net::Encapsulation;

/// Two nodes of a network with dataplane `routes` in a separate table.
fn by_routes(encapsulation: Encapsulation, change: impl Fn(&mut NodeFacts)) -> (KernelState, Vec<Problem>) {
    let resources = resources(
        |network| {
            network.dataplane = Dataplane::Routes;
            network.encapsulation = Some(encapsulation);
            network.routes.table = 1730;
        },
        &["a", "b"],
    );
    let mut facts = facts(&[(2, 1500)]);
    change(&mut facts);
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    plan(&intent, &facts)
}

fn of_family(desired: &KernelState, family: Family) -> Vec<&RouteKey> {
    let keys = desired.routes.keys();
    keys.filter(|key| Family::of_prefix(key.prefix) == family)
        .collect()
}

fn families_of_rules(desired: &KernelState) -> Vec<Family> {
    desired.rules.iter().map(|rule| rule.family).collect()
}

fn skipped(problems: &[Problem]) -> Vec<&str> {
    let missing = problems
        .iter()
        .filter(|problem| problem.reason == Reason::NoFamily);
    missing.map(|problem| problem.subject.as_str()).collect()
}

#[test]
fn without_rules_only_the_main_table_is_used() {
    let (whole, problems) = by_routes(Encapsulation::Ipip, |_| {});
    assert_eq!(skipped(&problems), [""; 0]);
    assert_eq!(families_of_rules(&whole), Family::BOTH);
    assert!(
        of_family(&whole, Family::Ipv6)
            .iter()
            .any(|key| key.table == 1730)
    );

    let (desired, problems) = by_routes(Encapsulation::Ipip, |facts| {
        facts.without_rules = BTreeSet::from([Family::Ipv6]);
    });
    assert_eq!(skipped(&problems), ["IPv6 rules"]);
    assert_eq!(families_of_rules(&desired), [Family::Ipv4]);
    let left = of_family(&desired, Family::Ipv6);
    assert!(left.iter().all(|key| key.table == MAIN_TABLE), "{left:?}");
    assert_eq!(of_family(&desired, Family::Ipv4), of_family(&whole, Family::Ipv4));
}

#[test]
fn without_ipv6_no_object_of_it_is_desired() {
    let (whole, _) = by_routes(Encapsulation::Ipip, |_| {});
    let (desired, problems) = by_routes(Encapsulation::Ipip, |facts| facts.ipv6 = Ipv6::Absent);
    assert_eq!(skipped(&problems), ["IPv6"]);
    assert_eq!(of_family(&desired, Family::Ipv6), [] as [&RouteKey; 0]);
    assert_eq!(of_family(&desired, Family::Ipv4), of_family(&whole, Family::Ipv4));
    assert!(
        desired
            .addresses
            .keys()
            .all(|(_, prefix)| prefix.addr().is_ipv4())
    );
    assert_eq!(families_of_rules(&desired), [Family::Ipv4]);

    // Neighbours of Ethernet tunnels are IPv6 neighbours, also for IPv4.
    let (desired, problems) = by_routes(Encapsulation::Geneve, |facts| facts.ipv6 = Ipv6::Absent);
    assert_eq!(skipped(&problems), ["IPv6", "link adit-geneve"]);
    assert!(desired.neighbours.is_empty() && desired.next_hop_objects.is_empty());
}

#[test]
fn a_device_with_a_small_mtu_has_no_ipv6() {
    let addresses = ["10.8.0.1/24", "fd08::1/64"].map(|address| (address.parse().unwrap(), None));
    for (mtu, left) in [(1280, 2), (1279, 1)] {
        let mut home = interface(&["10.9.0.0/16"]);
        home.object.end.addresses = addresses.into();
        home.object.end.mtu = Some(mtu);
        let mut all = resources(|_| {}, &["a", "b"]);
        all.netlink.wireguard.insert("home".to_owned(), home);
        let mut facts = facts(&[(2, 1500)]);
        facts.wireguard.keys = [(KeySource::Node, OwnKey::Known(key(1).public_key()))].into();
        let intent = Intent::new(all, NodeName::new("a").unwrap()).unwrap();
        let (desired, problems) = plan(&intent, &facts);
        let on_it = desired
            .addresses
            .keys()
            .filter(|(link, _)| link.as_str() == "wg0");
        assert_eq!(on_it.count(), left, "{mtu}");
        let mut problems = problems
            .iter()
            .filter(|problem| problem.reason == Reason::NoFamily);
        let told = problems.next().map(|problem| &problem.message);
        assert_eq!(told.is_some(), left == 1, "{told:?}");
        assert!(
            told.is_none_or(|told| told.contains("1279") && told.contains("1280")),
            "{told:?}"
        );
    }
}

#[test]
fn what_refuses_stays_where_ipv6_is_disabled() {
    let off = |facts: &mut NodeFacts| facts.ipv6 = Ipv6::OffAllBut(BTreeSet::new());
    let (desired, problems) = by_routes(Encapsulation::Ipip, off);
    assert_eq!(skipped(&problems), ["link adit0"]);
    let left = desired.routes.iter();
    let mut left = left.filter(|(key, _)| Family::of_prefix(key.prefix) == Family::Ipv6);
    assert!(left.clone().count() > 0);
    assert!(left.all(|(_, route)| route.links().next().is_none()));
}
