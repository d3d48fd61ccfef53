//! Unmanaged objects are never changed, even if they conflict with desired ones: that is a conflict, and the rest continues.

use adit_tests::agent::start_all;
use adit_tests::{Agent, NetNs, Overlay, Topology, require, require_module, snapshot, traffic};
use dataplane_user::kernel::bpf::Mechanism;
use dataplane_user::net::Family;
use dataplane_user::status::Status;

/// Three hosts; `a` has a link to `b` by GENEVE and one to `c` by VXLAN. An unmanaged object exists on `a` before any agent
/// starts.
struct World {
    topology: Topology<3>,
    manifests: String,
}

impl World {
    fn with(foreign: impl Fn(&NetNs)) -> Option<World> {
        if !require_module("dummy") || !require_module("geneve") {
            return None;
        }
        let topology = Topology::<3>::new();
        let overlay = Overlay {
            requested: vec![("b", "geneve"), ("c", "vxlan")],
            ..Overlay::new(&topology, "auto")
        };
        foreign(&topology.hosts[0].netns);
        Some(World {
            manifests: overlay.manifests(&topology),
            topology,
        })
    }

    fn a(&self) -> &NetNs {
        &self.topology.hosts[0].netns
    }

    /// Starts all agents, `a` first, and asserts that `a` has this conflict.
    fn start(&self, conflict: &str) -> Vec<Agent<'_>> {
        let hosts = self.topology.hosts.iter();
        let mut agents = hosts
            .map(|host| Agent::new(host, &self.manifests))
            .collect::<Vec<_>>();
        agents.iter_mut().for_each(Agent::start);
        agents[1..].iter().for_each(Agent::ready);
        let status = agents[0].wait("in conflict", |status| conflicts(status) == [conflict]);
        assert!(!status.ready);
        assert_eq!(status.reconciliation.failed, 0, "{status:#?}");
        agents
    }

    /// Traffic in both families between `a` and another host, from pod to pod.
    fn flows_to(&self, host: usize) {
        for family in Family::BOTH {
            let [from, to] = [0, host].map(|host| self.topology.hosts[host].pod_end());
            traffic::udp(from, to, family, 100).unwrap();
        }
    }

    /// Asserts that reloads, reconciliations and uninstalling do not change the result of `look`.
    fn untouched(&self, agents: &mut [Agent<'_>], look: impl Fn(&NetNs) -> String) {
        let before = look(self.a());
        agents[0].write(&format!("{}\n", self.manifests));
        agents[0].next_reconciliation();
        assert_eq!(look(self.a()), before, "after reconciliations");
        agents[0].stop();
        let uninstalled = agents[0].run(&["uninstall"]);
        assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
        assert_eq!(look(self.a()), before, "after uninstalling");
        // The next start restores everything.
        agents[0].start();
        agents[0].wait("in conflict again", |status| {
            status.reconciliation.number > 0 && !conflicts(status).is_empty()
        });
        assert_eq!(look(self.a()), before, "after another start");
    }
}

fn conflicts(status: &Status) -> Vec<&str> {
    let conflicts = status
        .problems
        .iter()
        .filter(|problem| problem.reason == "Conflict");
    conflicts.map(|problem| problem.subject.as_str()).collect()
}

#[test]
fn an_unmanaged_device_with_the_name_of_a_tunnel_stays() {
    let Some(world) = World::with(|a| {
        a.ip("link add adit-geneve type bridge");
        a.ip("address add 10.200.0.1/24 dev adit-geneve");
    }) else {
        return;
    };
    let look = |a: &NetNs| a.ip("-d -j link show adit-geneve") + &a.ip("-j address show dev adit-geneve");
    let before = look(world.a());
    let mut agents = world.start("link adit-geneve");
    assert_eq!(look(world.a()), before);
    // The VXLAN peer is not affected.
    world.flows_to(2);
    world.untouched(&mut agents, look);
    world.flows_to(2);
    world.a().ip("link delete adit-geneve");
    agents[0].ready();
    world.flows_to(1);
    world.flows_to(2);
}

