//! Endpoints inside of the overlay, and ways to endpoints that lead into it: refused for every encapsulation.

use super::*;
use crate::net::PrivateKey;
use crate::plan::OwnKey;
use crate::resource::{Encapsulation, WireGuardPeer};

const ALL: [Encapsulation; 5] = [
    Encapsulation::Geneve,
    Encapsulation::Vxlan,
    Encapsulation::Ipip,
    Encapsulation::WireGuard,
    Encapsulation::None,
];

#[test]
fn a_way_that_leads_into_the_overlay_is_none() {
    for encapsulation in ALL {
        for device in [ANCHOR, "adit-geneve", "adit-wg0"] {
            let mut facts = known(&[(2, 1500), (3, 1500)]);
            let straight = plan_of(&with_keys(encapsulation), &facts);
            assert_eq!(straight.1, [], "{encapsulation}");
            facts.paths.insert(underlay(2), by(device, 1450));
            let (target, problems) = plan_of(&with_keys(encapsulation), &facts);
            assert_eq!(
                reasons(&problems),
                [Reason::UnderlayLoop],
                "{encapsulation} by {device}"
            );
            assert_eq!(problems[0].subject, "TunnelNode/b");
            assert!(
                problems[0].message.contains(&format!("leads through {device}")),
                "{}",
                problems[0]
            );
            assert_eq!(led(&target), led_to(3), "{encapsulation} by {device}");
            // That way is no narrower underlay.
            assert_eq!(anchor_mtus(&target), anchor_mtus(&straight.0));
            assert!(target.wireguard.values().all(|device| device.peers.len() == 1));
        }
    }
}

#[test]
fn an_endpoint_inside_of_a_network_is_refused_whatever_leads_there() {
    for encapsulation in ALL {
        let mut facts = known(&[(2, 1500), (3, 1500)]);
        let inside = IpAddr::from([10, 77, 0, 2]);
        facts.paths.insert(inside, by("eth0", 1500));
        let mut resources = with_keys(encapsulation);
        let b = resources.nodes.get_mut(&NodeName::new("b").unwrap()).unwrap();
        b.underlay.ipv4 = Some([10, 77, 0, 2].into());
        let (target, problems) = plan_of(&resources, &facts);
        assert_eq!(reasons(&problems), [Reason::UnderlayLoop], "{encapsulation}");
        assert!(
            problems[0]
                .message
                .contains("inside of the overlay, in 10.0.0.0/8"),
            "{}",
            problems[0]
        );
        assert_eq!(led(&target), led_to(3), "{encapsulation}");
    }
}

/// Node a's plan; that some carry no IPv6 over IPv4 is another matter.
fn plan_of(resources: &Resources, facts: &NodeFacts) -> (KernelState, Vec<Problem>) {
    let intent = Intent::new(resources.clone(), NodeName::new("a").unwrap()).unwrap();
    let (target, mut problems) = plan(&intent, facts);
    problems.retain(|problem| problem.reason != Reason::Unsupported);
    (target, problems)
}

/// A network of a, b and c, each with a key.
fn with_keys(encapsulation: Encapsulation) -> Resources {
    let mut resources = resources(
        |network| network.encapsulation = Some(encapsulation),
        &["a", "b", "c"],
    );
    for (number, node) in (1..).zip(resources.nodes.values_mut()) {
        node.wireguard = Some(WireGuardPeer {
            next_public_key: None,
            public_key: key(number).public_key(),
            endpoint: None,
            keepalive_seconds: None,
            preshared_key_file: None,
        });
    }
    resources
}

fn key(number: u8) -> PrivateKey {
    PrivateKey::from_random(&[number; 32])
}

fn known(paths: &[(u8, u32)]) -> NodeFacts {
    let mut facts = facts(paths);
    facts.wireguard.own_key = OwnKey::Known(key(1).public_key());
    facts
}

fn by(device: &'static str, mtu: u32) -> UnderlayPath {
    UnderlayPath {
        link: LinkName::constant(device),
        gateway: None,
        mtu,
    }
}

/// The IPv4 prefixes that lead to others.
fn led(target: &KernelState) -> Vec<String> {
    let led = target
        .prefixes
        .iter()
        .filter(|(prefix, leads_to)| prefix.addr().is_ipv4() && leads_to.next_hops().next().is_some());
    led.map(|(prefix, _)| prefix.to_string()).collect()
}

fn led_to(host: u8) -> [String; 1] {
    [format!("10.{host}.0.1/32")]
}
