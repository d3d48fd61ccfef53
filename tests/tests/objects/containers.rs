//! Containers by name, of each runtime.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use adit_tests::container::Container;
use adit_tests::named::eventually;
use adit_tests::require;
use adit_tests::{Agent, NetNs, Topology, require_module, require_program};
use dataplane_user::net::Runtime;
use tempfile::TempDir;

use crate::namespaces::Sleeper;
use crate::{becomes, interface, manifest, reaches, route, waits};

/// Starts, stops and restarts a container; while it does not run, its interface is pending.
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
    assert_eq!(waits(&agent.next_reconciliation()), ["NetlinkInterface/host0"]);
    for _ in 0..2 {
        container.start();
        agent.wait("not waiting", |status| {
            waits(status).is_empty() && status.reconciliation.residual == 0
        });
        assert!(reaches(&host.netns, "10.82.0.2"));
        container.stop();
        agent.wait("waiting", |status| !waits(status).is_empty());
    }
}

#[test]
fn a_crun_container_gets_its_interface_also_after_a_restart() {
    if require_module("veth") && require_program("crun") {
        gets_its_interface_again(Runtime::Crun);
    }
}

/// A fake Docker that answers as the test wants.
struct Docker(TempDir);

impl Docker {
    fn new() -> Docker {
        let docker = Docker(tempfile::tempdir().unwrap());
        let says = docker.0.path().join("says");
        docker.says("exit 1");
        let program = docker.0.path().join("docker");
        fs::write(&program, format!("#!/bin/sh\n. {}\n", says.display())).unwrap();
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
        docker
    }

    /// Runs this shell command from now on.
    fn says(&self, words: &str) {
        let new = self.0.path().join("new");
        fs::write(&new, words).unwrap();
        fs::rename(new, self.0.path().join("says")).unwrap();
    }

    fn path(&self) -> (&'static str, String) {
        let others = std::env::var("PATH").unwrap();
        ("PATH", format!("{}:{others}", self.0.path().display()))
    }
}

const NO_DAEMON: &str =
    "echo 'dial unix /var/run/docker.sock: connect: no such file or directory' >&2; exit 1";
const NO_CONTAINER: &str = "echo 'Error response from daemon: No such container: web' >&2; exit 1";

#[test]
fn only_a_container_that_no_longer_exists_loses_its_interfaces() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let (docker, sleeper) = (Docker::new(), Sleeper::new());
    let answer = format!("echo {}", sleeper.0.id());
    docker.says(&answer);
    let end = "peer: { name: eth0, namespace: { container: { runtime: docker, name: web } }, addresses: [10.82.0.2/24] }";
    let manifests = interface("host0", &format!("type: veth, addresses: [10.82.0.1/24], {end}"))
        + &route("behind", "to: 10.84.0.0/16, via: 10.82.0.2");
    let mut agent = Agent::new(host, &manifests).with_environment(Some(docker.path()));
    agent.start();
    agent.ready();
    assert_eq!(agent.next_reconciliation().reconciliation.residual, 0);
    let look = || host.netns.ip("-o link show host0") + &host.netns.ip("route show dev host0");
    let before = look();
    // Also if it never answered this agent.
    for silence in [NO_DAEMON, "exec sleep 1000", "echo odd", "kill -9 $$"] {
        agent.stop();
        docker.says(silence);
        agent.start();
        let status = agent.reconciled("waiting", |status| waits(status) == ["NetlinkInterface/host0"]);
        assert!(
            status.ready && status.reconciliation.changed == 0,
            "{silence}: {status:#?}"
        );
        let next = agent.next_reconciliation();
        assert_eq!(next.reconciliation.changed, 0, "{silence}: {next:#?}");
        assert_eq!(look(), before, "{silence}");
        assert!(reaches(&host.netns, "10.82.0.2"), "{silence}");
        docker.says(&answer);
        agent.reconciled("not waiting", |status| {
            status.problems.is_empty() && status.reconciliation.residual == 0
        });
        assert_eq!(look(), before, "{silence}");
    }
    docker.says(NO_CONTAINER);
    agent.reconciled("waiting", |status| !waits(status).is_empty());
    becomes(
        "gone",
        || host.netns.ip("-br link show"),
        |shown| !shown.contains("host0"),
    );
}

#[test]
fn uninstalling_searches_all_used_namespaces_and_names_unreadable_ones() {
    require!(modules: "dummy", "wireguard");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let (docker, by_path) = (Docker::new(), NetNs::new());
    let (process, container) = (Sleeper::new(), Sleeper::new());
    let answer = format!("echo {}", container.0.id());
    docker.says(&answer);
    let places = [
        format!("pid: {}", process.0.id()),
        format!("path: {}", by_path.path().display()),
        "container: { runtime: docker, name: web }".to_owned(),
    ];
    let manifests = places.iter().zip(["one", "two", "three"]).map(|(place, name)| {
        let namespace = format!("namespace: {{ {place} }}");
        interface(name, &format!("type: dummy, {namespace}"))
            + &manifest("WireGuardInterface", &format!("wg-{name}"), &namespace)
    });
    let manifests = manifests.collect::<String>();
    let of_process = |pid: u32| File::open(format!("/proc/{pid}/ns/net")).unwrap();
    let files = [
        of_process(process.0.id()),
        File::open(by_path.path()).unwrap(),
        of_process(container.0.id()),
    ];
    let held = || {
        let count = |file: &File| {
            let path = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
            let words = [
                &format!("--net={path}"),
                "ip",
                "-o",
                "link",
                "show",
                "group",
                "173",
            ];
            let output = Command::new("nsenter").args(words).output().unwrap();
            String::from_utf8(output.stdout).unwrap().lines().count()
        };
        files.iter().map(count).collect::<Vec<_>>()
    };
    let mut agent = Agent::new(host, &manifests).with_environment(Some(docker.path()));
    agent.start();
    agent.ready();
    assert_eq!(held(), [2, 2, 2]);
    // Objects that the manifests no longer name are deleted, although no agent ran when they changed.
    agent.stop();
    agent.write(&interface("other", "type: dummy"));
    agent.start();
    agent.ready();
    assert!(eventually(|| held() == [0, 0, 0]), "{:?}", held());
    agent.stop();

    agent.write(&manifests);
    agent.start();
    agent.ready();
    assert_eq!(held(), [2, 2, 2]);
    agent.stop();
    docker.says(NO_DAEMON);
    let printed = agent.run_alike(&["uninstall", "--purge"]);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert!(printed.stderr.contains("docker container web"), "{printed:?}");
    assert!(agent.state_directory().exists());
    assert_eq!(held(), [0, 0, 2]);
    docker.says(&answer);
    let printed = agent.run_alike(&["uninstall", "--purge"]);
    assert_eq!((printed.code, held()), (0, vec![0, 0, 0]), "{printed:?}");
    assert!(!agent.state_directory().exists());
}

/// Podman and Docker mount file systems that the whole machine sees, so these tests run only in guests.
fn is_guest() -> bool {
    std::env::var_os("ADIT_VM").is_some_and(|vm| vm == "1")
}

#[test]
fn a_podman_container_gets_its_interface_also_after_a_restart() {
    if is_guest() && require_program("podman") {
        gets_its_interface_again(Runtime::Podman);
    }
}

#[test]
fn a_docker_container_gets_its_interface_also_after_a_restart() {
    if is_guest() && require_program("dockerd") && require_program("docker") {
        gets_its_interface_again(Runtime::Docker);
    }
}
