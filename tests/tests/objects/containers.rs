//! Containers by name, of each runtime.

use adit_tests::container::Container;
use adit_tests::{Agent, Topology, require_module, require_program};
use dataplane_user::net::Runtime;

use crate::{interface, reaches, waits};

/// Runs, stops and runs again; while it does not run, its interface waits.
fn gets_its_interface_again(runtime: Runtime) {
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let container = Container::new(runtime);
    let manifests = interface(
        "host0",
        &format!(
            "type: veth, addresses: [10.82.0.1/24], peer: {{ name: eth0, namespace: {{ container: {{ runtime: {}, name: {} }} }}, addresses: [10.82.0.2/24] }}",
            runtime.name(),
            container.name()
        ),
    );
    let mut agent = Agent::new(host, &manifests)
        .with_environment(container.environment())
        .with_pauses("waiting=500");
    agent.start();
    agent.ready();
    assert_eq!(waits(&agent.next_pass()), ["NetlinkInterface/host0"]);
    for _ in 0..2 {
        container.start();
        agent.wait("not waiting", |status| {
            waits(status).is_empty() && status.pass.residual == 0
        });
        assert!(reaches(&host.netns, "10.82.0.2"));
        container.stop();
        agent.wait("waiting", |status| !waits(status).is_empty());
    }
}

#[test]
fn a_container_of_crun_gets_its_interface_and_gets_it_again_when_it_restarts() {
    if require_module("veth") && require_program("crun") {
        gets_its_interface_again(Runtime::Crun);
    }
}

/// Podman and Docker keep what they mount where everybody sees it: in guests alone.
fn is_guest() -> bool {
    std::env::var_os("ADIT_VM").is_some_and(|vm| vm == "1")
}

#[test]
fn a_container_of_podman_gets_its_interface_and_gets_it_again_when_it_restarts() {
    if is_guest() && require_program("podman") {
        gets_its_interface_again(Runtime::Podman);
    }
}

#[test]
fn a_container_of_docker_gets_its_interface_and_gets_it_again_when_it_restarts() {
    if is_guest() && require_program("dockerd") && require_program("docker") {
        gets_its_interface_again(Runtime::Docker);
    }
}
