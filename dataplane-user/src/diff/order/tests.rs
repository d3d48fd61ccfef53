//! Orders and failures of whole sets of changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnet::IpNet;

use super::*;
use crate::apply::{ApplyReport, Outcome, apply};
use crate::diff::diff;
use crate::kernel::fake::FakeKernel;
use crate::model::devices::ANCHOR;
use crate::model::wireguard::{Device, Peer};
use crate::model::{
    ANCHOR_METRIC, Class, Link, LinkKind, MAIN_TABLE, NextHop, NextHopObject, NodeLabel, Owner, PrefixTarget,
    Route, RouteHop, RouteKey, RouteKind, Rule,
};
use crate::net::{Family, LinkName, PublicKey};

fn name(text: &str) -> LinkName {
    LinkName::new(text).unwrap()
}

fn link(kind: LinkKind) -> Link {
    Link {
        owner: Owner::Adit,
        kind,
        mac: None,
        mtu: None,
        arp: false,
        generates_addresses: false,
        up: true,
    }
}

fn key(number: u8) -> PublicKey {
    PublicKey::from_bytes([number; 32])
}

fn peer(prefix: &str) -> Peer {
    Peer {
        allowed_ips: [prefix.parse().unwrap()].into(),
        ..Peer::default()
    }
}

/// WireGuard devices with these ports and no peers.
fn wireguard(devices: &[(&str, u16)]) -> KernelState {
    let mut state = KernelState::default();
    for (text, listen_port) in devices {
        state.links.insert(name(text), link(LinkKind::WireGuard));
        let device = Device {
            public_key: Some(key(0)),
            listen_port: *listen_port,
            ..Device::default()
        };
        state.wireguard.insert(name(text), device);
    }
    state
}

/// A route through a device; with `gateway`, through any device that leads to it.
fn route(state: &mut KernelState, prefix: &str, device: &str) {
    let hop = NextHopObject::Hop(Arc::new(RouteHop {
        link: name(device),
        gateway: None,
        encapsulation: None,
    }));
    state.next_hop_objects.insert(hop.clone());
    let kind = RouteKind::NextHop {
        object: hop,
        source: None,
        mtu: None,
    };
    let route = Route {
        owner: Owner::Adit,
        kind,
    };
    let key = RouteKey::new(MAIN_TABLE, prefix.parse().unwrap(), ANCHOR_METRIC);
    state.routes.insert(key, route);
}

fn texts(set: &ChangeSet) -> Vec<String> {
    set.changes.iter().map(ToString::to_string).collect()
}

/// Executes the changes, of which these fail.
fn make(observed: &KernelState, desired: &KernelState, failing: &[usize]) -> (FakeKernel, ApplyReport) {
    let mut kernel = FakeKernel::new(observed.clone());
    kernel.failing.extend(failing);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let report = runtime.block_on(apply(&mut kernel, diff(observed, desired)));
    (kernel, report)
}

fn is_reached(observed: &KernelState, desired: &KernelState) {
    let (kernel, report) = make(observed, desired, &[]);
    let failures = report
        .failures()
        .map(|(change, error)| format!("{change}: {error}"));
    assert_eq!(
        failures.collect::<Vec<_>>(),
        [""; 0],
        "{:#?}",
        texts(&diff(observed, desired))
    );
    assert_eq!(texts(&diff(&kernel.state, desired)), [""; 0]);
}

#[test]
fn a_port_is_used_only_after_its_owner_releases_it() {
    // The first device is deleted, and each of the others gets the port of the one before it.
    let observed = wireguard(&[("wg0", 1), ("wg1", 2), ("wg2", 3)]);
    let desired = wireguard(&[("wg1", 1), ("wg2", 2)]);
    let expected = [
        "delete link wg0",
        "set wireguard wg1 listen-port 1",
        "set wireguard wg2 listen-port 2",
    ];
    assert_eq!(texts(&diff(&observed, &desired)), expected);
    is_reached(&observed, &desired);
}

#[test]
fn devices_that_swap_their_ports_need_a_third_one() {
    let observed = wireguard(&[("wg0", 1), ("wg1", 2), ("wg2", 3)]);
    let desired = wireguard(&[("wg0", 3), ("wg1", 1), ("wg2", 2)]);
    let expected = [
        "set wireguard wg0 listen-port 0 temporarily, because another device gets 1",
        "set wireguard wg1 listen-port 1",
        "set wireguard wg2 listen-port 2",
        "set wireguard wg0 listen-port 3",
    ];
    assert_eq!(texts(&diff(&observed, &desired)), expected);
    is_reached(&observed, &desired);
}

