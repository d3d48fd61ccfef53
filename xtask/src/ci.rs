//! `cargo xtask ci`: everything that a change must pass: the tests, the documentation, and the lab with its sabotages.
use std::env;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use serde::Deserialize;

use crate::test::{self, Row, Summary};
use crate::{progress, workspace};

/// Run all checks that a change must pass: the tests, the documentation, and the lab, also sabotaged.
#[derive(clap::Args)]
pub struct Args {}

/// The kernel that the lab runs on.
const LAB: [&str; 3] = ["lab", "--kernel", "6.12"];
/// The labs by name, each with as few nodes as possible.
const LABS: [(&str, &[&str]); 5] = [
    ("over ipv4", &["--nodes=2", "--underlay=ipv4", ALL]),
    ("over ipv6", &["--nodes=2", "--underlay=ipv6", ALL]),
    (
        "over both, mixed",
        &["--nodes=3", "--underlay=dual", "--mixed", ALL],
    ),
    // With several CPUs and the JIT; one such lab is enough.
    (
        "emulated",
        &["--with=qemu", "--nodes=2", "--encapsulation=geneve,wireguard"],
    ),
    (
        "with a shared prefix",
        &["--nodes=3", "--shared-prefix", "--encapsulation=wireguard"],
    ),
];
const ALL: &str = "--encapsulation=geneve,vxlan,ipip,wireguard,none";
const SABOTAGES: [&str; 3] = ["detach", "vni", "map"];

/// Ends with 1 if anything failed.
pub fn run(_args: &Args) -> Result<ExitCode> {
    let this = env::current_exe().context("this program's file")?;
    let mut summary = Summary::default();
    test::test(&test::Args::default(), &mut summary)?;

    let mut doc = workspace::cargo();
    doc.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
        "--quiet",
    ]);
    summary.add(test::check(
        "documentation",
        doc.env("RUSTDOCFLAGS", "--deny warnings"),
    )?);

    for (name, words) in LABS {
        let mut lab = Command::new(&this);
        lab.args(LAB).args(words);
        summary.add(test::check(&format!("lab {name}"), &mut lab)?);
    }
    for what in SABOTAGES {
        let mut lab = Command::new(&this);
        lab.args(LAB).args(["--nodes", "2", "--sabotage", what, "--json"]);
        summary.add(sabotaged(&format!("lab, {what} sabotaged"), &mut lab)?);
    }
    Ok(summary.print())
}

/// A sabotaged lab must fail because of what it measured, lost packets or wrong packets on the underlay, and for no
/// other reason.
fn sabotaged(name: &str, lab: &mut Command) -> Result<Row> {
    progress::say(format_args!("{name}…"));
    let started = Instant::now();
    let output = lab
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("starting {name}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let verdict = judge(output.status.code(), &text);
    Ok(match verdict {
        Ok(()) => Row::passed(name, started.elapsed()),
        Err(why) => {
            println!("{text}{name}: {why}");
            Row::failed(name, started.elapsed(), why)
        }
    })
}

fn judge(code: Option<i32>, output: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Last {
        summary: Findings,
    }
    #[derive(Deserialize)]
    struct Findings {
        /// The number of paths that lost packets.
        failed: u32,
        /// What was wrong with the packets on the underlay.
        problems: Vec<String>,
    }
    let last = output.lines().rfind(|line| !line.trim().is_empty());
    let found = last
        .and_then(|line| serde_json::from_str::<Last>(line).ok())
        .ok_or("the lab ended without a summary")?
        .summary;
    if found.failed == 0 && found.problems.is_empty() {
        return Err("the lab did not notice the sabotage".to_owned());
    }
    match code {
        Some(1) => Ok(()),
        Some(code) => Err(format!("the lab exited with {code} instead of 1")),
        None => Err("a signal ended the lab".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_measurements_of_the_lab_show_a_sabotage() {
        let output = |failed, problems| {
            format!("{{\"from\":\"a\"}}\n{{\"summary\":{{\"failed\":{failed},\"problems\":{problems}}}}}\n")
        };
        assert_eq!(judge(Some(1), &output(2, "[]")), Ok(()));
        assert_eq!(judge(Some(1), &output(0, "[\"VNI 2\"]")), Ok(()));
        assert!(judge(Some(0), &output(2, "[]")).is_err());
        assert!(judge(Some(125), &output(2, "[]")).is_err());
        assert!(judge(None, &output(2, "[]")).is_err());
        assert!(judge(Some(1), &output(0, "[]")).is_err());
        assert!(judge(Some(1), "no QEMU\n").is_err());
        assert!(judge(Some(1), "").is_err());
    }
}