/// A device can't have a name that another one has as an alternative name.
#[test]
fn an_alternative_name_of_an_unmanaged_device_stays_and_is_told_beforehand() {
    let Some(world) = World::with(|a| {
        a.ip("link add other type dummy");
        a.ip("link property add dev other altname adit-geneve");
    }) else {
        return;
    };
    let host = &world.topology.hosts[0];
    let places = Agent::new(host, &world.manifests);
    let planned = places.plan(&[]);
    assert!(
        planned.stdout.contains("alternative name of the device other"),
        "{planned:?}"
    );
    assert!(!planned.stdout.contains("add link adit-geneve"), "{planned:?}");
    let manifests = places.manifests();
    for words in [
        &["doctor"][..],
        &["doctor", "--node", "a", "-f", manifests.to_str().unwrap()],
    ] {
        let found = places.run(words);
        assert_eq!(found.code, 5, "{found:?}");
        assert!(found.stdout.contains("altname adit-geneve"), "{found:?}");
    }
    let look = |a: &NetNs| a.ip("-d -j link show other");
    let mut agents = world.start("link adit-geneve");
    world.flows_to(2);
    world.untouched(&mut agents, look);
    world.a().ip("link property del dev other altname adit-geneve");
    agents[0].next_reconciliation();
    agents[0].ready();
    world.flows_to(1);
}

/// A namespace has one flow-based ipip device, whatever its name.
#[test]
fn an_unmanaged_flow_based_ipip_device_stays() {
    require!(modules: "dummy", "geneve", "ipip");
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        requested: vec![("b", "ipip"), ("c", "vxlan")],
        ..Overlay::new(&topology, "auto")
    };
    let world = World {
        manifests: overlay.manifests(&topology),
        topology,
    };
    world.a().ip("link add theirs type ipip external");
    world.a().ip("link set theirs mtu 1400 up");
    let look = |a: &NetNs| {
        let fallback = a.ip("-d -j link show tunl0");
        a.ip("-d -j link show theirs") + &a.ip("-j address show dev theirs") + &fallback
    };
    let before = look(world.a());
    let mut agents = world.start("link adit-ipip");
    assert_eq!(look(world.a()), before);
    let status = agents[0].wait("in conflict", |status| !conflicts(status).is_empty());
    let conflict = status
        .problems
        .iter()
        .find(|problem| problem.reason == "Conflict");
    assert!(
        conflict.unwrap().remedy.contains("delete theirs"),
        "{:#?}",
        status.problems
    );
    world.flows_to(2);
    world.untouched(&mut agents, look);
    world.a().ip("link delete theirs");
    agents[0].ready();
    let [from, to] = [0, 1].map(|host| world.topology.hosts[host].pod_end());
    traffic::udp(from, to, Family::Ipv4, 100).unwrap();
}

#[test]
fn an_unmanaged_device_with_the_name_of_the_anchor_stays() {
    let Some(world) = World::with(|a| {
        a.ip("link add adit0 type dummy");
        a.ip("link set adit0 mtu 1400 up");
    }) else {
        return;
    };
    let look = |a: &NetNs| a.ip("-d -j link show adit0") + &a.ip("-j address show dev adit0");
    let before = look(world.a());
    let mut agents = world.start("link adit0");
    assert_eq!(look(world.a()), before);
    world.untouched(&mut agents, look);
    world.a().ip("link delete adit0");
    agents[0].ready();
    world.flows_to(1);
    world.flows_to(2);
}

#[test]
fn unmanaged_routes_with_managed_prefixes_and_metrics_stay() {
    let Some(world) = World::with(|a| {
        a.ip("route add 10.0.0.0/8 via 192.0.2.17 metric 173");
        a.ip("route add unreachable fd00::/16 metric 1000000");
    }) else {
        return;
    };
    let look = |a: &NetNs| {
        a.ip("-d -j route show 10.0.0.0/8 metric 173") + &a.ip("-6 -d -j route show fd00::/16 metric 1000000")
    };
    let before = look(world.a());
    assert!(
        before.contains("192.0.2.17") && before.contains("unreachable"),
        "{before}"
    );
    let topology = &world.topology;
    let hosts = topology.hosts.iter();
    let mut agents = hosts
        .map(|host| Agent::new(host, &world.manifests))
        .collect::<Vec<_>>();
    agents.iter_mut().for_each(Agent::start);
    agents[1..].iter().for_each(Agent::ready);
    let both = ["route 10.0.0.0/8 metric 173", "route fd00::/16 metric 1000000"];
    let status = agents[0].wait("in conflict", |status| conflicts(status) == both);
    assert!(!status.ready);
    assert_eq!(look(world.a()), before);
    // IPv6 has its anchor.
    let [from, to] = [0, 1].map(|host| topology.hosts[host].pod_end());
    traffic::udp(from, to, Family::Ipv6, 100).unwrap();
    world.untouched(&mut agents, look);
    world.a().ip("route delete 10.0.0.0/8 metric 173");
    world
        .a()
        .ip("-6 route delete unreachable fd00::/16 metric 1000000");
    agents[0].ready();
    world.flows_to(1);
    world.flows_to(2);
}

