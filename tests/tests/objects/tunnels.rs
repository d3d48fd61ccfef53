//! Tunnels between hosts.

use std::process::Command;

use adit_tests::agent::start_all;
use adit_tests::{Topology, require};
use dataplane_user::net::Family;

use crate::{eventually, is_settled, of_node, reaches};

#[test]
fn vxlan_with_default_destinations_reaches_all_nodes_by_ff02_1() {
    require!(modules: "vxlan");
    let topology = Topology::<3>::new();
    for family in Family::BOTH {
        let underlay = |host: usize| topology.hosts[host].underlay(family).to_string();
        let manifests = (0..3).map(|host| {
            let others = (0..3).filter(|other| *other != host);
            let remotes = others.map(|other| format!("'{}'", underlay(other))).collect::<Vec<_>>();
            let spec = format!(
                "type: vxlan, name: vx0, vni: 7, dstport: 4790, local: '{}', remotes: [{}], keepLinkLocal: false, addresses: ['fe80::7:{}/64', 'fd77::{}/64']",
                underlay(host),
                remotes.join(", "),
                host + 1,
                host + 1
            );
            of_node(topology.hosts[host].name, "NetlinkInterface", &format!("vx-{host}"), &spec)
        });
        let agents = start_all(&topology, &manifests.collect::<String>());
        agents.iter().for_each(is_settled);
        let ping = || {
            let words = ["-6", "-c2", "-W2", "ff02::1%vx0"];
            let answer = topology.hosts[0]
                .netns
                .enter(|| Command::new("ping").args(words).output());
            String::from_utf8_lossy(&answer.unwrap().stdout).into_owned()
        };
        let by_all = || {
            let said = ping();
            let from = |host: usize| said.contains(&format!("fe80::7:{host}%vx0"));
            from(2) && from(3)
        };
        assert!(eventually(by_all), "{}", ping());
        assert!(reaches(&topology.hosts[1].netns, "fd77::3"));
        for mut agent in agents {
            agent.stop();
            assert_eq!(agent.run(&["uninstall"]).code, 0);
        }
    }
}

#[test]
fn pings_pass_by_geneve_and_ipip_to_one_peer() {
    require!(modules: "geneve", "ipip");
    let topology = Topology::<2>::new();
    let underlay = |host: usize| topology.hosts[host].underlay(Family::Ipv4).to_string();
    let of = |host: usize| {
        let other = 1 - host;
        let node = topology.hosts[host].name;
        let geneve = format!(
            "type: geneve, name: gen0, id: 5, remote: {}, dstport: 6090, addresses: [10.75.0.{}/24]",
            underlay(other),
            host + 1
        );
        let ipip = format!(
            "type: ipip, name: ip0, local: {}, remote: {}, addresses: [{{ address: 10.76.0.{}, peer: 10.76.0.{} }}]",
            underlay(host),
            underlay(other),
            host + 1,
            other + 1
        );
        of_node(node, "NetlinkInterface", &format!("gen-{node}"), &geneve)
            + &of_node(node, "NetlinkInterface", &format!("ip-{node}"), &ipip)
    };
    let agents = start_all(&topology, &(of(0) + &of(1)));
    agents.iter().for_each(is_settled);
    for address in ["10.75.0.2", "10.76.0.2"] {
        assert!(reaches(&topology.hosts[0].netns, address), "{address}");
    }
    // A device with another parameter is recreated, and traffic continues.
    let changed = (of(0) + &of(1)).replace("id: 5", "id: 6");
    for agent in &agents {
        agent.write(&changed);
    }
    for agent in &agents {
        agent.wait("recreated", |status| {
            status.recreated == 1 && status.reconciliation.residual == 0
        });
    }
    assert!(reaches(&topology.hosts[0].netns, "10.75.0.2"));
}
