//! Devices, routes and rules that manifests declare one by one, on real kernels, by the real agent.
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes only test functions themselves for tests"
)]

mod containers;
mod interfaces;
mod namespaces;
mod routes;
mod tunnels;

use std::io::Write as _;
use std::process::{self, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use adit_tests::agent::PATIENCE;
use adit_tests::{Agent, NetNs};
use dataplane_user::status::Status;

/// A namespace with a name; gone with this.
struct Named(String);

impl Named {
    fn new() -> Named {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", process::id());
        ip(&["netns", "add", &name]);
        let named = Named(name);
        named.ip("link set lo up");
        named
    }

    fn ip(&self, words: &str) -> String {
        let mut all = vec!["-n", &self.0];
        all.extend(words.split_whitespace());
        ip(&all)
    }

    /// Several commands by one `ip`.
    fn ip_batch(&self, lines: &str) {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.0, "-batch", "-"]).stdin(Stdio::piped());
        let mut child = ip.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success(), "{lines}");
    }

    /// Whether one ping to an address is answered within the deadline.
    fn reaches(&self, address: &str) -> bool {
        let ping = || {
            let words = ["netns", "exec", &self.0, "ping", "-c1", "-W1", address];
            Command::new("ip").args(words).output().unwrap()
        };
        eventually(|| ping().status.success())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

fn ip(words: &[&str]) -> String {
    said(&Command::new("ip").args(words).output().unwrap())
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn reaches(netns: &NetNs, address: &str) -> bool {
    let ping = || Command::new("ping").args(["-c1", "-W1", address]).output();
    eventually(|| netns.enter(ping).unwrap().status.success())
}

fn eventually(holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}

/// A manifest of node `a`.
fn manifest(kind: &str, name: &str, spec: &str) -> String {
    of_node("a", kind, name, spec)
}

fn of_node(node: &str, kind: &str, name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: adit.dev/v1alpha1\nkind: {kind}\nmetadata: {{ name: {name} }}\nspec: {{ node: {node}, {spec} }}\n"
    )
}

fn interface(name: &str, spec: &str) -> String {
    manifest("NetlinkInterface", name, spec)
}

fn route(name: &str, spec: &str) -> String {
    manifest("NetlinkRoute", name, spec)
}

/// Nothing more is to be done, for the agent and for `adit plan`.
#[track_caller]
fn is_settled(agent: &Agent<'_>) {
    let status = agent.next_pass();
    assert_eq!((status.pass.changed, status.pass.residual), (0, 0), "{status:#?}");
    let planned = agent.plan(&[]);
    assert_eq!(planned.code, 0, "{planned:?}");
}

/// Waits until something of a namespace is as wanted.
#[track_caller]
fn becomes(what: &str, look: impl Fn() -> String, wanted: impl Fn(&str) -> bool) {
    assert!(eventually(|| wanted(&look())), "not {what}: {}", look());
}

fn waits(status: &Status) -> Vec<&str> {
    let waiting = status
        .problems
        .iter()
        .filter(|problem| problem.reason == "Waiting");
    waiting.map(|problem| problem.subject.as_str()).collect()
}
