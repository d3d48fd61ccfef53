//! Finds out whether the running kernel can run the lab, by creating the same kinds of devices in a temporary namespace.
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use adit_tests::NetNs;
use anyhow::{Context as _, Result};

use super::options::{Encapsulation, Options};

/// Why this machine cannot run the lab; `None` if it can.
pub(crate) fn obstacle(options: &Options) -> Result<Option<String>> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(Some("the lab needs root".to_owned()));
    }
    let systems = fs::read_to_string("/proc/filesystems").context("reading /proc/filesystems")?;
    if !systems
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "bpf")
    {
        return Ok(Some(
            "the kernel of this machine has no BPF file system".to_owned(),
        ));
    }
    // If neither of two nodes names an encapsulation, they use GENEVE.
    let auto = options.mixed.then_some(Encapsulation::Geneve);
    let namespace = NetNs::new();
    for (number, kind) in needed(&options.encapsulation.iter().copied().chain(auto).collect())
        .iter()
        .enumerate()
    {
        let words = format!("link add probe{number} {kind}");
        let ip = || Command::new("ip").args(words.split_whitespace()).output();
        let output = namespace.enter(ip).context("starting ip")?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = said.lines().next().unwrap_or_default();
            return Ok(Some(format!(
                "the kernel of this machine cannot create a link of {kind} ({why})"
            )));
        }
    }
    Ok(None)
}

fn needed(encapsulations: &BTreeSet<Encapsulation>) -> Vec<&'static str> {
    let tunnels = encapsulations
        .iter()
        .flat_map(|encapsulation| match encapsulation {
            Encapsulation::Geneve => &["type geneve external dstport 6081"][..],
            Encapsulation::Vxlan => &["type vxlan external dstport 4789"],
            Encapsulation::Ipip => &["type ipip external", "type ip6tnl external mode any"],
            Encapsulation::Wireguard => &["type wireguard"],
            Encapsulation::Plain => &[],
        });
    ["type veth", "type dummy"]
        .iter()
        .chain(tunnels)
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_devices_of_the_chosen_encapsulations_are_needed() {
        let all = needed(&BTreeSet::from([Encapsulation::Vxlan]));
        assert!(
            all.iter().any(|line| line.contains("vxlan")) && !all.iter().any(|line| line.contains("geneve"))
        );
    }
}
