//! A change by something else is one repair, also if a later reconciliation sees its consequences.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::*;
use crate::diff::diff;
use crate::limits;
use crate::model::wireguard::{Device, Peer};
use crate::model::{
    Address, AddressScope, Class, Hop, Link, LinkKind, MAIN_TABLE, Object, ObjectKind, Owner, Paths, Route,
    RouteKey, RouteKind, RouteScope, VethPeer,
};
use crate::net::{LinkName, Namespace, PublicKey};

fn there() -> Namespace {
    Namespace::Name("there".to_owned())
}

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn key(prefix: &str) -> RouteKey {
    RouteKey::new(MAIN_TABLE, net(prefix), 50)
}

fn put_address(state: &mut KernelState, link: &str, address: &str) {
    let address = net(address);
    let value = Address {
        owner: Owner::Adit,
        scope: AddressScope::Global,
        peer: None,
    };
    state.addresses.insert((name(link), address), value);
}

/// An end of a veth pair with an address of each family, and a route by it.
fn end(link: &str, peer: VethPeer, number: u8, gateway: u8, prefix: &str) -> KernelState {
    let mut state = KernelState::default();
    let value = Link {
        owner: Owner::Adit,
        kind: LinkKind::Veth(peer),
        mac: None,
        mtu: Some(1400),
        arp: true,
        generates_addresses: false,
        up: true,
    };
    state.links.insert(name(link), value);
    put_address(&mut state, link, &format!("100.64.84.{number}/24"));
    put_address(&mut state, link, &format!("fd84::{number}/64"));
    let hop = Hop {
        gateway: Some([100, 64, 84, gateway].into()),
        link: Some(name(link)),
        onlink: false,
        weight: 1,
        encap: None,
    };
    let paths = Paths {
        hops: BTreeSet::from([hop]),
        scope: RouteScope::Global,
        source: None,
        mtu: None,
    };
    let route = Route {
        owner: Owner::Adit,
        kind: RouteKind::Paths(paths),
    };
    state.routes.insert(key(prefix), route);
    state
}

/// A veth pair into another namespace, and a route by each end.
fn pair() -> KernelState {
    let far = VethPeer {
        namespace: Some(there()),
        name: name("eth0"),
    };
    let near = VethPeer {
        namespace: None,
        name: name("host0"),
    };
    let mut state = end("host0", far, 1, 2, "100.65.0.0/16");
    let elsewhere = end("eth0", near, 2, 1, "100.66.0.0/16");
    state.namespaces.insert(there(), elsewhere);
    state
}

/// Changes by something else to the end here or to the one there, each with the object of its repair.
fn changes_by_others() -> Vec<(KernelState, &'static str)> {
    let changed = |there_too: bool, act: &dyn Fn(&mut KernelState)| {
        let mut state = pair();
        act(&mut state);
        if there_too {
            state
                .namespaces
                .get_mut(&there())
                .unwrap()
                .forget_link(&name("eth0"));
        }
        state
    };
    let elsewhere = |act: &dyn Fn(&mut KernelState)| {
        changed(false, &|state| act(state.namespaces.get_mut(&there()).unwrap()))
    };
    let down = |state: &mut KernelState, link: &str| {
        state.links.get_mut(&name(link)).unwrap().up = false;
        state.forget_paths(&name(link));
        state.addresses.retain(|(_, address), _| address.addr().is_ipv4());
    };
    vec![
        (
            changed(true, &|state| state.forget_link(&name("host0"))),
            "link host0",
        ),
        (changed(false, &|state| down(state, "host0")), "link host0"),
        (
            changed(false, &|state| {
                state.forget_address(&name("host0"), net("100.64.84.1/24"));
            }),
            "address 100.64.84.1/24 dev host0",
        ),
        (elsewhere(&|state| down(state, "eth0")), "netns there: link eth0"),
        (
            elsewhere(&|state| state.forget_address(&name("eth0"), net("100.64.84.2/24"))),
            "netns there: address 100.64.84.2/24 dev eth0",
        ),
    ]
}

