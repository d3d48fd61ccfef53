//! `adit wg up` leaves nothing behind if a signal ends it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use adit_tests::agent::binary;
use adit_tests::named::{eventually, said};
use adit_tests::{NetNs, Topology};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Conf, PEERS, all, key, ready};

const SIGNALS: [(Signal, i32); 3] = [
    (Signal::SIGINT, 130),
    (Signal::SIGTERM, 143),
    (Signal::SIGHUP, 129),
];

/// Runs `adit wg up` in a namespace, with this directory first in PATH.
fn start(netns: &NetNs, conf: &Conf, programs: &tempfile::TempDir) -> Child {
    spawn(netns, "up", conf, programs)
}

fn spawn(netns: &NetNs, verb: &str, conf: &Conf, programs: &tempfile::TempDir) -> Child {
    let path = std::env::var("PATH").unwrap();
    let mut command = Command::new(binary());
    command
        .args(["wg", verb, "--allow-hooks", conf.path().to_str().unwrap()])
        .env("PATH", format!("{}:{path}", programs.path().display()))
        .stderr(Stdio::piped());
    netns.enter(|| command.spawn()).unwrap()
}

fn send(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

/// A program that records its arguments.
fn resolvconf() -> tempfile::TempDir {
    let programs = tempfile::tempdir().unwrap();
    let program = programs.path().join("resolvconf");
    let script = format!(
        "#!/bin/sh\necho \"$1 $2\" >> {}/calls\ncat > /dev/null\n",
        programs.path().display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    programs
}

fn head() -> String {
    format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.70.0.1/24, fd70::1/64\n",
        key(1).to_base64().as_str()
    )
}

#[test]
fn a_signal_while_a_command_of_the_file_runs_undoes_all() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let before = all(netns);
    for hook in ["PreUp", "PostUp"] {
        for (signal, code) in SIGNALS {
            let programs = resolvconf();
            let begun = programs.path().join("begun");
            let conf = Conf::new(&format!(
                "{}DNS = 192.0.2.53\n{hook} = touch {}; exec sleep 600\n{PEERS}AllowedIPs = 0.0.0.0/0, ::/0\n",
                head(),
                begun.display()
            ));
            let child = start(netns, &conf, &programs);
            assert!(eventually(|| begun.exists()));
            assert_eq!(all(netns).contains("wg0"), hook == "PostUp");
            send(&child, signal);
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(code), "{hook} {signal}: {output:?}");
            assert_eq!(all(netns), before, "{hook} {signal}");
            let calls = fs::read_to_string(programs.path().join("calls")).unwrap_or_default();
            let wanted = match hook {
                "PostUp" => "-a wg0\n-d wg0\n",
                _ => "",
            };
            assert_eq!(calls, wanted, "{hook} {signal}");
        }
    }
}

#[test]
fn a_signal_at_any_moment_leaves_all_or_nothing() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let programs = resolvconf();
    let mut prefixes = String::from("AllowedIPs = 0.0.0.0/0, ::/0\n");
    for number in 0..200 {
        writeln!(prefixes, "AllowedIPs = 10.99.{number}.0/24").unwrap();
    }
    let conf = Conf::new(&format!("{}DNS = 192.0.2.53\n{PEERS}{prefixes}", head()));
    let before = all(netns);
    let mut ends = Vec::new();
    for moment in 0..40 {
        let mut child = start(netns, &conf, &programs);
        let (signal, code) = SIGNALS[moment % SIGNALS.len()];
        // Without waiting, so that each signal interrupts another step.
        thread::sleep(Duration::from_millis(3 * u64::try_from(moment).unwrap()));
        send(&child, signal);
        let status = child.wait().unwrap();
        if status.success() {
            said(&spawn(netns, "down", &conf, &programs).wait_with_output().unwrap());
        } else {
            // Before any change, the signal ends it directly.
            let by_signal = status.signal().map(|signal| 128 + signal);
            assert_eq!(status.code().or(by_signal), Some(code), "{status:?}");
        }
        assert_eq!(all(netns), before, "after {moment}: {status:?}");
        ends.push(status.code());
    }
    println!("{ends:?}");
}

#[test]
fn a_command_that_crashes_undoes_all() {
    if !ready() {
        return;
    }
    let topology = Topology::<1>::new();
    let netns = &topology.hosts[0].netns;
    let before = all(netns);
    let programs = resolvconf();
    for hook in ["PreUp = kill -SEGV $$", "PostUp = true\nPostUp = kill -KILL $$"] {
        let conf = Conf::new(&format!("{}{hook}\n{PEERS}AllowedIPs = 0.0.0.0/0\n", head()));
        let output = start(netns, &conf, &programs).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(all(netns), before, "{hook}");
    }
}
