//! Declared devices, routes and rules, on real kernels, by the real agent.
#![expect(
    clippy::unwrap_used,
    reason = "clippy takes only test functions themselves for tests"
)]

mod containers;
mod interfaces;
mod moves;
mod namespaces;
mod routes;
mod tunnels;

use std::process::Command;

use adit_tests::NetNs;
use adit_tests::agent::is_settled;
use adit_tests::declared::of_node;
use adit_tests::named::{Named, eventually};
use dataplane_user::status::Status;

fn reaches(netns: &NetNs, address: &str) -> bool {
    let ping = || Command::new("ping").args(["-c1", "-W0.3", address]).output();
    eventually(|| netns.enter(ping).unwrap().status.success())
}

/// A manifest of node `a`.
fn manifest(kind: &str, name: &str, spec: &str) -> String {
    of_node("a", kind, name, spec)
}

fn interface(name: &str, spec: &str) -> String {
    manifest("NetlinkInterface", name, spec)
}

fn route(name: &str, spec: &str) -> String {
    manifest("NetlinkRoute", name, spec)
}

/// Waits until the state of a namespace meets a condition.
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
