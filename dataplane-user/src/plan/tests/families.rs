//! Objects that are skipped if the kernel lacks a family.

use super::*;
use crate::model::facts::Ipv6;
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
fn what_refuses_stays_where_ipv6_is_disabled() {
    let off = |facts: &mut NodeFacts| facts.ipv6 = Ipv6::OffAllBut(BTreeSet::new());
    let (desired, problems) = by_routes(Encapsulation::Ipip, off);
    assert_eq!(skipped(&problems), ["link adit0"]);
    let left = desired.routes.iter();
    let mut left = left.filter(|(key, _)| Family::of_prefix(key.prefix) == Family::Ipv6);
    assert!(left.clone().count() > 0);
    assert!(left.all(|(_, route)| route.links().next().is_none()));
}
