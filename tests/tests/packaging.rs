//! The shipped systemd units: systemd accepts them, and the early unit protects the node.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use adit_tests::declared::of_node;
use adit_tests::named::Named;
use adit_tests::{Agent, NetNs, Overlay, Topology, agent, require};
use aya::EbpfLoader;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType};
use dataplane_ebpf::layout::names;
use dataplane_user::kernel::bpf::{Mechanism, object};

#[test]
fn systemd_accepts_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    let units = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for name in ["adit.service", "adit-early.service"] {
        let text = fs::read_to_string(units.join(name)).unwrap();
        let installed = "/usr/local/bin/adit";
        assert!(text.contains(installed));
        // systemd-analyze requires that the program exists.
        let text = text.replace(installed, agent::binary().to_str().unwrap());
        paths.push(directory.path().join(name));
        fs::write(paths.last().unwrap(), text).unwrap();
    }
    let output = Command::new("systemd-analyze")
        .arg("verify")
        .args(paths)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // systemd-analyze reads the units of the machine, too, and reports about them.
    let about_ours = said
        .lines()
        .filter(|line| line.contains("adit"))
        .collect::<Vec<_>>();
    assert_eq!(about_ours, [""; 0], "{said}");
}

#[test]
fn the_early_unit_refuses_overlay_traffic() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let overlay = Overlay::new(&topology, "geneve");
    let host = &topology.hosts[0];
    let mut agent = Agent::new(host, &overlay.manifests(&topology));
    let manifests = agent.manifests();
    let words = ["early", "--node", "a", "-f", manifests.to_str().unwrap()];
    // Before the network is up.
    host.netns.ip("link set u0 down");
    for _ in 0..2 {
        let printed = agent.run(&words);
        assert_eq!(printed.code, 0, "{printed:?}");
    }
    assert!(host.netns.ip("address show dev adit0").contains("10.1.0.1/32"));
    let routes = host.netns.ip("route show proto 173") + &host.netns.ip("-6 route show proto 173");
    assert_eq!(routes.matches("unreachable").count(), 2, "{routes}");
    assert!(!routes.contains("adit0"), "{routes}");
    let links = host.netns.ip("-br link show group 173");
    assert_eq!(links.lines().count(), 1, "{links}");
    // An agent continues from this state.
    host.netns.ip("link set u0 up");
    host.netns.ip_batch("route replace default via 192.0.2.17");
    agent.start();
    agent.ready();
    // Beside an agent it is refused.
    let before = host.netns.ip("route show proto 173");
    assert_eq!(agent.run(&words).code, 8);
    assert_eq!(host.netns.ip("route show proto 173"), before);
}

/// Reading the id of a program needs CAP_SYS_ADMIN, and an agent only reads its own programs.
#[test]
fn the_shipped_unit_starts_although_lo_has_a_program_of_others() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let host = &topology.hosts[0];
    let mut ebpf = EbpfLoader::new().load(object::object()).unwrap();
    let program = ebpf.program_mut(names::EGRESS_PROGRAM).unwrap();
    let program: &mut SchedClassifier = program.try_into().unwrap();
    program.load().unwrap();
    if host.netns.enter(|| Mechanism::probe().unwrap()) == Mechanism::Tcx {
        let order = || TcAttachOptions::TcxOrder(LinkOrder::default());
        let attach = || program.attach_with_options("lo", TcAttachType::Ingress, order());
        host.netns.enter(attach).unwrap();
    }
    let manifests = Overlay::new(&topology, "geneve").manifests(&topology);
    let mut agent = Agent::new(host, &manifests).with_capabilities(&capabilities(&["adit.service"]));
    agent.start();
    agent.ready();
    let status = agent.status().unwrap();
    assert_eq!(
        (status.reconciliation.failed, status.reconciliation.residual),
        (0, 0),
        "{status:#?}"
    );
}

#[test]
fn drift_in_other_namespaces_is_noticed_with_the_drop_in_and_a_missing_one_is_reported() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let there = Named::new();
    let inside = format!("type: dummy, namespace: {{ name: {} }}", there.0);
    let manifests = of_node("a", "NetlinkInterface", "inner", &inside);
    let all = capabilities(&["adit.service", "adit.service.d/namespaces.conf"]);
    let told = |agent: &Agent<'_>| {
        let status = agent.status().unwrap();
        assert!(status.ready, "{status:#?}");
        status
            .problems
            .iter()
            .any(|problem| problem.reason == "EventsMissing")
    };

    // Longer than any test.
    let agent = Agent::new(&topology.hosts[0], &manifests).with_resync(3600);
    let mut agent = agent.with_capabilities(&all);
    agent.start();
    agent.ready();
    assert!(!told(&agent));
    there.ip("link delete inner");
    agent.wait("repaired", |status| status.repairs.total == 1);
    agent.stop();

    let without = all.replace(",+net_broadcast", "");
    assert_ne!(without, all);
    let mut agent = agent.with_capabilities(&without);
    agent.start();
    agent.ready();
    assert!(told(&agent));
}

