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

fn backstops(desired: &KernelState) -> usize {
    let routes = desired.routes.values();
    routes
        .filter(|route| route.kind == RouteKind::Unreachable)
        .count()
}

#[test]
fn a_network_by_routes_needs_none() {
    let (desired, problems) = planned_without(Dataplane::Routes);
    assert_eq!(problems, []);
    assert!(!desired.has_programs());
    assert!(!desired.next_hop_objects.is_empty() && desired.links.len() == 2);
}

#[test]
fn a_network_by_programs_has_its_backstops_alone() {
    let (desired, problems) = planned_without(Dataplane::Ebpf);
    assert_eq!(reasons(&problems), [Reason::Waiting]);
    assert_eq!(problems[0].severity, Severity::Error);
    assert!(problems[0].message.contains("why"), "{}", problems[0]);
    assert!(!desired.has_programs());
    assert_eq!((anchor_mtus(&desired), backstops(&desired)), (BTreeSet::new(), 2));
    assert_eq!(
        desired.links.keys().map(LinkName::as_str).collect::<Vec<_>>(),
        [ANCHOR]
    );
    assert!(
        desired.firewall.is_some() && !desired.addresses.is_empty(),
        "{desired:#?}"
    );
}
