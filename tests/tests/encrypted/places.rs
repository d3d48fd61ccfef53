//! Endpoints of peers: peers that roam, and names that are resolved again.

use adit_tests::agent::start_all_as;
use adit_tests::{Agent, Bpffs, Overlay, Topology, traffic};
use dataplane_user::kernel::bpf::carry::Carry;
use dataplane_user::kernel::wireguard::endpoints;
use dataplane_user::net::Family;

use super::{has_problem, key, possible, wg};

/// Resolves names without pauses.
const SHORT: &str = "names=100,waiting=100";

#[test]
fn the_endpoint_of_a_roamed_peer_stays_until_another_is_configured() {
    roams("dataplane: ebpf", |agent| agent);
}

#[test]
fn the_endpoint_of_a_roamed_peer_stays_without_a_bpf_file_system() {
    roams("dataplane: routes", |agent| agent.with_bpffs(Bpffs::unmounted()));
}

fn roams(dataplane: &'static str, prepare: impl for<'a> Fn(Agent<'a>) -> Agent<'a>) {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let mut overlay = Overlay {
        network: vec![dataplane],
        ..Overlay::new(&topology, "wireguard")
    };
    let mut agents = start_all_as(&topology, &overlay.manifests(&topology), prepare);
    let [a, b] = &topology.hosts;
    traffic::ping(a.end(), b.end(), Family::Ipv4).unwrap();
    agents[1].stop();
    wg(b, "set adit-wg0 listen-port 41820");
    traffic::ping(b.end(), a.end(), Family::Ipv4).unwrap();
    let endpoint = || wg(a, "show adit-wg0 endpoints");
    let address = b.underlay(Family::Ipv4);
    let roamed = format!("{}\t{address}:41820", key(b));
    assert_eq!(endpoint(), roamed);
    agents[0].next_reconciliation();
    assert_eq!(endpoint(), roamed);
    agents[0].stop();
    agents[0].start();
    agents[0].ready();
    agents[0].next_reconciliation();
    assert_eq!(endpoint(), roamed, "a restart knows what was configured last");
    traffic::ping(a.end(), b.end(), Family::Ipv6).unwrap();

    overlay.keys[1].1 = format!("endpoint: '{address}:4711'");
    agents[0].apply(&overlay.manifests(&topology));
    assert!(endpoint().ends_with(":4711"), "{}", endpoint());
    overlay.keys[1].1.clear();
    agents[0].apply(&overlay.manifests(&topology));
    assert!(endpoint().ends_with(":51820"), "{}", endpoint());

    let kept = || match Carry::open_read_only(&agents[0].pins()).unwrap() {
        Some(map) => map.endpoints().unwrap(),
        None => endpoints::load(&agents[0].state_directory()).unwrap(),
    };
    assert_eq!(kept().len(), 1);
    agents[0].apply(&Overlay::new(&topology, "geneve").manifests(&topology));
    agents[0].next_reconciliation();
    agents[0].next_reconciliation();
    assert_eq!(kept().len(), 0);
}

#[test]
fn a_name_is_resolved_before_a_handshake_expires_however_rare_reconciliations_are() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys[1].1 = "endpoint: 'b.adit.example:51820'".to_owned();
    let [a, b] = &topology.hosts;
    let at = |family| format!("{} b.adit.example\n", b.underlay(family));
    let manifests = overlay.manifests(&topology);
    let mut agent = Agent::new(a, &manifests)
        .with_hosts(&at(Family::Ipv6))
        .with_pauses(SHORT);
    agent.start();
    agent.ready();
    agent.write_hosts(&at(Family::Ipv4));
    agent.wait("moved", |_| {
        wg(a, "show adit-wg0 endpoints").contains(&b.underlay(Family::Ipv4).to_string())
    });
}

#[test]
fn the_name_of_an_endpoint_is_resolved_again() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys[1].1 = "endpoint: 'b.adit.example:51820'".to_owned();
    let manifests = overlay.manifests(&topology);
    let [a, b] = &topology.hosts;
    let mut agents = [
        Agent::new(a, &manifests)
            .with_hosts("127.0.0.1 localhost\n")
            .with_pauses(SHORT),
        Agent::new(b, &manifests),
    ];
    agents.iter_mut().for_each(Agent::start);
    agents[1].ready();
    agents[0].wait("reported", |status| {
        has_problem(status, "warning", "NameUnresolved")
    });
    assert_eq!(wg(a, "show adit-wg0 endpoints"), format!("{}\t(none)", key(b)));

    let at = |family| format!("{} b.adit.example\n", b.underlay(family));
    agents[0].write_hosts(&at(Family::Ipv6));
    agents[0].wait("solved", |status| status.problems.is_empty());
    let status = agents[0].next_reconciliation();
    let shown = |family| match family {
        Family::Ipv4 => format!("{}\t{}:51820", key(b), b.underlay(family)),
        Family::Ipv6 => format!("{}\t[{}]:51820", key(b), b.underlay(family)),
    };
    assert_eq!(wg(a, "show adit-wg0 endpoints"), shown(Family::Ipv6));
    assert_eq!(
        status.networks[0].mtu, 1420,
        "the way to the endpoint counts, and its family"
    );
    traffic::ping(a.end(), b.end(), Family::Ipv4).unwrap();

    // With both families, the underlay family of the link is used, and the other one no longer.
    agents[0].write_hosts(&at(Family::Ipv4));
    agents[0].wait("moved", |_| {
        wg(a, "show adit-wg0 endpoints") == shown(Family::Ipv4)
    });
    assert_eq!(agents[0].next_reconciliation().networks[0].mtu, 1440);
    // The last address stays while no server answers.
    agents[0].write_hosts("");
    let looks = || agents[0].log().matches("can't resolve b.adit.example").count();
    let before = looks();
    agents[0].wait("looking", |_| looks() > before);
    agents[0].next_reconciliation();
    assert_eq!(wg(a, "show adit-wg0 endpoints"), shown(Family::Ipv4));
    assert!(agents[0].status().unwrap().ready);
}
