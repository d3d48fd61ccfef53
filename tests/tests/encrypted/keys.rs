//! Keys that differ from the manifests, are unreadable or missing; and no output contains a key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use adit_tests::agent::start_all;
use adit_tests::traffic::{Lost, Probes};
use adit_tests::{Agent, Overlay, Topology, traffic, unreadable};
use dataplane_user::kernel::wireguard::generate;
use dataplane_user::net::{Family, PresharedKey};
use dataplane_user::status::Status;
use tempfile::TempDir;

use super::{has_problem, key, links, possible, wg};

/// A file with a preshared key.
struct Shared {
    _directory: TempDir,
    file: PathBuf,
    key: PresharedKey,
}

/// Two nodes with a WireGuard link and a preshared key.
fn with_preshared_key(topology: &Topology<2>) -> (Overlay, Shared) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("preshared");
    let key = generate::preshared_key().unwrap();
    fs::write(&file, key.to_base64().as_bytes()).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut overlay = Overlay::new(topology, "wireguard");
    overlay.keys[1].1 = format!("presharedKeyFile: {}", file.display());
    let shared = Shared {
        _directory: directory,
        file,
        key,
    };
    (overlay, shared)
}

#[test]
fn a_wrong_own_key_disables_only_wireguard() {
    if !possible() {
        return;
    }
    let topology = Topology::<3>::new();
    let overlay = Overlay {
        requested: vec![("c", "wireguard")],
        ..Overlay::new(&topology, "geneve")
    };
    let mut agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b, c] = &topology.hosts;
    traffic::ping(a.end(), c.end(), Family::Ipv4).unwrap();
    let own = a.private_key();
    agents[0].set_key(&generate::private_key().unwrap());
    let status = agents[0].next_reconciliation();
    assert!(
        has_problem(&status, "error", "KeyMismatch") && !status.ready,
        "{status:#?}"
    );
    assert_eq!(links(&status), [("b", "geneve")].into());
    let refused: Vec<_> = status
        .refused
        .iter()
        .map(|refused| (refused.to.as_str(), refused.family.as_str()))
        .collect();
    assert_eq!(refused, [("c", "ipv4"), ("c", "ipv6")]);
    assert_eq!(wg(a, "show interfaces"), "");
    traffic::ping(a.end(), b.end(), Family::Ipv6).unwrap();
    assert_eq!(agents[0].plan(&[]).code, 5, "nothing can be done");

    agents[0].set_key(&own);
    assert!(agents[0].next_reconciliation().ready);
    traffic::ping(a.end(), c.end(), Family::Ipv6).unwrap();

    // A file that others can read is not used: a device keeps its key, and no device gets one.
    let file = agents[0].state_directory().join("wireguard.key");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let status = agents[0].next_reconciliation();
    assert!(has_problem(&status, "warning", "KeyUnreadable"), "{status:#?}");
    let text = format!("{:?}", status.problems);
    assert!(status.ready && text.contains("chmod 600"), "{text}");
    agents[0].stop();
    agents[0].start();
    let status = agents[0].wait("reported", |status| has_problem(status, "error", "KeyUnreadable"));
    assert!(
        format!("{:?}", status.problems).contains("chmod 600"),
        "{status:#?}"
    );
    traffic::ping(a.end(), c.end(), Family::Ipv6).unwrap();
    a.netns.ip("link delete adit-wg0");
    agents[0].wait("without a key", |status| {
        has_problem(status, "error", "ApplyFailed")
    });
    assert_eq!(wg(a, "show adit-wg0 private-key"), "(none)");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    agents[0].ready();
    traffic::ping(a.end(), c.end(), Family::Ipv6).unwrap();
    agents[0].stop();
}

#[test]
fn keys_that_cannot_be_read_for_a_while_cost_no_packet() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let (overlay, shared) = with_preshared_key(&topology);
    let agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b] = &topology.hosts;
    let probes = Family::BOTH.map(|family| Probes::start(a.pod_end(), b.pod_end(), family).unwrap());
    let own = agents[0].state_directory().join("wireguard.key");
    for (path, subject) in [
        (&own, "TunnelNode/a".to_owned()),
        (&shared.file, format!("preshared key {}", shared.file.display())),
    ] {
        unreadable::each_way(path, |way| {
            let status = agents[0].reconciled(&format!("told that {path:?} {way}"), |status| {
                let mut problems = status.problems.iter();
                problems.any(|problem| problem.reason == "KeyUnreadable" && problem.subject == subject)
            });
            assert!(status.ready && status.repairs.total == 0, "{status:#?}");
            let next = agents[0].next_reconciliation();
            assert_eq!(next.reconciliation.changed, 0, "{path:?} {way}: {next:#?}");
        });
        agents[0].reconciled("read again", |status| status.problems.is_empty());
    }
    for probes in probes {
        let Lost { sent, lost } = probes.finish().unwrap();
        assert!(sent > 20, "{sent} probes show nothing");
        assert_eq!(lost, 0, "of {sent}");
    }
}