/// A reconciliation that finds one state and leaves another one, in which these changes fail. Returns the
/// repairs.
fn reconcile(
    drift: &mut Drift,
    (found, left): (&KernelState, &KernelState),
    desired: &KernelState,
    is_failed: impl Fn(&Change) -> bool,
) -> BTreeMap<RepairKind, u64> {
    let mut set = diff(found, desired);
    let repairs = drift.find_repairs(found, desired, &mut set);
    let outcome = |change: &Change| match is_failed(change) {
        true => Outcome::Skipped { failed: 0 },
        false => Outcome::Done,
    };
    let report = ApplyReport {
        outcomes: set
            .changes
            .iter()
            .map(|change| (change.clone(), outcome(change)))
            .collect(),
        ..ApplyReport::default()
    };
    let repaired = drift.record(repairs, &report);
    let mut set = diff(left, desired);
    drift.skip_held(left, desired, &mut set);
    drift.ended(left, desired.clone(), &set);
    repaired
}

/// The drift state of a node that has converged to the pair.
fn settled() -> Drift {
    let mut drift = Drift::new(Pauses::default());
    drift.ended(&pair(), pair(), &ChangeSet::default());
    drift
}

fn repaired(drift: &Drift) -> Vec<String> {
    let recent = drift.repairs().recent.iter();
    recent.map(|repair| repair.object.to_string()).collect()
}

fn without_routes(mut state: KernelState) -> KernelState {
    state.routes.clear();
    for there in state.namespaces.values_mut() {
        there.routes.clear();
    }
    state
}

fn never(_: &Change) -> bool {
    false
}

#[test]
fn consequences_for_a_veth_pair_are_part_of_its_repair() {
    for (found, object) in changes_by_others() {
        assert!(found != pair(), "{object}");
        let mut drift = settled();
        reconcile(&mut drift, (&found, &pair()), &pair(), never);
        assert_eq!(repaired(&drift), [object]);
    }
}

#[test]
fn consequences_observed_later_are_part_of_the_repair() {
    for (mut found, object) in changes_by_others() {
        // At first the routes are still observed; their loss is observed when the rest is already repaired.
        let mut late = pair();
        let routes = |state: &KernelState| (state.routes.clone(), state.namespaces[&there()].routes.clone());
        let lost = routes(&found);
        for (state, (here, elsewhere)) in [(&mut late, lost), (&mut found, routes(&pair()))] {
            state.routes = here;
            state.namespaces.get_mut(&there()).unwrap().routes = elsewhere;
        }
        let mut drift = settled();
        assert_eq!(
            reconcile(&mut drift, (&found, &late), &pair(), never).len(),
            1,
            "{object}"
        );
        // That also holds for another reconciliation, which fails.
        reconcile(&mut drift, (&late, &late), &pair(), |_| true);
        let more = reconcile(&mut drift, (&late, &pair()), &pair(), never);
        assert_eq!(repaired(&drift), [object], "{more:?}");
        // From here on it is a new repair.
        let (here, elsewhere) = routes(&late);
        let gone = u64::try_from(2 - here.len() - elsewhere.len()).unwrap();
        let kinds = reconcile(&mut drift, (&late, &pair()), &pair(), never);
        assert_eq!(kinds, [(ObjectKind::Route.into(), gone)].into(), "{object}");
    }
}

#[test]
fn a_partly_failed_repair_is_reported_once_under_its_object() {
    for (found, object) in changes_by_others() {
        let is_route = |change: &Change| matches!(change.action.object(), Object::Route(_));
        let mut left = pair();
        left.routes = found.routes.clone();
        left.namespaces.get_mut(&there()).unwrap().routes = found.namespaces[&there()].routes.clone();
        let mut drift = settled();
        reconcile(&mut drift, (&found, &left), &pair(), is_route);
        assert_eq!(repaired(&drift), <[&str; 0]>::default());
        reconcile(&mut drift, (&left, &pair()), &pair(), never);
        assert_eq!(repaired(&drift), [object]);
    }
}

#[test]
fn consequences_of_a_manifest_change_are_no_repair() {
    let mut desired = pair();
    desired.addresses.remove(&(name("host0"), net("100.64.84.1/24")));
    put_address(&mut desired, "host0", "100.64.84.1/25");
    let mut left = desired.clone();
    left.routes.clear();
    let mut drift = settled();
    reconcile(&mut drift, (&pair(), &left), &desired, never);
    reconcile(&mut drift, (&left, &desired), &desired, never);
    assert_eq!(repaired(&drift), <[&str; 0]>::default());
}

