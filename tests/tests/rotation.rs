//! The WireGuard key of a node changes while traffic flows.

use std::fs;

use adit_tests::agent::start_all_as;
use adit_tests::traffic::{self, Probes};
use adit_tests::{Agent, Overlay, Topology, require};
use dataplane_user::net::{Family, PublicKey};
use dataplane_user::status::Status;

/// The key in a field that `adit wg rotate` printed.
fn key_in(printed: &str, field: &str) -> PublicKey {
    let (_, rest) = printed.split_once(&format!("{field}: ")).expect("the field");
    let end = rest.find([',', '}']).expect("it ends");
    rest[..end].parse().expect("a key")
}

/// Whether packets to all peers take second devices, or the first ones.
fn all_by(status: &Status, second: bool) -> bool {
    let is_second = |device: &str| {
        let number = device
            .strip_prefix("adit-wg")
            .and_then(|number| number.parse::<u16>().ok());
        number.is_some_and(|number| number >= 128)
    };
    status.peers.iter().all(|peer| {
        let device = peer
            .wireguard
            .as_ref()
            .map(|link| is_second(link.device.as_str()));
        device == Some(second)
    })
}

fn awaits(status: &Status) -> bool {
    status
        .problems
        .iter()
        .any(|problem| problem.reason == "KeyRotation")
}

#[test]
fn a_key_changes_while_traffic_flows_and_nothing_is_lost_by_ebpf() {
    changes("dataplane: ebpf");
}

#[test]
fn a_key_changes_while_traffic_flows_and_nothing_is_lost_by_routes() {
    changes("dataplane: routes");
}

fn changes(dataplane: &'static str) {
    require!(modules: "dummy", "wireguard");
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        network: vec![dataplane],
        // Two nodes that advertise the same prefix are on different devices of a third one.
        shared: vec!["b", "c"],
        ..Overlay::new(&topology, "wireguard")
    };
    let agents = start_all_as(&topology, &overlay.manifests(&topology), |agent| {
        agent.with_pauses("waiting=500,rotation-overlap=4000")
    });
    let [a, b, c] = &topology.hosts;
    let ways = [(a, b), (b, a), (a, c), (c, a), (b, c)];
    for (from, to) in ways {
        traffic::udp(from.pod_end(), to.pod_end(), Family::Ipv4, 100).unwrap();
    }
    let families = ways
        .into_iter()
        .zip([Family::Ipv4, Family::Ipv6].into_iter().cycle());
    let probes = families.map(|((from, to), family)| {
        (
            Probes::start(from.pod_end(), to.pod_end(), family).unwrap(),
            from.name,
            to.name,
        )
    });
    let probes = probes.collect::<Vec<_>>();

    // There is nothing to end yet.
    assert_eq!(agents[0].run(&["wg", "rotate", "--finish"]).code, 3);
    let printed = agents[0].run(&["wg", "rotate"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    let next = key_in(&printed.stdout, "nextPublicKey");
    let former = key_in(&printed.stdout, "publicKey");
    assert_eq!(former, a.private_key().public_key());
    assert_eq!(
        agents[0].run(&["wg", "rotate"]).stdout,
        printed.stdout,
        "it is made once"
    );
    assert_eq!(
        agents[0].run(&["wg", "rotate", "--finish"]).code,
        8,
        "nobody knows of it"
    );

    // The nodes get the new manifests one after another; until both ends have them, packets keep their path.
    let mut both = overlay.clone();
    both.keys[0].1 = format!("nextPublicKey: '{next}'");
    let both = both.manifests(&topology);
    agents[0].write(&both);
    agents[0].wait("awaiting", |status| awaits(status) && all_by(status, false));
    assert_eq!(agents[0].run(&["wg", "rotate", "--finish"]).code, 8);
    agents[1].write(&both);
    agents[2].write(&both);
    agents[0].wait("moved", |status| !awaits(status) && all_by(status, true));
    for (agent, host) in [(&agents[1], b), (&agents[2], c)] {
        agent.wait("moved towards a", |status| {
            let to_a = status.peers.iter().find(|peer| peer.node.as_str() == "a");
            let link = to_a.and_then(|peer| peer.wireguard.as_ref());
            !awaits(status) && link.is_some_and(|link| link.public_key == Some(next))
        });
        assert!(
            host.netns.ip("link show type wireguard").contains("adit-wg12"),
            "{}",
            host.name
        );
    }
    settled(&agents);

    let printed = agents[0].run(&["wg", "rotate", "--finish"]);
    assert_eq!(printed.code, 0, "{printed:?}");
    assert_eq!(key_in(&printed.stdout, "publicKey"), next);
    assert!(!printed.stdout.contains("nextPublicKey"), "{printed:?}");
    let after = Overlay {
        public_keys: vec![("a", next)],
        ..overlay
    };
    let after = after.manifests(&topology);
    // In another order.
    for agent in agents.iter().rev() {
        agent.write(&after);
        agent.next_reconciliation();
    }
    for (agent, host) in agents.iter().zip([a, b, c]) {
        agent.wait("back on the first devices", |status| {
            !awaits(status) && all_by(status, false) && status.ready
        });
        agent.wait("without second ones", |_| {
            let links = host.netns.ip("link show type wireguard");
            links.contains("adit-wg") && !links.contains("adit-wg128") && !links.contains("adit-wg129")
        });
    }
    settled(&agents);
    let state = agents[0].state_directory();
    let own = fs::read_to_string(state.join("wireguard.key")).unwrap();
    let own = own.trim().parse::<dataplane_user::net::PrivateKey>().unwrap();
    assert_eq!(own.public_key(), next);
    assert!(!state.join("wireguard-next.key").exists());
    for (probes, from, to) in probes {
        let lost = probes.finish().unwrap();
        println!("{dataplane}, {from} to {to}: {lost:?}");
        assert_eq!(lost.lost, 0, "{dataplane}, {from} to {to}: {lost:?}");
    }
}

#[track_caller]
fn settled(agents: &[Agent<'_>]) {
    for agent in agents {
        let status = agent.next_reconciliation();
        assert_eq!(
            (status.reconciliation.changed, status.reconciliation.residual),
            (0, 0),
            "{status:#?}"
        );
    }
}
