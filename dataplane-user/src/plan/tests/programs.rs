//! A machine without BPF programs.

use super::*;

fn planned_without(dataplane: Dataplane) -> (KernelState, Vec<Problem>) {
    let resources = resources(|network| network.dataplane = dataplane, &["a", "b"]);
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    let facts = NodeFacts {
        without_programs: Some("why".to_owned()),
        ..facts(&[(2, 1500)])
    };
    plan(&intent, &facts)
}

fn backstops(target: &KernelState) -> usize {
    let routes = target.routes.values();
    routes
        .filter(|route| route.kind == RouteKind::Unreachable)
        .count()
}

#[test]
fn a_network_by_routes_needs_none() {
    let (target, problems) = planned_without(Dataplane::Routes);
    assert_eq!(problems, []);
    assert!(!target.has_programs());
    assert!(!target.route_targets.is_empty() && target.links.len() == 2);
}

#[test]
fn a_network_by_programs_has_its_backstops_alone() {
    let (target, problems) = planned_without(Dataplane::Ebpf);
    assert_eq!(reasons(&problems), [Reason::Waiting]);
    assert_eq!(problems[0].severity, Severity::Error);
    assert!(problems[0].message.contains("why"), "{}", problems[0]);
    assert!(!target.has_programs());
    assert_eq!((anchor_mtus(&target), backstops(&target)), (BTreeSet::new(), 2));
    assert_eq!(
        target.links.keys().map(LinkName::as_str).collect::<Vec<_>>(),
        [ANCHOR]
    );
    assert!(
        target.firewall.is_some() && !target.addresses.is_empty(),
        "{target:#?}"
    );
}
