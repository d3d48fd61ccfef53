//! Overlay traffic never leaves in clear, whatever breaks, and the next start of the agent repairs it.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::agent::{PATIENCE, is_settled, start_all};
use adit_tests::capture::{Capture, Packet};
use adit_tests::traffic::{refusal, udp};
use adit_tests::{Agent, NetNs, Overlay, Topology, require};
use dataplane_user::net::Family;
use nix::errno::Errno;

#[test]
fn overlay_traffic_is_refused_after_the_anchor_is_deleted() {
    broken(|host, _| drop(host.ip("link delete adit0")), true);
}

#[test]
fn overlay_traffic_is_refused_while_the_anchor_is_down() {
    broken(|host, _| drop(host.ip("link set adit0 down")), true);
}

#[test]
fn overlay_traffic_is_refused_after_the_program_is_detached() {
    // The anchor drops packets that no program handles.
    broken(
        |host, agent| {
            // With TCX the pinned link keeps it attached, with clsact the qdisc.
            unpin_links(&agent.pins());
            let qdisc = || {
                let mut tc = std::process::Command::new("tc");
                tc.args(["qdisc", "delete", "dev", "adit0", "clsact"]).output()
            };
            host.enter(qdisc).unwrap();
        },
        false,
    );
}

/// An administrator who disables IPv6 gets no errors for it, and IPv4 goes on; what refuses IPv6 of the overlay stays.
#[test]
fn disabled_ipv6_is_skipped_and_restored_when_enabled() {
    require!(modules: "dummy", "geneve", "ipip");
    // Over IPv4, IPIP transports only IPv4.
    let both = &Family::BOTH[..];
    for (encapsulation, dataplane, families) in [
        ("geneve", "dataplane: ebpf", both),
        ("ipip", "dataplane: routes", &[Family::Ipv4]),
    ] {
        let topology = Topology::<2>::new();
        let overlay = Overlay {
            network: vec![dataplane],
            ..Overlay::new(&topology, encapsulation)
        };
        let mut agents = start_all(&topology, &overlay.manifests(&topology));
        let [a, b] = &topology.hosts[..] else {
            unreachable!("there are two");
        };
        let settle = |agent: &Agent<'_>, skipped: bool| {
            agent.wait("settled", |status| {
                let missing = status.problems.iter().any(|one| one.reason == "NoFamily");
                status.ready && missing == skipped
            });
            is_settled(agent);
        };
        let sides = (a.pod_end(), b.pod_end());
        // While it runs, and at its start.
        a.netns.sysctl("net/ipv6/conf/all/disable_ipv6", "1");
        settle(&agents[0], true);
        udp(sides.0, sides.1, Family::Ipv4, 100).unwrap();
        agents[0].stop();
        assert_eq!(agents[0].run(&["uninstall"]).code, 0);
        agents[0].start();
        settle(&agents[0], true);
        udp(sides.0, sides.1, Family::Ipv4, 100).unwrap();
        let refused = a.netns.ip("-6 route show table all type unreachable proto 173");
        assert!(refused.contains("fd00::/16"), "{refused}");

        a.netns.sysctl("net/ipv6/conf/all/disable_ipv6", "0");
        a.netns.ip_batch(&format!(
            "address add {}/64 dev u0 nodad
            address add fd00:1:1::1/64 dev p0 nodad",
            a.underlay(Family::Ipv6)
        ));
        settle(&agents[0], false);
        for family in families {
            udp(sides.0, sides.1, *family, 100).unwrap();
        }
    }
}

/// Stops `a`'s agent, breaks something, and looks whether anything of the overlay leaves in clear; then starts it again.
fn broken(damage: impl Fn(&NetNs, &Agent<'_>), refused: bool) {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let mut agents = start_all(&topology, &Overlay::new(&topology, "geneve").manifests(&topology));
    let [a, b] = &topology.hosts;
    agents[0].stop();
    damage(&a.netns, &agents[0]);

    let capture = Capture::new(&topology.router);
    let outside = [b.underlay(Family::Ipv4), b.underlay(Family::Ipv6)];
    for family in Family::BOTH {
        let to = b.pod_end().address(family);
        for from in [&a.netns, &a.pod] {
            let answer = refusal(from, to).unwrap();
            // ICMPv6 reports an unreachable route like a missing one.
            let unreachable = matches!(answer, Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH));
            // A closed port would answer, too, which would mean that traffic passed.
            let as_wanted = if refused { unreachable } else { answer.is_none() };
            assert!(as_wanted, "{to}: {answer:?}");
        }
        // Other packets reach the router, so the default route works.
        let outside = outside.into_iter().find(|address| Family::of(*address) == family);
        let socket = a
            .netns
            .enter(|| std::net::UdpSocket::bind((a.underlay(family), 0)));
        socket.unwrap().send_to(b"adit", (outside.unwrap(), 9)).unwrap();
    }
    // The first packet to a neighbour waits until it is resolved.
    let mut packets = capture.packets();
    let deadline = Instant::now() + PATIENCE;
    let missing = |packets: &[Packet]| {
        let mut outside = outside.into_iter();
        outside.any(|address| packets.iter().all(|packet| packet.destination != address))
    };
    while missing(&packets) && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
        packets.extend(capture.packets());
    }
    let clear = packets
        .iter()
        .filter(|packet| packet.is_in_clear())
        .collect::<Vec<_>>();
    assert!(clear.is_empty(), "{clear:?}");
    assert!(!missing(&packets), "{packets:?}");

    agents[0].start();
    agents[0].ready();
    for family in Family::BOTH {
        udp(a.pod_end(), b.pod_end(), family, 100).unwrap();
        udp(b.end(), a.end(), family, 100).unwrap();
    }
}

/// Removes all pins whose names speak of links.
fn unpin_links(directory: &Path) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            unpin_links(&path);
        } else if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().contains("link"))
            || directory.ends_with("links")
        {
            fs::remove_file(path).unwrap();
        }
    }
}

/// Decapsulated IPv4 arrives, whatever the setting of the host for all devices is.
#[test]
fn decapsulated_ipv4_arrives_with_any_rp_filter_of_all_devices() {
    require!(modules: "dummy", "geneve");
    let topology = Topology::<2>::new();
    let [a, b] = &topology.hosts;
    let mut agents = start_all(&topology, &Overlay::new(&topology, "vxlan").manifests(&topology));
    for value in ["1", "2", "0"] {
        for host in [a, b] {
            host.netns.sysctl("net/ipv4/conf/all/rp_filter", value);
        }
        // Neither a start nor a reconciliation writes it.
        for agent in &mut agents {
            agent.stop();
            agent.start();
            agent.ready();
            agent.next_reconciliation();
        }
        udp(a.end(), b.end(), Family::Ipv4, 100).unwrap();
        udp(b.pod_end(), a.pod_end(), Family::Ipv4, 100).unwrap();
        let all = a
            .netns
            .enter(|| fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter"));
        assert_eq!(all.unwrap().trim(), value, "the agent leaves it alone");
    }
}
