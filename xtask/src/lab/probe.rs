//! Can the running kernel hold the lab? Found out by making what the lab makes, in a namespace that goes at once.
use std::collections::BTreeSet;
use std::fs;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, unshare};

use super::encapsulation::Encapsulation;
use super::netns;
use crate::host;

/// Why it can't; `None` if it can.
pub(super) fn obstacle(encapsulations: &BTreeSet<Encapsulation>) -> Result<Option<String>> {
    if !host::is_root() {
        return Ok(Some("we are not root here".to_owned()));
    }
    let systems = fs::read_to_string("/proc/filesystems").context("reading /proc/filesystems")?;
    if !systems
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "bpf")
    {
        return Ok(Some("its kernel has no BPF file system".to_owned()));
    }
    for lines in needed(encapsulations) {
        if let Err(error) = in_fresh_namespace(lines.clone()) {
            let what = lines.trim_start_matches("link add probe ").trim();
            let said = error.to_string();
            let why = said
                .lines()
                .rfind(|line| line.contains("Error") || line.contains("RTNETLINK"));
            return Ok(Some(format!(
                "its kernel can't make a link of {what} ({})",
                why.unwrap_or(&said)
            )));
        }
    }
    Ok(None)
}

fn needed(encapsulations: &BTreeSet<Encapsulation>) -> Vec<String> {
    let tunnels = encapsulations
        .iter()
        .flat_map(|encapsulation| match encapsulation {
            Encapsulation::Geneve => &["type geneve external dstport 6081"][..],
            Encapsulation::Vxlan => &["type vxlan external dstport 4789"],
            Encapsulation::Ipip => &["type ipip external", "type ip6tnl external mode any"],
            Encapsulation::Wireguard => &["type wireguard"],
            Encapsulation::Plain => &[],
        });
    let all = ["type veth", "type dummy"].iter().chain(tunnels);
    all.map(|kind| format!("link add probe {kind}\n")).collect()
}

fn in_fresh_namespace(lines: String) -> Result<()> {
    let probe = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).context("making a namespace")?;
        netns::ip(&[], &lines)
    });
    probe.join().map_err(|_| anyhow!("the probe panicked"))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_is_needed() {
        let all = needed(&BTreeSet::from([Encapsulation::Vxlan]));
        assert!(
            all.iter().any(|line| line.contains("vxlan")) && !all.iter().any(|line| line.contains("geneve"))
        );
    }
}
