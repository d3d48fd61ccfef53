//! Links without encapsulation: the path to the peer decides to which neighbour its packets are sent, if any.

use super::*;
use crate::diff::diff;
use crate::model::change::{BpfChange, NextHopChange, NextHopOperation, PrefixChange, Verb, Write};
use crate::model::{Action, Change, Class, NextHop, Object, UnderlayDevice};
use crate::net::Encapsulation;

const ETH0: &str = "eth0";
const ETH1: &str = "eth1";

#[test]
fn packets_go_to_the_gateway_or_to_the_peer_itself() {
    let (desired, problems) = by(&[
        (2, ETH0, None),
        (3, ETH0, Some("fe80::fe")),
        (4, ETH1, Some("fe80::fe")),
    ]);
    let hops = next_hops(&desired);
    let gateways = hops.iter().map(|hop| hop.gateway.unwrap().to_string());
    assert_eq!(
        gateways.collect::<Vec<_>>(),
        ["192.0.2.2", "fe80::fe", "fe80::fe"]
    );
    let class = |link| Class::bare(UnderlayDevice::of(&LinkName::constant(link)));
    let classes = hops.iter().map(|hop| hop.class).collect::<Vec<_>>();
    assert_eq!(classes, [class(ETH0), class(ETH0), class(ETH1)]);
    let links = desired
        .classes
        .values()
        .map(|link| link.as_ref().unwrap().as_str());
    assert_eq!(links.collect::<BTreeSet<_>>(), BTreeSet::from([ETH0, ETH1]));
    assert_eq!(anchor_mtus(&desired), BTreeSet::from([1500]));
    // IPv6 is only sent to IPv6 neighbours, with both families of the underlay.
    assert_eq!(reasons(&problems), [Reason::Unsupported]);
    let refused = problems[0].refused.clone().unwrap();
    assert_eq!((refused.to.as_str(), refused.family), ("b", Family::Ipv6));
    assert_eq!(
        prefixes(&desired),
        [
            "10.2.0.1/32",
            "10.3.0.1/32",
            "10.4.0.1/32",
            "fd00:3::1/128",
            "fd00:4::1/128"
        ]
    );
}

#[test]
fn the_underlay_device_is_never_changed() {
    let (desired, _) = by(&[(2, ETH0, None), (3, ETH1, Some("192.0.2.254"))]);
    let changes = diff(&KernelState::default(), &desired).changes;
    for change in &changes {
        let to_class = matches!(change.action.object(), Object::Class(_));
        assert!(to_class || !change.to_string().contains("eth"), "{change}");
    }
    assert_eq!(
        desired.links.keys().map(LinkName::as_str).collect::<Vec<_>>(),
        ["adit0"]
    );
}

#[test]
fn networks_share_the_class_whatever_their_outer_headers_would_be() {
    let one = by(&[(2, ETH0, None)]).0;
    let change = |network: &mut Network| {
        bare(network);
        network.vni = 9;
        network.ttl = 3;
        network.dscp = Some(46);
        network.df = true;
    };
    let other = planned_by(resources(change, &["a", "b"]), &[(2, ETH0, None)]).0;
    assert_eq!(one.classes, other.classes);
    assert_eq!(one.next_hops, other.next_hops);
}

#[test]
fn a_peer_without_an_underlay_route_is_skipped() {
    let nowhere = by(&[(3, ETH0, None), (4, ETH0, None)]);
    let into_the_overlay = by(&[(2, ANCHOR, Some("169.254.1.1")), (3, ETH0, None), (4, ETH0, None)]);
    let by_a_tunnel = by(&[(2, "adit-geneve", None), (3, ETH0, None), (4, ETH0, None)]);
    let to_itself = by(&[(2, "lo", None), (3, ETH0, None), (4, ETH0, None)]);
    let cases = [
        (&nowhere, Reason::NoUnderlayRoute),
        (&into_the_overlay, Reason::UnderlayLoop),
        (&by_a_tunnel, Reason::UnderlayLoop),
        (&to_itself, Reason::NoUnderlayRoute),
    ];
    for ((desired, problems), reason) in cases {
        let way = problems
            .iter()
            .filter(|problem| problem.refused.is_none())
            .cloned();
        let way = way.collect::<Vec<_>>();
        assert_eq!(reasons(&way), [reason]);
        assert_eq!(way[0].subject, "TunnelNode/b");
        assert_eq!(prefixes(desired), ["10.3.0.1/32", "10.4.0.1/32"]);
    }
    let said = into_the_overlay
        .1
        .iter()
        .map(ToString::to_string)
        .collect::<String>();
    assert!(said.contains("leads through adit0"), "{said}");
}

