//! Addresses and families in labs of several shapes.
use std::collections::BTreeSet;

use adit_tests::topology::{is_overlay, of_family};

use ipnet::IpNet;

use super::*;

#[test]
fn addresses_are_unique_and_overlay_differs_from_underlay() {
    let topology = Topology::new(26, Underlay::Dual);
    let mut all = BTreeSet::new();
    for (index, node) in topology.nodes.iter().enumerate() {
        for family in Family::BOTH {
            let outer = node.underlay(family);
            let inner = [node.overlay(), node.overlay_of_pod()].map(|both| of_family(both, family));
            assert!(inner.iter().all(|address| is_overlay(*address)) && !is_overlay(outer));
            assert!(
                inner
                    .iter()
                    .all(|address| topology.owner(*address) == Some(index))
            );
            assert_eq!(topology.owner(outer), None);
            let prefix: IpNet = node.prefixes()[usize::from(family == Family::Ipv6)]
                .parse()
                .unwrap();
            assert!(prefix.contains(&inner[1]), "{prefix}");
            all.extend(inner);
            all.insert(outer);
        }
    }
    assert_eq!(all.len(), 26 * 6);
}

#[test]
fn a_dual_underlay_of_three_has_one_host_with_ipv6_only() {
    let underlays = |count| {
        let nodes = Topology::new(count, Underlay::Dual).nodes;
        nodes.iter().map(|node| node.families.len()).collect::<Vec<_>>()
    };
    assert_eq!(underlays(2), [2, 2]);
    assert_eq!(underlays(3), [2, 2, 1]);
    let six = Topology::new(2, Underlay::Ipv6);
    assert_eq!(six.nodes[0].families, [Family::Ipv6]);
}
