//! Other namespaces: by name, path and process; created late, deleted and recreated; and their state after uninstalling.

use std::fs::{self, File};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::panic;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use adit_tests::named::eventually;
use adit_tests::{Agent, NetNs, Topology, require, snapshot};
use dataplane_user::resource::Severity;
use dataplane_user::status::Status;
use nix::sys::signal::Signal;

use crate::{Named, becomes, interface, is_settled, manifest, reaches, route, waits};

/// A veth pair from the host to a namespace.
fn pair(namespace: &str) -> String {
    interface(
        "host0",
        &format!(
            "type: veth, addresses: [10.80.0.1/24], peer: {{ name: eth0, namespace: {{ {namespace} }}, addresses: [10.80.0.2/24], mac: '02:00:00:00:80:02', mtu: 1420 }}"
        ),
    )
}

#[test]
fn an_end_in_a_named_namespace_answers_pings_and_is_repaired() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let there = Named::new();
    let inside = format!("namespace: {{ name: {} }}", there.0);
    let manifests = [
        pair(&format!("name: {}", there.0)),
        interface(
            "inner",
            &format!("type: dummy, {inside}, addresses: [10.81.0.1/24]"),
        ),
        route(
            "default-inside",
            &format!("{inside}, to: default, via: 10.80.0.1"),
        ),
        manifest(
            "NetlinkRule",
            "rule",
            &format!("{inside}, priority: 100, table: 100, fwmark: 7"),
        ),
        route("back", "to: 10.81.0.0/24, via: 10.80.0.2"),
    ];
    there.ip("link add theirs type dummy");
    there.ip("route add 10.99.0.0/16 dev lo");
    let theirs = || there.ip("-d link show theirs") + &there.ip("route show 10.99.0.0/16");
    let before = theirs();
    let mut agent = Agent::started(host, &manifests.concat());
    is_settled(&agent);
    assert!(there.reaches("10.80.0.1") && reaches(&host.netns, "10.81.0.1"));
    assert!(there.ip("-d link show eth0").contains("mtu 1420"));
    assert!(there.ip("rule").contains("fwmark 0x7 lookup 100"));

    for damage in [
        "link delete eth0",
        "link set eth0 down",
        "link set eth0 down\nlink set eth0 name odd",
        "address delete 10.80.0.2/24 dev eth0",
        "route delete default",
        "rule delete priority 100",
        "link delete inner",
    ] {
        there.ip_batch(damage);
        becomes(
            "mended",
            || agent.plan(&[]).stdout,
            |plan| plan.contains("Nothing to do."),
        );
    }
    is_settled(&agent);
    host.netns.ip("link delete host0");
    assert!(there.reaches("10.80.0.1"));

    // Its manifests are removed while no agent runs: the next start deletes its objects nevertheless.
    agent.stop();
    agent.write(&interface("other", "type: dummy"));
    agent.start();
    agent.ready();
    let left = there.ip("-br link show") + &there.ip("rule") + &there.ip("route");
    for gone in ["inner", "eth0", "lookup 100", "default via"] {
        assert!(!left.contains(gone), "{gone}: {left}");
    }
    // And by `adit uninstall`.
    agent.write(&manifests.concat());
    becomes(
        "there again",
        || there.ip("-br link show"),
        |shown| shown.contains("inner"),
    );
    agent.stop();
    assert_eq!(agent.run(&["uninstall"]).code, 0);
    let left = there.ip("-br link show") + &there.ip("rule");
    assert!(!left.contains("inner") && !left.contains("lookup 100"), "{left}");
    assert_eq!(theirs(), before);
}

