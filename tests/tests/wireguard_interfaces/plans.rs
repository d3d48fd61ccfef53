//! Plans with many links: each end creates its own.

use adit_tests::container::Container;
use adit_tests::topology::Host;
use adit_tests::{Agent, Topology, require};
use dataplane_user::net::{Family, Runtime};

use crate::{is_settled, reaches};

/// A plan of `a` and `b`, with `b` in a given namespace.
fn plan(topology: &Topology<2>, b_is: &str) -> String {
    let [a, b] = &topology.hosts;
    let node = |host: &Host, rest: &str| {
        format!(
            "  - {{ name: {}, publicKey: '{}', endpoint: '{}', {rest} }}\n",
            host.name,
            host.private_key().public_key(),
            host.underlay(Family::Ipv4)
        )
    };
    format!(
        "---\napiVersion: adit.dev/v1alpha1\nkind: WireGuardNetworkPlan\nmetadata: {{ name: mesh }}\nspec:\n  addresses: [10.255.0.0/24, 'fd00:255::/64']\n  nodes:\n{}{}  links: [{{ nodes: [a, b], count: 2 }}]\n",
        node(a, ""),
        node(b, b_is)
    )
}

#[test]
fn two_nodes_of_a_plan_reach_each_other_by_each_link() {
    require!(modules: "wireguard");
    let topology = Topology::<2>::new();
    let [a, b] = &topology.hosts;
    let manifests = plan(&topology, "");
    let agents = [a, b].map(|host| Agent::started(host, &manifests));
    agents.iter().for_each(is_settled);
    for far in ["10.255.0.3", "10.255.0.5", "fd00:255::3", "fd00:255::5"] {
        assert!(reaches(&a.netns, far), "{far}");
    }
    for far in ["10.255.0.2", "fd00:255::4"] {
        assert!(reaches(&b.netns, far), "{far}");
    }
    for host in [a, b] {
        let links = host.netns.ip("link show type wireguard");
        for name in ["wg-a-b-0", "wg-a-b-1"] {
            assert!(
                links.contains(&format!("{name}: <POINTOPOINT,NOARP,UP,LOWER_UP> mtu 1420")),
                "{links}"
            );
        }
    }
}

#[test]
fn two_nodes_of_a_plan_reach_each_other_with_one_end_in_a_podman_container() {
    let is_guest = std::env::var_os("ADIT_VM").is_some_and(|vm| vm == "1");
    if !is_guest {
        return;
    }
    require!(modules: "wireguard"; programs: "podman");
    let topology = Topology::<2>::new();
    let [a, b] = &topology.hosts;
    let container = Container::new(Runtime::Podman);
    let there = format!(
        "namespace: {{ container: {{ runtime: podman, name: {} }} }}",
        container.name()
    );
    let manifests = plan(&topology, &there);
    let first = Agent::started(a, &manifests);
    let mut second = Agent::new(b, &manifests)
        .with_environment(container.environment())
        .with_pauses("waiting=500");
    second.start();
    second.ready();
    for _ in 0..2 {
        container.start();
        second.wait("in the container", |status| {
            status.problems.is_empty() && status.reconciliation.residual == 0
        });
        for far in ["10.255.0.3", "fd00:255::5"] {
            assert!(reaches(&a.netns, far), "{far}");
        }
        container.stop();
        second.wait("waiting", |status| !status.problems.is_empty());
    }
    is_settled(&first);
}
