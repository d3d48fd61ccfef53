//! Only traffic that leaves the overlay gets the address of the node.

use std::net::IpAddr;

use adit_tests::capture::Capture;
use adit_tests::{Agent, Overlay};
use dataplane_user::net::Family;

use crate::{ready, seen, topology};

#[test]
fn traffic_that_leaves_the_overlay_is_masqueraded_except_exclusions_and_local_destinations() {
    if !ready() {
        return;
    }
    let topology = topology();
    let overlay = Overlay {
        network: vec!["masquerade: {exclude: [198.51.100.2/32, \"2001:db8:ffff::2/128\"]}"],
        ..Overlay::new(&topology, "geneve")
    };
    let manifests = overlay.manifests(&topology);
    let [a, b] = &topology.hosts;
    let plain = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agent = Agent::started(a, &plain);
    let _peer = Agent::started(b, &manifests);
    let outside = |family, last| -> IpAddr {
        let text = match family {
            Family::Ipv4 => format!("198.51.100.{last}"),
            Family::Ipv6 => format!("2001:db8:ffff::{last}"),
        };
        text.parse().unwrap()
    };
    for family in Family::BOTH {
        let pod = a.pod_end();
        let source = pod.address(family);
        let to = |last| (&topology.router, outside(family, last));
        assert_eq!(seen((pod.netns, source), to(1)), source, "nobody asks for it yet");
    }
    agent.write(&manifests);
    agent.wait("masquerading", |_| {
        agent.log().contains("done: replace nft table")
    });
    for family in Family::BOTH {
        let (pod, host) = (a.pod_end(), a.end());
        let source = pod.address(family);
        let outer = a.underlay(family);
        let capture = Capture::new(&topology.router);
        let to = |last| (&topology.router, outside(family, last));
        assert_eq!(seen((pod.netns, source), to(1)), outer);
        assert_eq!(
            seen((host.netns, host.address(family)), to(1)),
            outer,
            "the node itself"
        );
        let packets = capture.packets();
        let out: Vec<_> = packets
            .iter()
            .filter(|packet| packet.destination == outside(family, 1))
            .collect();
        assert!(out.len() >= 2, "{packets:?}");
        assert!(out.iter().all(|packet| packet.source == outer), "{out:?}");
        // Excluded, local, and in the overlay.
        assert_eq!(seen((pod.netns, source), to(2)), source);
        assert_eq!(
            seen((host.netns, host.address(family)), (host.netns, outer)),
            host.address(family)
        );
        assert_eq!(seen((pod.netns, source), (host.netns, outer)), source);
        let other = b.pod_end();
        assert_eq!(
            seen((pod.netns, source), (other.netns, other.address(family))),
            source
        );
    }
    let planned = agent.plan(&[]);
    assert_eq!(planned.code, 0, "{planned:?}");
    agent.stop();
    let uninstalled = agent.run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert_eq!(adit_tests::snapshot::ruleset(&a.netns), "");
}