#[test]
fn a_namespace_created_late_or_again_gets_its_interface() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let there = Named::new();
    let name = there.0.clone();
    drop(there);
    let manifests = pair(&format!("name: {name}")) + &interface("free", "type: dummy");
    let mut agent = Agent::new(&topology.hosts[0], &manifests).with_pauses("waiting=200");
    agent.start();
    agent.ready();
    let status = agent.next_reconciliation();
    assert_eq!(waits(&status), ["NetlinkInterface/host0"], "{status:#?}");
    assert!(topology.hosts[0].netns.ip("-br link show").contains("free"));
    for _ in 0..2 {
        let there = Named::of(&name);
        assert!(there.reaches("10.80.0.1"));
        agent.wait("not waiting", |status| {
            waits(status).is_empty() && status.reconciliation.residual == 0
        });
        drop(there);
        agent.wait("waiting", |status| !waits(status).is_empty());
    }
}

#[test]
fn a_namespace_by_path_gets_its_interface() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let there = NetNs::new();
    let agent = Agent::started(
        &topology.hosts[0],
        &pair(&format!("path: {}", there.path().display())),
    );
    is_settled(&agent);
    assert!(reaches(&there, "10.80.0.1"));
}

/// Whether the status has an error.
fn errs(status: &Status, subject: &str) -> bool {
    let mut problems = status.problems.iter();
    problems.any(|problem| problem.severity == Severity::Error && problem.subject == subject)
}

/// The index of a device, which changes when it is recreated.
fn index(netns: &NetNs, device: &str) -> String {
    let shown = netns.ip(&format!("-o link show {device}"));
    shown.split(':').next().unwrap().to_owned()
}

#[test]
fn a_path_that_leads_to_the_own_namespace_or_to_none_changes_nothing() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let there = NetNs::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("namespace");
    let lead = |to: &Path| {
        let _gone = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        symlink(to, &path).unwrap();
    };
    lead(&there.path());
    let agent = Agent::started(host, &pair(&format!("path: {}", path.display())));
    is_settled(&agent);
    assert!(reaches(&there, "10.80.0.1"));
    let before = (index(&host.netns, "host0"), index(&there, "eth0"));
    // The target of the path, and whether that is an error.
    let odd: [(&str, &dyn Fn(), bool); 5] = [
        ("the own one", &|| lead(&host.netns.path()), true),
        (
            "a FIFO",
            &|| {
                fs::remove_file(&path).unwrap();
                nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
            },
            false,
        ),
        ("a device", &|| lead(Path::new("/dev/zero")), false),
        ("another kind", &|| lead(Path::new("/proc/self/ns/uts")), false),
        ("itself", &|| lead(&path), false),
    ];
    for (what, leads, is_error) in odd {
        leads();
        let told = |status: &Status| match is_error {
            true => errs(status, "NetlinkInterface/host0"),
            false => waits(status) == ["NetlinkInterface/host0"],
        };
        agent.reconciled(&format!("told of {what}"), told);
        let next = agent.next_reconciliation();
        assert!(
            told(&next) && next.reconciliation.changed == 0,
            "{what}: {next:#?}"
        );
        let links = host.netns.ip("-br link show group 173");
        assert!(!links.contains("eth0"), "{what}: {links}");
        assert_eq!(
            (index(&host.netns, "host0"), index(&there, "eth0")),
            before,
            "{what}"
        );
        assert!(reaches(&there, "10.80.0.1"), "{what}");
    }
    lead(&there.path());
    agent.reconciled("as before", |status| status.problems.is_empty());
    is_settled(&agent);
    assert_eq!((index(&host.netns, "host0"), index(&there, "eth0")), before);
    // A missing namespace is no error, and its objects are deleted.
    fs::remove_file(&path).unwrap();
    agent.next_reconciliation();
    agent.reconciled("gone", |status| {
        status.reconciliation.changed == 0 && waits(status) == ["NetlinkInterface/host0"]
    });
    assert!(!host.netns.ip("-br link show").contains("host0"));
}