#[test]
fn another_gateway_is_another_next_hop_created_before_the_old_one_is_deleted() {
    let before = by(&[(2, ETH0, Some("fe80::fe"))]).0;
    let after = by(&[(2, ETH0, Some("fe80::fd"))]).0;
    let changes = diff(&before, &after).changes;
    let actions = changes.iter().map(|change| &change.action).collect::<Vec<_>>();
    assert!(
        matches!(
            &actions[..],
            [
                Action::Bpf(BpfChange::NextHop(NextHopChange(new, NextHopOperation::Put))),
                Action::Bpf(BpfChange::Prefix(PrefixChange(_, Write::Put(_)))),
                Action::Bpf(BpfChange::Prefix(PrefixChange(_, Write::Put(_)))),
                Action::Bpf(BpfChange::NextHop(NextHopChange(old, NextHopOperation::Delete)))
            ] if new.gateway != old.gateway && new.class == old.class
        ),
        "{changes:#?}"
    );
    let elsewhere = by(&[(2, ETH1, Some("fe80::fe"))]).0;
    let changes = diff(&before, &elsewhere).changes;
    let of_class = |change: Option<&Change>| {
        let action = &change?.action;
        matches!(action.object(), Object::Class(_)).then(|| action.verb())
    };
    assert_eq!(
        (of_class(changes.first()), of_class(changes.last())),
        (Some(Verb::Set), Some(Verb::Delete)),
        "{changes:#?}"
    );
}

#[test]
fn a_path_that_is_too_narrow_loses_what_is_larger() {
    let resources = resources(
        |network| {
            bare(network);
            network.mtu = Some(1500);
        },
        &["a", "b"],
    );
    let narrow = NodeFacts {
        paths: paths(&[(2, ETH0, Some("fe80::fe"))], 1400),
        ..facts(&[])
    };
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    let (_, problems) = plan(&intent, &narrow);
    assert_eq!(reasons(&problems), [Reason::MtuTooSmall]);
    assert!(problems[0].message.contains("1400 bytes"), "{}", problems[0]);
    assert!(problems[0].message.contains("are lost"), "{}", problems[0]);
}

/// The last byte of a peer, and the device and gateway of the path to it.
type ByDevice<'a> = (u8, &'static str, Option<&'a str>);

/// The plan of node a in one network without encapsulation, with those of b, c and d to which there are
/// paths.
fn by(ways: &[ByDevice<'_>]) -> (KernelState, Vec<Problem>) {
    let last = ways.iter().map(|way| usize::from(way.0)).max().unwrap();
    planned_by(resources(bare, &["a", "b", "c", "d"][..last]), ways)
}

fn planned_by(resources: Resources, ways: &[ByDevice<'_>]) -> (KernelState, Vec<Problem>) {
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    let facts = NodeFacts {
        paths: paths(ways, 1500),
        ..facts(&[])
    };
    plan(&intent, &facts)
}

fn paths(ways: &[ByDevice<'_>], mtu: u32) -> BTreeMap<IpAddr, UnderlayPath> {
    let path = |&(host, link, gateway): &ByDevice<'_>| {
        let path = UnderlayPath {
            link: LinkName::constant(link),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            mtu,
        };
        (underlay(host), path)
    };
    ways.iter().map(path).collect()
}

fn bare(network: &mut Network) {
    network.encapsulation = Some(Encapsulation::None);
}

/// The next hops, in order of their nodes.
fn next_hops(desired: &KernelState) -> Vec<NextHop> {
    desired.next_hops.iter().map(|hop| NextHop::clone(hop)).collect()
}

/// The prefixes that lead to other nodes.
fn prefixes(desired: &KernelState) -> Vec<String> {
    let remote = desired
        .prefixes
        .iter()
        .filter(|(_, leads_to)| leads_to.next_hops().next().is_some());
    remote.map(|(prefix, _)| prefix.to_string()).collect()
}
