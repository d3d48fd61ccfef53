//! The targets of prefixes while some peers are withdrawn, in both dataplanes.

use super::*;
use crate::model::{NextHopObject, PrefixTarget};
use crate::net::PeerId;
use crate::plan::withdrawn;
use crate::resource::AdvertisedPrefix;

/// A network in which b and c advertise a prefix in the first tier, and d in the second.
fn tiers(dataplane: Dataplane) -> Resources {
    let mut resources = resources(|network| network.dataplane = dataplane, &["a", "b", "c", "d"]);
    for (name, tier) in [("b", 0), ("c", 0), ("d", 1)] {
        let node = resources.nodes.get_mut(&NodeName::new(name).unwrap()).unwrap();
        node.prefixes = vec![AdvertisedPrefix {
            cidr: "10.9.0.0/16".parse().unwrap(),
            weight: 1,
            tier,
        }];
    }
    resources
}

fn without(resources: Resources, withdrawn: &[&str]) -> KernelState {
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    let facts = NodeFacts {
        withdrawn: withdrawn.iter().map(|name| PeerId::new(name).unwrap()).collect(),
        ..facts(&[(2, 1500), (3, 1500), (4, 1500)])
    };
    plan(&intent, &facts).0
}

/// The last bytes of the peers to which the shared prefix leads.
fn remotes(withdrawn: &[&str]) -> Option<(Vec<u8>, bool)> {
    let state = without(tiers(Dataplane::Routes), withdrawn);
    let shared = state
        .routes
        .iter()
        .find(|(key, _)| key.prefix.to_string() == "10.9.0.0/16");
    let object = shared?.1.next_hop_object()?;
    let last = |remote: IpAddr| match remote {
        IpAddr::V4(remote) => remote.octets()[3],
        IpAddr::V6(_) => 0,
    };
    let hops = object.hops().map(|hop| last(hop.encapsulation.unwrap().remote));
    Some((hops.collect(), matches!(object, NextHopObject::Group(_))))
}

#[test]
fn a_group_stays_one_and_the_next_tier_follows_the_last_of_it() {
    assert_eq!(remotes(&[]), Some((vec![2, 3], true)));
    assert_eq!(remotes(&["b"]), Some((vec![3], true)), "it changes in place");
    assert_eq!(remotes(&["b", "c"]), Some((vec![4], false)));
    assert_eq!(remotes(&["b", "c", "d"]), None, "the backstop answers");
}

#[test]
fn withdrawn_next_hops_are_marked_in_the_maps_and_keep_their_slots() {
    let state = without(tiers(Dataplane::Ebpf), &["b"]);
    let shared = &state.prefixes[&"10.9.0.0/16".parse().unwrap()];
    assert_eq!(shared.next_hops().count(), 2, "other flows don't move");
    let down = state
        .down
        .iter()
        .map(|next_hop| next_hop.node.as_str())
        .collect::<Vec<_>>();
    assert_eq!(down, ["b"]);
    let state = without(tiers(Dataplane::Ebpf), &["b", "c"]);
    let shared = &state.prefixes[&"10.9.0.0/16".parse().unwrap()];
    assert!(matches!(shared, PrefixTarget::NextHop(next_hop) if next_hop.node.as_str() == "d"));
}

#[test]
fn the_kernel_shows_who_is_withdrawn() {
    let ids = |names: &[&str]| names.iter().map(|name| PeerId::new(name).unwrap()).collect();
    let shown = |now: Dataplane, observed: &KernelState| {
        let intent = Intent::new(tiers(now), NodeName::new("a").unwrap()).unwrap();
        let facts = facts(&[(2, 1500), (3, 1500), (4, 1500)]);
        let (used, _) = plan(&intent, &facts);
        withdrawn(&intent, &facts, &used, observed)
    };
    let both = [Dataplane::Ebpf, Dataplane::Routes];
    for before in both {
        for withdrawn in [&[][..], &["b"], &["b", "c"], &["b", "c", "d"]] {
            let observed = without(tiers(before), withdrawn);
            assert_eq!(shown(before, &observed), ids(withdrawn), "{before:?}");
        }
        // A change of the dataplane while the agent did not run.
        let observed = without(tiers(before), &[]);
        for now in both {
            assert_eq!(shown(now, &observed), ids(&[]), "{before:?} to {now:?}");
        }
        // After a boot, and with maps that somebody removed.
        assert_eq!(shown(before, &KernelState::default()), ids(&[]), "{before:?}");
    }
    let mut emptied = without(tiers(Dataplane::Ebpf), &["b"]);
    emptied.next_hops.clear();
    emptied.down.clear();
    assert_eq!(shown(Dataplane::Ebpf, &emptied), ids(&[]));
}

#[test]
fn both_dataplanes_coexist() {
    let mut resources = tiers(Dataplane::Ebpf);
    let node = resources.nodes.get_mut(&NodeName::new("a").unwrap()).unwrap();
    node.dataplane = Some(Dataplane::Routes);
    let routed = without(resources.clone(), &[]);
    assert!(routed.prefixes.is_empty() && routed.next_hops.is_empty());
    assert!(!routed.next_hop_objects.is_empty());
    assert_eq!(
        anchor_mtus(&routed),
        BTreeSet::new(),
        "no route leads to the program"
    );
    // The links are the same.
    let programmed = without(tiers(Dataplane::Ebpf), &[]);
    assert_eq!(routed.links, programmed.links);
    assert_eq!(routed.addresses, programmed.addresses);
    assert_eq!(routed.attachments, programmed.attachments);
}

#[test]
fn peers_behind_one_gateway_share_a_next_hop() {
    let bare = |network: &mut Network| {
        network.dataplane = Dataplane::Routes;
        network.encapsulation = Some(crate::net::Encapsulation::None);
    };
    let mut resources = resources(bare, &["a", "b", "c"]);
    for name in ["b", "c"] {
        let node = resources.nodes.get_mut(&NodeName::new(name).unwrap()).unwrap();
        node.prefixes = vec![AdvertisedPrefix {
            cidr: "10.9.0.0/16".parse().unwrap(),
            weight: 200,
            tier: 0,
        }];
    }
    let intent = Intent::new(resources, NodeName::new("a").unwrap()).unwrap();
    let path = UnderlayPath {
        link: LinkName::constant("eth0"),
        gateway: Some(underlay(254)),
        mtu: 1500,
    };
    let facts = NodeFacts {
        paths: [2, 3].map(|host| (underlay(host), path.clone())).into(),
        ..facts(&[])
    };
    let (state, _) = plan(&intent, &facts);
    assert_eq!(state.next_hop_objects.len(), 1, "{:?}", state.next_hop_objects);
    assert!(state.neighbours.is_empty());
}