#[test]
fn objects_of_an_unresolved_namespace_name_stay() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let there = Named::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("namespace");
    let lead = || symlink(format!("/run/netns/{}", there.0), &path).unwrap();
    lead();
    let by_name = format!("namespace: {{ name: {} }}", there.0);
    let by_path = format!("path: {}", path.display());
    let inside = format!("namespace: {{ {by_path} }}");
    let bridged = interface("br0", &format!("type: bridge, {inside}, ports: [own]"));
    let manifests = [
        interface(
            "own",
            &format!("type: dummy, {by_name}, addresses: [10.81.0.1/24]"),
        ),
        // One route for each name.
        route("r-own", &format!("{by_name}, to: 10.90.0.0/16, via: 10.81.0.2")),
        route("r-path", &format!("{inside}, to: 10.90.0.0/16, via: 10.80.0.1")),
        pair(&by_path),
        interface(
            "inner",
            &format!("type: dummy, {inside}, addresses: [10.82.0.1/24]"),
        ),
        route("r", &format!("{inside}, to: 10.91.0.0/16, via: 10.80.0.1")),
        manifest(
            "NetlinkRule",
            "rule",
            &format!("{inside}, priority: 100, table: 100"),
        ),
    ];
    // Ports have no relevant addresses; this test is about deletions.
    let manifests = manifests.concat() + &bridged;
    let mut agent = Agent::started(host, &manifests);
    is_settled(&agent);
    let look = || {
        let words = [
            "-o link show",
            "-4 -o address show",
            "-4 route show table all",
            "rule show",
        ];
        words.map(|words| there.ip(words)).concat() + &index(&host.netns, "host0")
    };
    let before = look();
    let fifo = || nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let own = || symlink(host.netns.path(), &path).unwrap();
    let odd: [&dyn Fn(); 2] = [&fifo, &own];
    for (leads, restarted) in odd.into_iter().flat_map(|leads| [(leads, false), (leads, true)]) {
        fs::remove_file(&path).unwrap();
        leads();
        if restarted {
            agent.stop();
            agent.start();
        }
        for _ in 0..2 {
            let status = agent.next_reconciliation();
            assert!(!status.problems.is_empty(), "restarted: {restarted}: {status:#?}");
            assert_eq!(
                status.reconciliation.changed, 0,
                "restarted: {restarted}: {status:#?}"
            );
            assert_eq!(look(), before, "restarted: {restarted}");
        }
        assert!(there.reaches("10.80.0.1"));
        // Objects declared by the resolved name are repaired.
        there.ip("address delete 10.81.0.1/24 dev own");
        agent.next_reconciliation();
        assert!(there.ip("address show own").contains("10.81.0.1/24"));
        fs::remove_file(&path).unwrap();
        lead();
        agent.next_reconciliation();
        agent.reconciled("as before", |status| {
            status.problems.is_empty() && status.reconciliation.changed == 0
        });
    }
    // Undeclared objects are deleted as soon as all names are resolved.
    agent.apply(&interface("own", &format!("type: dummy, {by_name}")));
    assert!(!there.ip("-br link show").contains("inner"));
}

#[test]
fn reading_commands_assign_no_namespace_ids_and_writing_ones_are_refused_beside_an_agent() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let there = Named::new();
    let manifests = pair(&format!("name: {}", there.0)) + &route("r", "to: 10.91.0.0/16, dev: host0");
    let mut agent = Agent::new(&topology.hosts[0], &manifests);
    let places = [agent.run_directory(), agent.state_directory()];
    let places = [places[0].as_path(), places[1].as_path()];
    let look = || netns.ip("netns list-id") + &snapshot::everything(netns, &places);
    let before = look();
    let path = agent.manifests();
    let with = ["--node", "a", "-f", path.to_str().unwrap()];
    for words in [
        &["plan"][..],
        &["doctor"],
        &["route", "list"],
        &["route", "validate"],
    ] {
        let printed = agent.run(&[words, &with].concat());
        assert!(![1, 2, 6].contains(&printed.code), "{words:?}: {printed:?}");
        assert_eq!(look(), before, "{words:?}");
    }
    agent.start();
    agent.ready();
    is_settled(&agent);
    let before = look();
    let early = [&["early"][..], &with].concat();
    let repair = [&["route", "repair"][..], &with].concat();
    // All commands that write and take the lock; those that ask the agent (`route withdraw`) are tested elsewhere.
    for words in [&["route", "flush"][..], &["uninstall"], &repair, &early] {
        let printed = agent.run(words);
        assert_eq!(printed.code, 8, "{words:?}: {printed:?}");
    }
    assert_eq!(look(), before);
    agent.stop();
    assert_eq!(agent.run(&repair).code, 0);
    assert_eq!(agent.run(&["route", "flush"]).code, 0);
}