#[test]
fn a_device_makes_room_for_the_one_that_its_packets_go_to() {
    let mut observed = KernelState::default();
    let kind = LinkKind::Geneve { port: 1 };
    observed.links.insert(name("old"), link(kind));
    route(&mut observed, "10.0.0.0/8", "old");
    let mut desired = wireguard(&[("wg0", 1)]);
    let device = desired.wireguard.get_mut(&name("wg0")).unwrap();
    device.peers.insert(key(1), peer("10.0.0.0/8"));
    route(&mut desired, "10.0.0.0/8", "wg0");

    let set = diff(&observed, &desired);
    assert_eq!(
        texts(&set)[0],
        "delete link old to make room for wg0",
        "{:#?}",
        texts(&set)
    );
    is_reached(&observed, &desired);
    let (_, report) = make(&observed, &desired, &[]);
    assert_eq!(report.recreated(), 1);

    // With another port, the new device can exist beside the old one.
    let device = desired.wireguard.get_mut(&name("wg0")).unwrap();
    device.listen_port = 2;
    let set = diff(&observed, &desired);
    assert_eq!(texts(&set).last().unwrap(), "delete link old");
    is_reached(&observed, &desired);
}

#[test]
fn revoked_peers_are_removed_whatever_else_fails() {
    let mut observed = wireguard(&[("wg0", 1), ("wg1", 2)]);
    for device in observed.wireguard.values_mut() {
        device.peers = BTreeMap::from([(key(1), peer("10.1.0.0/16")), (key(2), peer("10.2.0.0/16"))]);
    }
    for prefix in ["10.1.0.0/16", "10.2.0.0/16"] {
        route(&mut observed, prefix, "wg0");
    }
    // Both move to another device; the first is still named.
    let mut desired = wireguard(&[("wg0", 1), ("wg3", 4)]);
    let device = desired.wireguard.get_mut(&name("wg3")).unwrap();
    device.peers = BTreeMap::from([(key(1), peer("10.1.0.0/16")), (key(3), peer("10.2.0.0/16"))]);
    for prefix in ["10.1.0.0/16", "10.2.0.0/16"] {
        route(&mut desired, prefix, "wg3");
    }
    desired.named.keys = [key(1), key(3)].into();
    desired.links.insert(name("more"), link(LinkKind::Dummy));

    let planned = texts(&diff(&observed, &desired));
    let place = |text: &str| {
        planned
            .iter()
            .position(|change| change.starts_with(text))
            .unwrap()
    };
    for (failing, expected) in [
        // Nothing depends on this change: both peers and the other device are deleted.
        (place("add link more"), [false, false, false]),
        // The new device can't be created: the named peer stays until it can, and keeps its packets.
        (place("add link wg3"), [true, false, false]),
    ] {
        let (kernel, report) = make(&observed, &desired, &[failing]);
        let peers = &kernel.state.wireguard[&name("wg0")].peers;
        let left = [
            peers.contains_key(&key(1)),
            peers.contains_key(&key(2)),
            kernel.state.links.contains_key(&name("wg1")),
        ];
        let outcomes = report
            .outcomes
            .iter()
            .map(|(change, outcome)| format!("{change}: {outcome:?}"));
        assert_eq!(left, expected, "{:#?}", outcomes.collect::<Vec<_>>());
        assert!(kernel.state.links.contains_key(&name("wg0")));
    }
}

/// With dataplane `ebpf`: an anchor route, and map entries for these prefixes by one WireGuard peer.
fn by_program(prefixes: &[&str]) -> KernelState {
    let mut state = wireguard(&[("adit-wg0", 1)]);
    state.links.insert(name(ANCHOR), link(LinkKind::Dummy));
    let anchor = Route {
        owner: Owner::Adit,
        kind: RouteKind::on_link(&name(ANCHOR), Family::Ipv4),
    };
    let anchored = RouteKey::new(MAIN_TABLE, "10.80.0.0/16".parse().unwrap(), ANCHOR_METRIC);
    state.routes.insert(anchored, anchor);
    let class = Class::wireguard(0);
    let next_hop = Arc::new(NextHop {
        node: NodeLabel::from_text("b"),
        remote: "192.0.2.2".parse().unwrap(),
        local: "192.0.2.1".parse().unwrap(),
        destination_mac: None,
        gateway: None,
        class,
    });
    state.classes.insert(class, Some(name("adit-wg0")));
    state.next_hops.insert(Arc::clone(&next_hop));
    let allowed = prefixes.iter().map(|prefix| prefix.parse().unwrap());
    let allowed_ips = allowed.collect::<BTreeSet<IpNet>>();
    for prefix in &allowed_ips {
        let target = PrefixTarget::NextHop(Arc::clone(&next_hop));
        state.prefixes.insert(*prefix, target);
    }
    let device = state.wireguard.get_mut(&name("adit-wg0")).unwrap();
    let peer = Peer {
        allowed_ips,
        ..Peer::default()
    };
    device.peers.insert(key(1), peer);
    state.named.keys = [key(1)].into();
    state
}

