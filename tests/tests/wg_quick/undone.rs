//! `adit wg up` undoes what it did, and nothing else, also beside others.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use adit_tests::agent::binary;
use adit_tests::named::said;
use adit_tests::{NetNs, Topology, snapshot};

use crate::{Conf, PEERS, adit, all, key, ready};

/// A file that routes everything to a peer.
fn everything(more: &str) -> Conf {
    let private = key(1).to_base64();
    Conf::new(&format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.70.0.1/24\n{more}{PEERS}AllowedIPs = 0.0.0.0/0, ::/0\n",
        private.as_str()
    ))
}

/// A directory with a program `nft` that runs this script before the real one, and a `resolvconf` that records its
/// arguments.
fn programs(before: &str) -> tempfile::TempDir {
    let programs = tempfile::tempdir().unwrap();
    let directory = programs.path().display();
    for (name, script) in [
        (
            "nft",
            format!("{before}\nPATH=${{PATH#*:}}:/usr/sbin:/sbin\nexport PATH\nexec nft \"$@\""),
        ),
        (
            "resolvconf",
            format!("echo \"$1 $2\" >> {directory}/calls\ncat > /dev/null"),
        ),
    ] {
        let program = programs.path().join(name);
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    programs
}

fn start(netns: &NetNs, verb: &str, conf: &Path, programs: &tempfile::TempDir) -> Child {
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(binary());
    command
        .args(["wg", verb, "--allow-hooks", conf.to_str().unwrap()])
        .env("PATH", format!("{}:{path}", programs.path().display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    netns.enter(|| command.spawn()).unwrap()
}

fn up(netns: &NetNs, conf: &Conf, programs: &tempfile::TempDir) -> Output {
    start(netns, "up", &conf.path(), programs)
        .wait_with_output()
        .unwrap()
}

#[test]
fn a_step_that_fails_leaves_no_rule_of_the_default_route() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let before = all(netns);
    let socket = netns.enter(|| UdpSocket::bind("0.0.0.0:51820")).unwrap();
    let conf = everything("ListenPort = 51820\nDNS = 192.0.2.53\n");
    let programs = programs("");
    let failed = up(netns, &conf, &programs);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert_eq!(all(netns), before);
    assert!(!programs.path().join("calls").exists(), "no name server was set");
    drop(socket);
    said(&up(netns, &conf, &programs));
    said(&adit(netns, &["wg", "down", "wg0"]));
    assert_eq!(all(netns), before);
}

#[test]
fn a_device_that_another_program_creates_meanwhile_stays_and_all_else_is_undone() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let before = all(netns);
    // The nft tables are created right before the device.
    let programs = programs("ip link add wg0 type dummy 2> /dev/null");
    let conf = everything("DNS = 192.0.2.53\n");
    let failed = up(netns, &conf, &programs);
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    assert!(snapshot::run(netns, "ip", "-d link show wg0").contains("dummy"));
    netns.ip("link delete wg0");
    assert_eq!(all(netns), before);
    assert!(!programs.path().join("calls").exists(), "no name server was set");
}

#[test]
fn each_of_two_interfaces_that_are_created_at_once_gets_its_own_mark() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let before = all(netns);
    // Each waits a second for the other, after it chose its mark.
    let meeting_place = tempfile::tempdir().unwrap();
    let arrived = meeting_place.path().display();
    let meet = format!(
        "touch {arrived}/arrived-$PPID\nfor _ in $(seq 20); do [ $(ls {arrived} | wc -l) -ge 2 ] && break; sleep 0.05; done"
    );
    let meeting = programs(&meet);
    let one = everything("");
    let other = one.path().with_file_name("wg1.conf");
    fs::copy(one.path(), &other).unwrap();
    let children = [&one.path(), &other].map(|path| start(netns, "up", path, &meeting));
    for child in children {
        said(&child.wait_with_output().unwrap());
    }
    let marks = ["wg0", "wg1"].map(|name| snapshot::run(netns, "wg", &format!("show {name} fwmark")));
    assert_ne!(marks[0], marks[1]);
    let children = [&one.path(), &other].map(|path| start(netns, "down", path, &meeting));
    for child in children {
        said(&child.wait_with_output().unwrap());
    }
    assert_eq!(all(netns), before);
}

#[test]
fn a_command_of_the_file_may_create_another_interface() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let before = all(netns);
    let outer = Conf::new("");
    let inner = outer.path().with_file_name("wg1.conf");
    fs::copy(everything("").path(), &inner).unwrap();
    let call = |verb: &str| format!("{} wg {verb} {}", binary().display(), inner.display());
    let inside = everything(&format!(
        "PreUp = {}\nPreUp = {}\nPostUp = {}\nPostDown = {}\n",
        call("up"),
        call("down"),
        call("up"),
        call("down")
    ));
    let programs = programs("");
    said(&up(netns, &inside, &programs));
    assert!(snapshot::run(netns, "ip", "link").contains("wg1"));
    said(
        &start(netns, "down", &inside.path(), &programs)
            .wait_with_output()
            .unwrap(),
    );
    assert_eq!(all(netns), before);
}