#[test]
fn an_unreadable_preshared_key_at_the_start_removes_no_link() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let (overlay, shared) = with_preshared_key(&topology);
    let mut agents = start_all(&topology, &overlay.manifests(&topology));
    let [a, b] = &topology.hosts;
    let probes = Family::BOTH.map(|family| Probes::start(a.pod_end(), b.pod_end(), family).unwrap());
    unreadable::each_way(&shared.file, |way| {
        if way == unreadable::GONE {
            return;
        }
        for agent in &mut agents {
            agent.stop();
            agent.start();
            let told = |status: &Status| has_problem(status, "error", "KeyUnreadable");
            agent.wait("reported", told);
            // The first agent has replaced the programs by its own.
            let next = agent.next_reconciliation();
            assert!(
                told(&next) && next.reconciliation.changed == 0,
                "{way}: {next:#?}"
            );
        }
    });
    for agent in &agents {
        agent.reconciled("read again", |status| status.problems.is_empty());
    }
    for probes in probes {
        let Lost { sent, lost } = probes.finish().unwrap();
        assert!(sent > 20, "{sent} probes show nothing");
        assert_eq!(lost, 0, "of {sent}");
    }
}

#[test]
fn only_a_peer_without_key_is_refused() {
    if !possible() {
        return;
    }
    let topology = Topology::<3>::new();
    let mut overlay = Overlay::new(&topology, "wireguard");
    overlay.keys.retain(|(name, _)| *name != "c");
    let manifests = overlay.manifests(&topology);
    let mut agents: Vec<_> = topology.hosts[..2]
        .iter()
        .map(|host| Agent::new(host, &manifests))
        .collect();
    agents.iter_mut().for_each(Agent::start);
    agents.iter().for_each(Agent::ready);
    let status = agents[0].status().unwrap();
    assert_eq!(links(&status), [("b", "wireguard")].into());
    assert!(has_problem(&status, "warning", "Incomplete"), "{status:?}");
    assert_eq!(status.refused.len(), 2);
    traffic::ping(topology.hosts[0].end(), topology.hosts[1].pod_end(), Family::Ipv4).unwrap();
}

#[test]
fn the_agent_prints_no_secret() {
    if !possible() {
        return;
    }
    let topology = Topology::<2>::new();
    let (overlay, shared) = with_preshared_key(&topology);
    let manifests = overlay.manifests(&topology);
    let hosts = topology.hosts.iter();
    let mut agents: Vec<_> = hosts
        .map(|host| Agent::new(host, &manifests).with_log("trace"))
        .collect();
    agents.iter_mut().for_each(Agent::start);
    agents.iter().for_each(Agent::ready);
    let [a, b] = &topology.hosts;
    traffic::ping(a.end(), b.end(), Family::Ipv4).unwrap();
    let shown = wg(a, "show adit-wg0 preshared-keys");
    assert_eq!(shown, format!("{}\t{}", key(b), shared.key.to_base64().as_str()));

    // Cause messages about each: damage, its repair, a refusal.
    wg(
        a,
        &format!("set adit-wg0 private-key /dev/null peer {} remove", key(b)),
    );
    let mut said = format!("{:?}", agents[0].next_reconciliation());
    fs::write(&shared.file, "no key").unwrap();
    let status = agents[0].next_reconciliation();
    assert!(has_problem(&status, "warning", "KeyUnreadable"), "{status:#?}");
    said += &format!("{status:?}");
    for words in [
        ["status", "-o", "json"],
        ["status", "-o", "wide"],
        ["map", "dump", "-ojson"],
    ] {
        let printed = agents[0].run(&words);
        said += &printed.stdout;
        said += &printed.stderr;
    }
    said += &agents[0].plan(&[]).stdout;
    said += &agents[0].log();
    assert!(said.contains(&key(b)) && said.contains("TRACE"), "{said}");
    for secret in [a.private_key(), b.private_key()] {
        assert_hidden(secret.as_bytes(), &secret.to_base64(), &said);
    }
    assert_hidden(shared.key.as_bytes(), &shared.key.to_base64(), &said);
}

/// Asserts that a text contains no usual form of a secret.
fn assert_hidden(secret: &[u8; 32], base64: &str, text: &str) {
    let decimal: Vec<_> = secret[..6].iter().map(ToString::to_string).collect();
    let hex: Vec<_> = secret[..6].iter().map(|byte| format!("{byte:02x}")).collect();
    for form in [&base64[..42], &decimal.join(", "), &hex.concat(), &hex.join(" ")] {
        assert!(!text.contains(form), "{form} is in {text}");
    }
}
