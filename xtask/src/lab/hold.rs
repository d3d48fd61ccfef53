//! `--hold`: leaves the lab up and says how to look around.
use std::env;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::family::Family;
use super::interrupt;
use super::site::{self, Site};
use super::topology::ROUTER;
use super::{agent, netns};

const POLL_MS: u16 = 200;

/// Returns when the user has seen enough: by Ctrl-C, by the end of standard input, or by leaving the shell that a guest
/// gets.
pub(super) fn hold(site: &Site, adit: &Path) -> Result<()> {
    eprint!("{}", guide(site, adit));
    if env::var_os("ADIT_VM").is_some() && io::stdin().is_terminal() {
        eprintln!("The lab stays up until you leave this shell.");
        let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        // What the shell exits with says nothing about the lab.
        Command::new(shell).status().context("starting a shell")?;
        return Ok(());
    }
    eprintln!("The lab stays up until Ctrl-C, or the end of standard input.");
    let mut buffer = [0; 1024];
    while !interrupt::happened() {
        let stdin = io::stdin();
        let mut waited = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited, PollTimeout::from(POLL_MS)) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => {
                if stdin.lock().read(&mut buffer).context("reading standard input")? == 0 {
                    break;
                }
            }
            Err(error) => return Err(error).context("waiting on standard input"),
        }
    }
    Ok(())
}

fn guide(site: &Site, adit: &Path) -> String {
    let nodes = &site.topology.nodes;
    let (first, last) = (&nodes[0], &nodes[nodes.len() - 1]);
    let namespaces: Vec<&str> = site
        .hosts
        .iter()
        .chain(&site.pods)
        .map(netns::NetNs::name)
        .collect();
    let (adit, places) = (adit.display(), agent::places(&first.name).join(" "));
    let (host, pod) = (first.namespace(), first.pod_namespace());
    format!(
        "\n\
         Namespaces: {}, and {ROUTER} between them. Manifests, logs and BPF pins are below {}.\n\
         \x20   ip netns exec {pod} ping {}\n\
         \x20   ip netns exec {host} ping {}\n\
         \x20   ip netns exec {ROUTER} tcpdump -lni any udp\n\
         \x20   ip -n {host} -d link\n\
         \x20   {adit} {places} status\n\
         The BPF maps need no namespace; what changes links does (`ip netns exec` hides /sys/fs/bpf, not these pins):\n\
         \x20   {adit} {places} map dump\n\
         \x20   {adit} {places} map lookup {}\n\
         \x20   nsenter --net={} {adit} {places} plan -f {} --node {}\n\n",
        namespaces.join(" "),
        site::folder_of("").display(),
        last.pod(Family::Ipv4),
        last.overlay(Family::Ipv6),
        last.pod(Family::Ipv6),
        netns::path_of(&host).display(),
        site::manifest().display(),
        first.name,
    )
}