/// The capabilities of the units, in the syntax of `setpriv --bounding-set`.
fn capabilities(units: &[&str]) -> String {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let mut set = "-all".to_owned();
    for unit in units {
        let text = fs::read_to_string(directory.join(unit)).unwrap();
        let lines = text.lines();
        for line in lines.filter_map(|line| line.strip_prefix("CapabilityBoundingSet=")) {
            for capability in line.split_whitespace() {
                set += &format!(",+{}", capability.strip_prefix("CAP_").unwrap().to_lowercase());
            }
        }
    }
    set
}

#[test]
fn rejected_manifests_at_boot_leave_the_last_accepted_set_in_use() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let good = Overlay::new(&topology, "geneve").manifests(&topology);
    let host = &topology.hosts[0];
    let mut agent = Agent::started(host, &good);
    agent.stop();
    let kept = fs::metadata(agent.state_directory().join("last-good.json")).unwrap();
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
    let forget_all = || {
        // As after a boot.
        for link in ["adit0", "adit-geneve"] {
            host.netns.ip(&format!("link delete {link}"));
        }
        host.netns.ip("route flush proto 173");
        host.netns.ip("-6 route flush proto 173");
    };
    let backstops =
        || host.netns.ip("route show type unreachable proto 173") + &host.netns.ip("-6 route show proto 173");

    forget_all();
    let manifests = agent.manifests();
    let words = ["early", "--node", "a", "-f", manifests.to_str().unwrap()];
    // A typo, and an empty directory.
    for bad in [good.replace("10.0.0.0/8", "10.0.0.0/88"), String::new()] {
        agent.write(&bad);
        let printed = agent.run(&words);
        assert_eq!(printed.code, 0, "{printed:?}");
        assert!(printed.stderr.contains("last accepted"), "{printed:?}");
        assert_eq!(backstops().matches("unreachable").count(), 2, "{}", backstops());
        assert!(host.netns.ip("address show dev adit0").contains("10.1.0.1/32"));
        host.netns.ip("link delete adit0");
        host.netns.ip("route flush proto 173");
        host.netns.ip("-6 route flush proto 173");
    }
    // The agent continues as well, and reports that the manifests are not applied.
    agent.start();
    let status = agent.wait("reconciled", |status| status.reconciliation.number > 0);
    assert!(
        status.source.synced && status.source.error.is_some() && !status.ready,
        "{status:#?}"
    );
    assert_eq!(status.peers.len(), 1, "{status:#?}");
    assert_eq!(backstops().matches("unreachable").count(), 2, "{}", backstops());
    agent.stop();
    // After uninstalling nothing of it is left.
    assert_eq!(agent.run(&["uninstall"]).code, 0);
    let printed = agent.run(&words);
    assert_eq!(printed.code, 1, "{printed:?}");
    assert_eq!(backstops(), "");
}

#[test]
fn iproute2_shows_tables_and_protocols_by_name() {
    if !Path::new("/etc/iproute2/rt_tables.d").is_dir() {
        println!("skipped: this iproute2 has no /etc/iproute2/rt_tables.d");
        return;
    }
    let netns = NetNs::new();
    netns.ip("link set lo up");
    netns.ip("route add 10.0.0.0/8 dev lo table 1730 proto 173");
    netns.ip("rule add iif lo lookup 17315 priority 1729 protocol 173");
    // In a separate mount namespace.
    let places = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/iproute2");
    let mounts = ["rt_tables.d", "rt_protos.d"].map(|name| {
        let ours = places.join(name);
        format!("mount --bind {} /etc/iproute2/{name}", ours.display())
    });
    let script = format!(
        "{} && {} && ip route show table adit && ip rule",
        mounts[0], mounts[1]
    );
    let run = || Command::new("unshare").args(["-m", "sh", "-c", &script]).output();
    let output = netns.enter(run).unwrap();
    let shown = String::from_utf8_lossy(&output.stdout);
    assert!(shown.contains("10.0.0.0/8 dev lo proto adit"), "{output:?}");
    assert!(shown.contains("lookup adit-return-15 proto adit"), "{output:?}");
}
