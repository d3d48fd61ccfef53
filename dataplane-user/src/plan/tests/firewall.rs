//! The nft table: exceptions before the rules that they limit, only declared features, and machines without
//! nft features.

use super::*;
use crate::diff::diff;
use crate::model::change::NftChange;
use crate::model::firewall::{Action, Chain, Firewall, Match, Side};
use crate::model::{self, Link, LinkKind, Object, Owner};
use crate::net::Encapsulation;
use ipnet::IpNet;

#[test]
fn what_is_not_masqueraded_comes_first() {
    let firewall = firewall(|network| {
        network.masquerade = Some(
            ["192.168.0.0/16", "192.169.0.0/16", "2001:db8::/32"]
                .map(net)
                .into(),
        );
    });
    let rules = &firewall.chains[&Chain::Postrouting];
    let last_exclusion = rules
        .iter()
        .rposition(|rule| rule.action == Action::Return)
        .unwrap();
    let first = rules
        .iter()
        .position(|rule| rule.action == Action::Masquerade)
        .unwrap();
    assert!(last_exclusion < first, "{rules:#?}");
    let masqueraded = rules.iter().filter(|rule| rule.action == Action::Masquerade);
    let sources: Vec<_> = masqueraded.map(|rule| rule.matches.clone()).collect();
    let source = |prefix| vec![within(Side::Source, &[prefix])];
    assert_eq!(sources, [source("10.0.0.0/8"), source("fd00::/16")]);
    let returns = |matches: &[Match]| rules.iter().any(|rule| rule.matches == matches);
    assert!(returns(&[Match::NotUnicast]));
    assert!(returns(&[Match::Out(
        ["adit-geneve", "adit0"].map(LinkName::constant).into()
    )]));
    assert!(returns(&[within(Side::Destination, &["10.0.0.0/8"])]));
    assert!(returns(&[within(Side::Destination, &["fd00::/16"])]));
    let excluded = |source, prefix| {
        [
            within(Side::Source, &[source]),
            within(Side::Destination, &[prefix]),
        ]
    };
    // Adjacent prefixes are merged.
    assert!(returns(&excluded("10.0.0.0/8", "192.168.0.0/15")));
    assert!(returns(&excluded("fd00::/16", "2001:db8::/32")));
    assert_eq!(
        (
            firewall.masquerades(Family::Ipv4),
            firewall.masquerades(Family::Ipv6)
        ),
        (1, 1)
    );
}

#[test]
fn a_network_that_asks_for_nothing_gets_what_tunnels_need() {
    let firewall = firewall(|_| {});
    let chains: Vec<Chain> = firewall.chains.keys().copied().collect();
    let expected = [
        Chain::RawPrerouting,
        Chain::RawOutput,
        Chain::MangleForward,
        Chain::Forward,
    ];
    assert_eq!(chains, expected);
    // Only from tunnel to tunnel.
    let [crossing] = &firewall.chains[&Chain::Forward][..] else {
        panic!("one rule: {firewall:#?}");
    };
    let devices = || ["adit-geneve", "adit0"].map(LinkName::constant).into();
    assert_eq!(crossing.matches, [Match::In(devices()), Match::Out(devices())]);
    assert_eq!(crossing.action, Action::Accept);
    let nothing = planned(
        resources(
            |network| {
                network.firewall.clamp_mss = false;
                network.firewall.accept_forward = false;
                network.firewall.notrack.clear();
            },
            &["a", "b"],
        ),
        &[(2, 1500)],
    );
    assert_eq!(nothing.0.firewall, None);
}