#[test]
fn a_route_deleted_while_another_change_fails_is_a_separate_repair() {
    let mut found = pair();
    found.links.get_mut(&name("host0")).unwrap().up = false;
    found.forget_paths(&name("host0"));
    found.namespaces = without_routes(pair()).namespaces;
    let lacks_there = KernelState {
        namespaces: found.namespaces.clone(),
        ..pair()
    };
    let fails = |change: &Change| change.namespace.is_some();
    let mut drift = settled();
    reconcile(&mut drift, (&found, &lacks_there), &pair(), fails);
    assert_eq!(repaired(&drift), ["link host0"]);
    let lacks_both = without_routes(pair());
    reconcile(&mut drift, (&lacks_both, &lacks_there), &pair(), fails);
    assert_eq!(repaired(&drift), ["link host0", "route 100.65.0.0/16 metric 50"]);
}

#[test]
fn a_change_that_depends_on_a_repair_that_is_held_back_waits_for_it() {
    let mut before = KernelState::default();
    for device in ["d0", "d1"] {
        let link = Link {
            owner: Owner::Adit,
            kind: LinkKind::Dummy,
            mac: None,
            mtu: None,
            arp: true,
            generates_addresses: false,
            up: true,
        };
        before.links.insert(name(device), link);
    }
    let class = Class::wireguard(0);
    before.classes.insert(class, Some(name("d0")));
    let mut drift = Drift::new(Pauses::default());
    drift.ended(&before, before.clone(), &ChangeSet::default());
    let mut down = before.clone();
    down.links.get_mut(&name("d1")).unwrap().up = false;
    for _ in 0..limits::FIGHT_REPAIRS {
        assert_eq!(reconcile(&mut drift, (&down, &before), &before, never).len(), 1);
    }
    // The manifests change while the device is left alone.
    let mut desired = before.clone();
    desired.classes.insert(class, Some(name("d1")));
    desired.links.get_mut(&name("d0")).unwrap().mtu = Some(1400);
    let planned = |drift: &mut Drift| {
        let mut set = diff(&down, &desired);
        let repairs = drift.find_repairs(&down, &desired, &mut set);
        assert_eq!(repairs, [], "a changed manifest is no drift");
        let texts = set.changes.iter().map(ToString::to_string);
        texts.collect::<Vec<_>>()
    };
    assert_eq!(planned(&mut drift), ["set link d0 mtu 1400"]);
    let reasons = |drift: &mut Drift| {
        let problems = drift.problems().into_iter();
        problems.map(|problem| problem.reason).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&mut drift), [Reason::Conflict, Reason::Waiting]);
    let mut left = down.clone();
    left.links.get_mut(&name("d0")).unwrap().mtu = Some(1400);
    reconcile(&mut drift, (&left, &left), &desired, never);
    assert_eq!(reasons(&mut drift), [Reason::Conflict, Reason::Waiting]);
    // Once the device is up, the change is made; it is no repair.
    left.links.get_mut(&name("d1")).unwrap().up = true;
    assert_eq!(
        reconcile(&mut drift, (&left, &desired), &desired, never),
        [].into()
    );
    assert_eq!(reasons(&mut drift), [Reason::Conflict]);
}

/// A WireGuard device with these peers, which may use the prefix of their number.
fn wireguard(peers: &[u8]) -> KernelState {
    let peer = |number: &u8| {
        let peer = Peer {
            allowed_ips: BTreeSet::from([net(&format!("10.9.{number}.0/24"))]),
            ..Peer::default()
        };
        (PublicKey::from_bytes([*number; 32]), peer)
    };
    let device = Device {
        peers: peers.iter().map(peer).collect(),
        ..Device::default()
    };
    KernelState {
        wireguard: BTreeMap::from([(name("wg0"), device)]),
        ..KernelState::default()
    }
}

#[test]
fn a_revoked_peer_is_removed_each_time_while_other_repairs_of_its_device_are_held_back() {
    let desired = wireguard(&[1]);
    let found = wireguard(&[2]);
    let mut drift = Drift::new(Pauses::default());
    drift.ended(&desired, desired.clone(), &ChangeSet::default());
    for _ in 0..limits::FIGHT_REPAIRS {
        reconcile(&mut drift, (&found, &desired), &desired, never);
    }
    let mut set = diff(&found, &desired);
    assert_eq!(set.changes.len(), 2);
    drift.find_repairs(&found, &desired, &mut set);
    let left = set.changes.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert!(left.len() == 1 && left[0].contains("remove"), "{left:?}");
}