#[test]
fn a_flush_finds_the_namespaces_of_processes_that_manifests_named() {
    require!(modules: "dummy");
    let topology = Topology::<1>::new();
    let there = NetNs::new();
    let mut process = there.spawn(Command::new("sleep").arg("600")).unwrap();
    let inside = format!("namespace: {{ pid: {} }}", process.id());
    let inner = interface(
        "inner",
        &format!("type: dummy, {inside}, addresses: [10.80.0.1/24]"),
    );
    let routed = route("r", &format!("{inside}, to: 10.90.0.0/16, via: 10.80.0.2"));
    let mut agent = Agent::started(&topology.hosts[0], &(inner + &routed));
    is_settled(&agent);
    agent.stop();
    assert!(there.ip("route show").contains("10.90.0.0/16"));
    let flushed = agent.run(&["route", "flush"]);
    assert_eq!(flushed.code, 0, "{flushed:?}");
    assert!(!there.ip("route show").contains("10.90.0.0/16"));
    process.kill().unwrap();
    process.wait().unwrap();
}

#[test]
fn a_full_namespace_that_changes_all_the_time_does_not_stop_the_agent_elsewhere() {
    require!(modules: "veth", "bridge");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let there = Named::new();
    let manifests =
        pair(&format!("name: {}", there.0)) + &interface("own", "type: bridge, addresses: [10.83.0.1/24]");
    let agent = Agent::started(host, &manifests);
    is_settled(&agent);
    let before = index(&host.netns, "host0");
    let is_mended = |number: u32| {
        for _ in 0..number {
            host.netns.ip("link delete own");
            let comes = || host.netns.ip("-br link show group 173").contains("own ");
            assert!(eventually(comes), "{:#?}", agent.status());
        }
    };
    // Next-hop objects are created and deleted: a table that changes while it is read is read again.
    let lines = |verb: &str, rest: &str| -> String {
        (1..=60_000)
            .map(|id| format!("nexthop {verb} id {id}{rest}\n"))
            .collect()
    };
    let (adds, deletes) = (lines("add", " dev lo"), lines("delete", ""));
    there.ip_batch(&adds);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                there.ip_batch(&deletes);
                there.ip_batch(&adds);
            }
        });
        let mended = panic::catch_unwind(panic::AssertUnwindSafe(|| is_mended(2)));
        stop.store(true, Ordering::Relaxed);
        mended.unwrap_or_else(|panic| panic::resume_unwind(panic));
    });
    there.ip("nexthop flush");

    // More objects than are read at once, all with the mark of Adit.
    let number = |n: u32| format!("10.{}.{}.{}", 100 + n / 65_536, n / 256 % 256, n % 256);
    let routes = |verb: &str| -> String {
        (0..33_000)
            .map(|n| format!("route {verb} {} dev lo proto 173\n", number(n)))
            .collect()
    };
    // They are added at once; otherwise they would be deleted one by one.
    agent.signal(Signal::SIGSTOP);
    there.ip_batch(&routes("add"));
    agent.signal(Signal::SIGCONT);
    let subject = format!("netns {}", there.0);
    let is_told = |status: &Status| waits(status) == [subject.as_str()];
    agent.wait("reported", is_told);
    is_mended(1);
    let status = agent.wait("reporting still", is_told);
    assert!(status.ready, "{status:#?}");
    assert_eq!(index(&host.netns, "host0"), before, "what can't be read stays");
    assert!(there.reaches("10.80.0.1"));
    there.ip("route flush proto 173");
    agent.wait("read again", |status| {
        status.problems.is_empty() && status.reconciliation.residual == 0
    });
    assert_eq!(index(&host.netns, "host0"), before);
}