#[test]
fn ports_are_open_to_peers_and_managers_alone() {
    let firewall = firewall(|network| {
        network.firewall.protect_ports = true;
        network.encapsulation = Some(Encapsulation::Vxlan);
        network.firewall.management_ports = [22, 6443].into();
    });
    let rules = &firewall.chains[&Chain::Input];
    let actions: Vec<_> = rules.iter().map(|rule| rule.action.clone()).collect();
    assert_eq!(
        actions,
        [Action::Accept, Action::Accept, Action::Drop, Action::Drop]
    );
    let to = |ports: &[u16]| {
        Match::Port(
            model::firewall::Transport::Udp,
            Side::Destination,
            ports.iter().copied().collect(),
        )
    };
    assert_eq!(rules[1].matches, [to(&[22, 6443])]);
    let from_others = Match::Address {
        side: Side::Source,
        within: false,
        prefixes: [net("192.0.2.2/32")].into(),
    };
    assert_eq!(rules[2].matches, [to(&[4789]), from_others]);
    // No peer has an IPv6 underlay address.
    assert_eq!(rules[3].matches, [to(&[4789]), Match::Family(Family::Ipv6)]);
}

#[test]
fn a_machine_without_nft_is_not_ready_only_for_networks_that_need_it() {
    let found = |nft, masquerade: bool| {
        let resources = resources(
            |network| network.masquerade = masquerade.then(BTreeSet::new),
            &["a", "b"],
        );
        let facts = NodeFacts {
            nft,
            ..facts(&[(2, 1500)])
        };
        let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
        let (desired, problems) = plan(&intent, &facts);
        let severities = problems
            .iter()
            .map(|problem| problem.severity)
            .collect::<Vec<_>>();
        (desired.firewall, severities)
    };
    for nft in [Nft::NoProgram, Nft::NoTables] {
        assert_eq!(found(nft, false), (None, vec![Severity::Warning]));
        assert_eq!(found(nft, true), (None, vec![Severity::Error]));
    }
    assert_eq!(found(Nft::WithoutIpv6Nat, false).1, []);
    let (firewall, severities) = found(Nft::WithoutIpv6Nat, true);
    let firewall = firewall.unwrap();
    assert_eq!(severities, [Severity::Warning]);
    assert_eq!(
        (
            firewall.masquerades(Family::Ipv4),
            firewall.masquerades(Family::Ipv6)
        ),
        (1, 0)
    );
}

#[test]
fn an_unmanaged_table_is_a_conflict_and_stays() {
    let (desired, _) = planned(resources(|_| {}, &["a", "b"]), &[(2, 1500)]);
    let observed = KernelState {
        firewall: Some(Firewall::not_managed()),
        ..desired.clone()
    };
    let set = diff(&observed, &desired);
    assert_eq!(set.changes, []);
    assert_eq!(set.conflicts[0].object.object, Object::Firewall);
    let nothing = diff(
        &observed,
        &KernelState {
            firewall: None,
            ..desired
        },
    );
    assert_eq!((nothing.changes.len(), nothing.conflicts.len()), (0, 0));
}

#[test]
fn no_rule_names_an_unmanaged_device() {
    let (desired, _) = planned(resources(|_| {}, &["a", "b"]), &[(2, 1500)]);
    let foreign = Link {
        owner: Owner::Other,
        kind: LinkKind::Other("bridge".to_owned()),
        mac: None,
        mtu: None,
        arp: true,
        generates_addresses: true,
        up: true,
    };
    let observed = KernelState {
        links: [(LinkName::constant("adit-geneve"), foreign)].into(),
        ..KernelState::default()
    };
    let made = diff(&observed, &desired)
        .changes
        .into_iter()
        .find_map(|change| match change.action {
            model::Action::Nft(NftChange::Create(firewall)) => Some(firewall),
            _ => None,
        });
    let rules = made.unwrap();
    let named = rules.rules().flat_map(|rule| &rule.matches).any(|one| match one {
        Match::In(links) | Match::Out(links) => links.contains("adit-geneve"),
        _ => false,
    });
    assert!(!named, "{rules:#?}");
}

fn firewall(change: impl Fn(&mut Network)) -> Firewall {
    let (desired, problems) = planned(resources(change, &["a", "b"]), &[(2, 1500)]);
    assert_eq!(problems, []);
    desired.firewall.unwrap()
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
