//! Objects in another namespace, depending on what is known about the namespace.

use std::collections::BTreeMap;

use super::*;
use crate::model::facts::Presence;
use crate::net::Namespace;
use crate::resource::netlink::{InterfaceEnd, InterfaceKind, Namespaced, NetlinkInterface, NetlinkObjects};

fn planned_in(presence: Presence) -> (KernelState, Vec<Problem>) {
    let node = NodeName::new("a").unwrap();
    let end = InterfaceEnd {
        name: LinkName::constant("d0"),
        alias: None,
        addresses: BTreeMap::new(),
        mtu: None,
        mac: None,
        up: true,
        arp: true,
        keep_link_local: false,
    };
    let interface = Namespaced {
        nodes: BTreeSet::from([node.clone()]),
        namespace: Some(Namespace::Pid(7)),
        object: NetlinkInterface {
            end,
            kind: InterfaceKind::Dummy,
        },
    };
    let resources = Resources {
        netlink: NetlinkObjects {
            interfaces: BTreeMap::from([("d0".to_owned(), interface)]),
            ..NetlinkObjects::default()
        },
        ..Resources::default()
    };
    let facts = NodeFacts {
        namespaces: BTreeMap::from([(Namespace::Pid(7), presence)]),
        ..NodeFacts::default()
    };
    plan(&Intent::new(resources, node).unwrap(), &facts)
}

#[test]
fn only_what_is_absent_takes_its_objects_out_of_the_plan() {
    let why = || "why".to_owned();
    let there = Presence::There(Namespace::Pid(7));
    // The planned objects and the problems.
    let cases = [
        (there, true, None),
        (
            Presence::Absent(why()),
            false,
            Some((Severity::Warning, Reason::Waiting)),
        ),
        (
            Presence::Unknown(why()),
            true,
            Some((Severity::Warning, Reason::Waiting)),
        ),
        (Presence::Denied, true, Some((Severity::Warning, Reason::Waiting))),
        (Presence::Own, true, Some((Severity::Error, Reason::Conflict))),
    ];
    for (presence, is_planned, told) in cases {
        let (desired, problems) = planned_in(presence.clone());
        assert!(desired.links.is_empty(), "never in the agent's own: {presence:?}");
        assert_eq!(
            desired.namespaces.contains_key(&Namespace::Pid(7)),
            is_planned,
            "{presence:?}"
        );
        let found = problems.first().map(|problem| (problem.severity, problem.reason));
        assert_eq!(
            (found, problems.len()),
            (told, usize::from(told.is_some())),
            "{presence:?}"
        );
    }
}