/// A process in its own namespace.
pub(crate) struct Sleeper(pub(crate) Child);

impl Sleeper {
    pub(crate) fn new() -> Sleeper {
        let command = ["--net", "sleep", "1000"];
        let child = Command::new("unshare").args(command).stdin(Stdio::null()).spawn();
        let sleeper = Sleeper(child.unwrap());
        let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net")).unwrap();
        let pid = sleeper.0.id().to_string();
        assert!(eventually(|| namespace(&pid) != namespace("thread-self")));
        sleeper
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn a_namespace_by_process_and_not_the_own_one_by_another_name() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let host = &topology.hosts[0];
    let sleeper = Sleeper::new();
    let pid = sleeper.0.id();
    let own = File::open(host.netns.path()).unwrap();
    let own = format!("/proc/{}/fd/{}", std::process::id(), own.as_raw_fd());
    let manifests = pair(&format!("pid: {pid}"))
        + &interface("here", &format!("type: dummy, namespace: {{ path: {own} }}"));
    let mut agent = Agent::new(host, &manifests);
    agent.start();
    // The own namespace of the agent is meant by omitting the field.
    let status = agent.wait("refusing the own one", |status| status.reconciliation.number > 0);
    assert!(errs(&status, "NetlinkInterface/here"), "{status:#?}");
    assert!(!host.netns.ip("-br link show").contains("here"));
    agent.write(&pair(&format!("pid: {pid}")));
    agent.ready();
    is_settled(&agent);
    assert!(reaches(&host.netns, "10.80.0.2"));
    drop(sleeper);
    agent.wait("waiting", |status| waits(status) == ["NetlinkInterface/host0"]);
    assert!(
        !host.netns.ip("-br link show").contains("host0"),
        "nothing keeps the namespace alive"
    );
}

#[test]
fn changes_in_another_namespace_are_repaired_at_once_and_unmanaged_ones_ignored() {
    require!(modules: "veth");
    let topology = Topology::<1>::new();
    let there = Named::new();
    let rule = manifest(
        "NetlinkRule",
        "rule",
        &format!("namespace: {{ name: {} }}, priority: 100, table: 100", there.0),
    );
    let manifests = pair(&format!("name: {}", there.0)) + &rule;
    let agent = Agent::started(&topology.hosts[0], &manifests);
    let deeds = [
        ("link set eth0 down", "link eth0", "was down"),
        ("link delete eth0", "link host0", "was gone"),
        (
            "address delete 10.80.0.2/24 dev eth0",
            "address 10.80.0.2/24 dev eth0",
            "was gone",
        ),
        (
            "rule delete priority 100",
            "rule priority 100 table 100",
            "was gone",
        ),
    ];
    for (deed, number) in deeds.into_iter().zip(1..) {
        there.ip(deed.0);
        agent.wait(&format!("mended after {}", deed.0), |status| {
            status.repairs.total == number && status.reconciliation.residual == 0
        });
        let repairs = agent.status().unwrap().repairs;
        let last = repairs.recent.last().unwrap();
        assert!(last.object.ends_with(deed.1), "{last:?}");
        assert!(last.found.contains(deed.2), "{last:?}");
    }
    assert!(there.reaches("10.80.0.1"));

    let before = agent.status().unwrap().reconciliation.number;
    for number in 0..200 {
        there.ip(&format!("route add 10.99.{number}.0/24 dev lo"));
    }
    there.ip("link add theirs type dummy");
    there.ip("link set theirs up");
    there.ip("address add 10.98.0.1/24 dev theirs");
    // The event of a managed object comes after all of these, and only it wakes the agent; a device that comes up sends another.
    there.ip("link set eth0 down");
    let repaired = agent.wait("repaired behind them", |status| {
        status.repairs.total > 4 && status.reconciliation.residual == 0
    });
    let passes = repaired.reconciliation.number - before;
    assert!(
        passes <= 2,
        "{passes} reconciliations for one managed change beside 200 others"
    );
}
