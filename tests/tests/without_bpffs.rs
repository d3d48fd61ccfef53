//! An agent without a mounted BPF file system: objects that need no program work, those that need one are reported, and
//! objects of an earlier agent do not count as absent because its pins cannot be seen.

use adit_tests::agent::is_settled;
use adit_tests::declared::of_node;
use adit_tests::topology::Host;
use adit_tests::traffic::{self, refusal};
use adit_tests::{Agent, Bpffs, Overlay, Topology, require, snapshot};
use dataplane_user::net::Family;
use dataplane_user::resource::Severity;
use dataplane_user::status::Status;
use nix::errno::Errno;
use serde_json::Value;

/// The agent of a node without a BPF file system; not started yet.
fn without<'a>(host: &'a Host, manifests: &str) -> Agent<'a> {
    Agent::new(host, manifests)
        .with_bpffs(Bpffs::unmounted())
        .with_pauses("waiting=200")
}

/// Whether an error says that a BPF file system is missing, with the command that mounts one.
fn is_told(status: &Status) -> bool {
    let mut problems = status.problems.iter();
    problems.any(|problem| {
        problem.severity == Severity::Error
            && problem.message.contains("not on a BPF file system")
            && problem.message.contains("mount -t bpf bpf")
    })
}

/// The findings of `adit doctor` about the BPF file system.
fn judged(agent: &Agent<'_>) -> String {
    let manifests = agent.manifests();
    let with = ["doctor", "--json", "--node", agent.host().name, "-f"];
    let printed = agent.run(&[&with[..], &[manifests.to_str().unwrap()]].concat());
    let findings: Vec<Value> = serde_json::from_str(&printed.stdout).unwrap();
    let mut levels = findings.iter().filter(|finding| finding["check"] == "bpffs");
    levels.next().unwrap()["level"].as_str().unwrap().to_owned()
}

#[test]
fn networks_by_routes_work_and_everything_is_removed() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay {
        network: vec!["dataplane: routes"],
        ..Overlay::new(&topology, "geneve")
    };
    let manifests = overlay.manifests(&topology);
    let [a, b] = &topology.hosts;
    let mut agents = [a, b].map(|host| without(host, &manifests));
    let run_directory = agents[0].run_directory();
    let look = || snapshot::everything(&a.netns, &[&run_directory]);
    let empty = look();
    let planned = agents[0].plan(&[]);
    assert_eq!(planned.code, 4, "{planned:?}");
    assert!(!planned.stdout.contains('!'), "no problem: {planned:?}");
    agents.iter_mut().for_each(Agent::start);
    agents.iter().for_each(Agent::ready);
    for family in Family::BOTH {
        traffic::ping(a.end(), b.pod_end(), family).unwrap();
        traffic::ping(b.pod_end(), a.pod_end(), family).unwrap();
    }
    agents.iter().for_each(is_settled);
    let status = agents[0].run(&["status"]);
    assert_eq!(status.code, 0, "{status:?}");
    assert_eq!(judged(&agents[0]), "ok");
    assert_eq!(agents[0].run(&["map", "stats"]).code, 3, "there are no maps");

    agents[0].stop();
    agents[0].start();
    agents[0].ready();
    is_settled(&agents[0]);
    agents[0].stop();
    let uninstalled = agents[0].run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert_eq!(look(), empty);
}

#[test]
fn a_node_in_no_network_has_its_interfaces() {
    require!(modules: "dummy", "wireguard");
    let topology = Topology::<1>::new();
    let [a] = &topology.hosts;
    let manifests = of_node(
        "a",
        "NetlinkInterface",
        "d0",
        "type: dummy, addresses: [10.80.0.1/24]",
    ) + &of_node(
        "a",
        "WireGuardInterface",
        "wg0",
        "listenPort: 51820, addresses: [10.81.0.1/24]",
    );
    let mut agent = without(a, &manifests);
    agent.start();
    agent.ready();
    is_settled(&agent);
    let links = a.netns.ip("-br link show");
    assert!(links.contains("d0") && links.contains("wg0"), "{links}");
    assert_eq!(judged(&agent), "ok");
}

#[test]
fn a_network_by_programs_refuses_packets_until_a_bpf_file_system_exists_and_the_rest_works() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let [a, b] = &topology.hosts;
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let other = of_node(
        "a",
        "NetlinkInterface",
        "d0",
        "type: dummy, addresses: [10.80.0.1/24]",
    );
    let mut agents = [
        without(a, &(manifests.clone() + &other)),
        Agent::started(b, &manifests),
    ];
    let planned = agents[0].plan(&[]);
    assert!(planned.stdout.contains("not on a BPF file system"), "{planned:?}");
    agents[0].start();
    let status = agents[0].wait("reported", is_told);
    assert_eq!((status.ready, status.problems.len()), (false, 1), "{status:#?}");
    assert_eq!(status.reconciliation.residual, 0, "{status:#?}");
    assert!(a.netns.ip("-br link show").contains("d0"));
    assert_eq!(judged(&agents[0]), "error");
    for family in Family::BOTH {
        let refused = refusal(&a.netns, b.end().address(family)).unwrap();
        assert_eq!(refused, Some(Errno::EHOSTUNREACH), "{family}");
    }
    assert_eq!(agents[0].plan(&[]).code, 5, "nothing can be done");

    agents[0].mount_bpffs();
    agents[0].ready();
    for family in Family::BOTH {
        traffic::ping(a.end(), b.pod_end(), family).unwrap();
    }
    is_settled(&agents[0]);
}

#[test]
fn objects_stay_if_the_pins_of_the_agent_cannot_be_seen() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let [a, b] = &topology.hosts;
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agents = [a, b].map(|host| Agent::started(host, &manifests));
    agents[0].stop();
    // As in another mount namespace.
    let elsewhere = agents[0].exchange_bpffs(Bpffs::unmounted());
    let look = || a.netns.ip("-d link show group 173") + &a.netns.ip("route show");
    let before = look();
    // Also if the manifests no longer need programs.
    let routes = Overlay {
        network: vec!["dataplane: routes"],
        ..Overlay::new(&topology, "geneve")
    };
    for manifests in [manifests, routes.manifests(&topology)] {
        agents[0].write(&manifests);
        agents[0].start();
        let status = agents[0].wait("reported", is_told);
        assert_eq!(status.reconciliation.changed, 0, "{status:#?}");
        agents[0].reconciled("told", is_told);
        assert_eq!(look(), before);
        for family in Family::BOTH {
            traffic::ping(a.end(), b.pod_end(), family).unwrap();
        }
        agents[0].stop();
    }
    let unmounted = agents[0].exchange_bpffs(elsewhere);
    agents[0].start();
    agents[0].ready();
    is_settled(&agents[0]);
    agents[0].stop();

    let elsewhere = agents[0].exchange_bpffs(unmounted);
    let uninstalled = agents[0].run(&["uninstall"]);
    assert_eq!(uninstalled.code, 1, "{uninstalled:?}");
    assert!(uninstalled.stderr.contains("not visible here"), "{uninstalled:?}");
    drop(agents[0].exchange_bpffs(elsewhere));
    let uninstalled = agents[0].run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert!(!agents[0].pins().exists());
}