#[test]
fn an_address_a_filter_and_a_table_of_others_stay() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let mut agents = start_all(&topology, &Overlay::new(&topology, "geneve").manifests(&topology));
    let a = &topology.hosts[0].netns;
    a.ip("address add 10.1.99.1/32 dev adit0");
    a.ip("address add fd00:1:99::1/128 dev adit0 nodad");
    a.ip("route add 10.1.99.0/24 dev adit0");
    snapshot::run(a, "nft", "add table inet mine");
    snapshot::run(a, "nft", "add chain inet mine adit");
    snapshot::run(a, "nft", "add rule inet mine adit counter accept");
    if Mechanism::Tcx == a.enter(|| Mechanism::probe().unwrap()) {
        // The qdisc that the program needs may exist already.
        snapshot::run(a, "tc", "qdisc add dev adit0 clsact");
    }
    snapshot::run(
        a,
        "tc",
        "filter add dev adit0 ingress pref 9 protocol ip u32 match ip dst 203.0.113.1/32 action pass",
    );
    let look = || {
        let ours = |line: &&str| line.contains("99") || line.contains("pref 9");
        let addresses = a.ip("-o address show dev adit0");
        let routes = a.ip("route show");
        let kept = addresses.lines().chain(routes.lines()).filter(ours);
        let kept = kept.collect::<Vec<_>>().join("\n");
        let filter = snapshot::run(a, "tc", "filter show dev adit0 ingress pref 9");
        [kept, filter, mine(a)].join("\n")
    };
    let before = look();
    assert!(
        before.contains("10.1.99.1/32") && before.contains("cb007101"),
        "{before}"
    );
    assert!(before.contains("counter"), "{before}");

    let passed = agents[0].next_reconciliation();
    assert!(passed.ready, "{passed:#?}");
    assert_eq!(look(), before);
    agents[0].stop();
    agents[0].start();
    agents[0].ready();
    assert_eq!(look(), before);
    let [from, to] = [&topology.hosts[0], &topology.hosts[1]].map(|host| host.pod_end());
    traffic::udp(from, to, Family::Ipv4, 100).unwrap();

    // The device is managed and is deleted with everything on it; the table is not.
    let table = mine(a);
    agents[0].stop();
    let uninstalled = agents[0].run(&["uninstall"]);
    assert_eq!(uninstalled.code, 0, "{uninstalled:?}");
    assert_eq!(snapshot::ruleset(a), table, "nothing managed is left");
}

fn mine(netns: &NetNs) -> String {
    snapshot::run(netns, "nft", "list table inet mine")
}

/// A table with the name of the managed one, without the mark.
#[test]
fn an_unmanaged_nft_table_with_the_managed_name_stays() {
    let Some(world) = World::with(|a| {
        snapshot::run(a, "nft", "add table inet adit { comment \"mine\" ; }");
        snapshot::run(a, "nft", "add chain inet adit forward");
    }) else {
        return;
    };
    let before = snapshot::ruleset(world.a());
    let mut agents = world.start("nft table inet adit");
    assert_eq!(snapshot::ruleset(world.a()), before);
    world.flows_to(1);
    world.flows_to(2);
    world.untouched(&mut agents, snapshot::ruleset);
    snapshot::run(world.a(), "nft", "delete table inet adit");
    agents[0].ready();
    assert!(snapshot::ruleset(world.a()).contains("comment \"adit\""));
}

/// A desired address that somebody else added to a managed device first, without the mark.
#[test]
fn a_desired_address_without_the_mark_stays() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let mut agents = start_all(&topology, &Overlay::new(&topology, "geneve").manifests(&topology));
    let a = &topology.hosts[0].netns;
    agents[0].stop();
    a.ip("address delete 10.1.0.1/32 dev adit0");
    a.ip("address add 10.1.0.1/32 dev adit0");
    let look = || a.ip("-j address show dev adit0 to 10.1.0.1");
    let before = look();
    agents[0].start();
    let status = agents[0].wait("in conflict", |status| {
        conflicts(status) == ["address 10.1.0.1/32 dev adit0"]
    });
    assert!(!status.ready);
    assert_eq!(look(), before);
    let [from, to] = [0, 1].map(|host| topology.hosts[host].pod_end());
    for family in Family::BOTH {
        traffic::udp(from, to, family, 100).unwrap();
    }
    a.ip("address delete 10.1.0.1/32 dev adit0");
    agents[0].ready();
    // An address without the mark would still be a conflict.
    assert!(a.ip("address show dev adit0").contains("10.1.0.1/32"));
}
