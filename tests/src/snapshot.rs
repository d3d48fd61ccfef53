//! What a namespace holds, as text to be compared byte by byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use aya::programs::{SchedClassifier, TcAttachType};
use dataplane_user::kernel::bpf::Mechanism;
use dataplane_user::model::Hook;

use crate::NetNs;

/// All that `ip` and `nft` print of a namespace, and what is in these directories.
///
/// # Panics
/// When something can't be read.
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

/// What nft prints of all tables.
///
/// # Panics
/// When it can't be had.
#[must_use]
pub fn ruleset(netns: &NetNs) -> String {
    run(netns, "nft", "list ruleset")
}

/// The filters on a device, by clsact.
///
/// # Panics
/// When they can't be read.
#[must_use]
pub fn filters(netns: &NetNs, device: &str) -> String {
    ["ingress", "egress"]
        .map(|side| run(netns, "tc", &format!("filter show dev {device} {side}")))
        .concat()
}

/// How many programs the kernel has on a device's hook, by whichever means it attaches them.
///
/// # Panics
/// When it does not say.
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

/// Whether a line of `tc filter show` is a filter of Adit's priority and handle. Its name is missing where the kernel takes no
/// names of programs.
#[must_use]
pub fn is_of_adit(line: &str) -> bool {
    line.contains(" pref 173 ") && line.contains(" handle 0xad ")
}

/// Runs a program inside and returns what it prints.
///
/// # Panics
/// When it fails.
pub fn run(netns: &NetNs, program: &str, words: &str) -> String {
    let output = netns.enter(|| Command::new(program).args(words.split_whitespace()).output());
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {words}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Lists a directory and those below by name; nothing for one that is not there.
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