#[test]
fn a_peer_loses_a_revoked_prefix_whatever_else_fails() {
    let (lost, kept) = ("10.80.5.0/24", "10.80.6.0/24");
    let rule = |table| Rule::to_table(Family::Ipv4, 10, table);
    let mut observed = by_program(&[lost, kept]);
    observed.rules = [rule(8)].into();
    let revoked = KernelState {
        rules: [rule(7)].into(),
        ..by_program(&[kept])
    };
    // This node advertises the prefix itself now.
    let mut moved = revoked.clone();
    moved.prefixes.insert(lost.parse().unwrap(), PrefixTarget::Local);
    for desired in [revoked, moved] {
        let planned = texts(&diff(&observed, &desired));
        for failing in 0..planned.len() {
            let (kernel, _) = make(&observed, &desired, &[failing]);
            let allowed = &kernel.state.wireguard[&name("adit-wg0")].peers[&key(1)].allowed_ips;
            let is_removal = planned[failing].contains("allowed-ips");
            assert_eq!(
                allowed.contains(&lost.parse().unwrap()),
                is_removal,
                "{} failed of {planned:#?}",
                planned[failing]
            );
        }
    }
}

#[test]
fn dependents_of_a_failure_are_skipped_and_reported_with_it() {
    let mut desired = KernelState::default();
    for device in ["a", "b"] {
        desired.links.insert(name(device), link(LinkKind::Dummy));
        let address = crate::model::Address {
            owner: Owner::Adit,
            scope: crate::model::AddressScope::Global,
            peer: None,
        };
        let prefix = if device == "a" {
            "10.1.0.1/24"
        } else {
            "10.2.0.1/24"
        };
        desired
            .addresses
            .insert((name(device), prefix.parse().unwrap()), address);
    }
    let (_, report) = make(&KernelState::default(), &desired, &[0]);
    let waited_for = report.waited_for();
    let [(failed, waiting)] = &waited_for[..] else {
        panic!("{waited_for:?}");
    };
    assert_eq!(failed.to_string(), "add link a type dummy");
    let waiting = waiting.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(waiting, ["add address 10.1.0.1/24 dev a", "set link a up"]);
    assert_eq!(report.failures().count(), 1);
    let done = |(_, outcome): &&(Change, Outcome)| matches!(outcome, Outcome::Done);
    assert_eq!(report.outcomes.iter().filter(done).count(), 3);
}

#[test]
fn a_default_rule_never_exists_without_the_one_that_keeps_more_specific_routes() {
    let specific = Rule {
        suppress_prefix_length: Some(0),
        ..Rule::to_table(Family::Ipv4, 10, MAIN_TABLE)
    };
    let default = Rule::to_table(Family::Ipv4, 11, 7);
    let nothing = KernelState::default();
    let both = KernelState {
        rules: [specific.clone(), default.clone()].into(),
        ..KernelState::default()
    };
    for (observed, desired) in [(&nothing, &both), (&both, &nothing)] {
        for failing in 0..2 {
            let (kernel, _) = make(observed, desired, &[failing]);
            let rules = &kernel.state.rules;
            assert!(
                rules.contains(&specific) || !rules.contains(&default),
                "{rules:?}"
            );
        }
    }

    // A rule that ignores routes of another table concerns no later rule.
    let other = Rule { table: 8, ..specific };
    let desired = KernelState {
        rules: [other, default.clone()].into(),
        ..KernelState::default()
    };
    let planned = texts(&diff(&nothing, &desired));
    let failing = planned.iter().position(|text| text.contains("suppress"));
    let (kernel, _) = make(&nothing, &desired, &[failing.unwrap()]);
    assert_eq!(kernel.state.rules, [default].into());

    // A route of the main table that fails keeps neither away.
    let mut observed = KernelState::default();
    observed.links.insert(name("d"), link(LinkKind::Dummy));
    let mut desired = KernelState {
        rules: both.rules,
        ..observed.clone()
    };
    route(&mut desired, "10.0.0.0/8", "d");
    let set = diff(&observed, &desired);
    let failing = texts(&set).iter().position(|text| text.starts_with("add route"));
    let (kernel, _) = make(&observed, &desired, &[failing.unwrap()]);
    assert_eq!(kernel.state.rules, desired.rules);
    assert_eq!(kernel.state.routes.len(), 0);
}

#[test]
fn ten_thousand_changes_are_sorted_in_proportion_to_their_number() {
    let steps = |routes: u32| {
        let mut observed = wireguard(&[("wg0", 1), ("wg1", 2)]);
        let mut desired = observed.clone();
        route(&mut observed, "10.0.0.0/8", "wg0");
        for number in 0..routes {
            let prefix = format!("10.{}.{}.0/24", number / 250, number % 250);
            route(
                if number % 2 == 0 {
                    &mut observed
                } else {
                    &mut desired
                },
                &prefix,
                "wg0",
            );
        }
        let set = diff(&observed, &desired);
        let (needs, _) = needs::of_changes(
            &set.changes,
            States {
                before: &observed,
                observed: &observed,
                desired: &desired,
            },
            &BTreeSet::new(),
        );
        let ranks = set.changes.iter().map(Change::rank).collect::<Vec<_>>();
        (set.changes.len(), graph::steps(&ranks, &needs))
    };
    let ((few, of_few), (many, of_many)) = (steps(5_000), steps(10_000));
    assert!(few > 5_000 && many > 10_000);
    assert!(of_many < 20 * many, "{of_many} steps for {many} changes");
    assert!(of_many < of_few * 21 / 10, "{of_few} and {of_many}");
}
