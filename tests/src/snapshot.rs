//! The state of a namespace as text, to be compared byte by byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use aya::programs::{SchedClassifier, TcAttachType};
use dataplane_user::kernel::bpf::Mechanism;
use dataplane_user::model::Hook;

use crate::NetNs;

/// The output of `ip` and `nft` about a namespace, and the content of these directories.
///
/// # Panics
/// If something cannot be read.
#[must_use]
pub fn everything(netns: &NetNs, directories: &[&Path]) -> String {
    let mut text = String::new();
    for words in [
        "-d -j link show",
        "-j address show",
        "-d -j route show table all",
        "-6 -d -j route show table all",
        "-j rule show",
        "-6 -j rule show",
        "-j nexthop show",
        "-j neighbour show nud permanent",
    ] {
        text.push_str(&format!("ip {words}\n{}\n", netns.ip(words)));
    }
    text.push_str(&format!("nft list ruleset\n{}\n", ruleset(netns)));
    for directory in directories {
        list(directory, &mut text);
    }
    text
}

/// The output of nft about all tables.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn ruleset(netns: &NetNs) -> String {
    run(netns, "nft", "list ruleset")
}

/// The clsact filters on a device.
///
/// # Panics
/// If they cannot be read.
#[must_use]
pub fn filters(netns: &NetNs, device: &str) -> String {
    ["ingress", "egress"]
        .map(|side| run(netns, "tc", &format!("filter show dev {device} {side}")))
        .concat()
}

/// The number of programs on a hook of a device, by TCX or clsact.
///
/// # Panics
/// If the kernel does not report it.
#[must_use]
pub fn programs(netns: &NetNs, device: &str, hook: Hook) -> usize {
    let (side, words) = match hook {
        Hook::Egress => (TcAttachType::Egress, "egress"),
        Hook::Ingress => (TcAttachType::Ingress, "ingress"),
    };
    let by_link = || match Mechanism::probe().expect("root may ask") {
        Mechanism::Tcx => Some(
            SchedClassifier::query_tcx(device, side)
                .expect("root may ask")
                .1
                .len(),
        ),
        Mechanism::Clsact => None,
    };
    netns.enter(by_link).unwrap_or_else(|| {
        let filters = run(netns, "tc", &format!("filter show dev {device} {words}"));
        filters.lines().filter(|line| is_of_adit(line)).count()
    })
}

/// Whether a line of `tc filter show` has the priority and handle of filters of Adit. Some kernels print no names of
/// programs.
#[must_use]
pub fn is_of_adit(line: &str) -> bool {
    line.contains(" pref 173 ") && line.contains(" handle 0xad ")
}

/// Runs a program in a namespace and returns its output.
///
/// # Panics
/// If it fails.
pub fn run(netns: &NetNs, program: &str, words: &str) -> String {
    let output = netns.enter(|| Command::new(program).args(words.split_whitespace()).output());
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Lists a directory recursively by name; empty if it does not exist.
fn list(directory: &Path, text: &mut String) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    let mut paths = entries
        .map(|entry| entry.expect("the directory can be read").path())
        .collect::<Vec<_>>();
    paths.sort();
    for path in paths {
        text.push_str(&format!("{}\n", path.display()));
        list(&path, text);
    }
}
