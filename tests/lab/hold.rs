//! `--hold`: leaves the lab running and prints commands to look around.
use std::env;
use std::ffi::OsStr;
use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd as _;
use std::process::Command;

use adit_tests::agent::{Agent, binary};
use adit_tests::interrupt;
use adit_tests::netns::NAMED;
use anyhow::{Context as _, Result};
use dataplane_user::net::Family;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::site::{FOLDER, ROUTER, Site, namespace, pod_namespace};

const POLL_MS: u16 = 200;

/// Returns after Ctrl-C or the end of standard input; in a guest, when the user leaves the shell.
pub(crate) fn hold(site: &Site, agent: &Agent<'_>) -> Result<()> {
    eprint!("{}", guide(site, agent));
    if env::var_os("ADIT_VM").is_some() && io::stdin().is_terminal() {
        eprintln!("The lab runs until you leave this shell.");
        let shell = env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
        // The exit code of the shell says nothing about the lab.
        Command::new(shell).status().context("starting a shell")?;
        return Ok(());
    }
    eprintln!("The lab runs until you press Ctrl-C or standard input ends.");
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
            Err(error) => return Err(error).context("waiting for standard input"),
        }
    }
    Ok(())
}

/// The commands to look around from the host of this agent, the first one.
fn guide(site: &Site, agent: &Agent<'_>) -> String {
    let nodes = &site.topology.nodes;
    let (first, last) = (agent.host(), &site.hosts[nodes.len() - 1]);
    let namespaces: Vec<String> = nodes
        .iter()
        .map(namespace)
        .chain(nodes.iter().map(pod_namespace))
        .collect();
    let command = agent.command();
    let words: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let (adit, options) = (binary(), words.join(" "));
    let adit = adit.display();
    let (host, pod) = (namespace(first), pod_namespace(first));
    format!(
        "\n\
         The hosts and pods are in these namespaces, with {ROUTER} between them: {}\n\
         Manifests, logs and BPF pins are below {FOLDER}. Send packets between two hosts, and watch them:\n\
         \x20   ip netns exec {pod} ping {}\n\
         \x20   ip netns exec {host} ping {}\n\
         \x20   ip netns exec {ROUTER} tcpdump -lni any udp\n\
         See what the agent created on the first host, and what it reports:\n\
         \x20   ip -n {host} -d link\n\
         \x20   {adit} {options} status\n\
         Read the BPF maps, which needs no namespace, and plan changes in the namespace of the host:\n\
         \x20   {adit} {options} map dump\n\
         \x20   {adit} {options} map lookup {}\n\
         \x20   nsenter --net={NAMED}/{host} {adit} {options} plan -f {} --node {}\n\n",
        namespaces.join(" "),
        last.pod_end().address(Family::Ipv4),
        last.end().address(Family::Ipv6),
        last.pod_end().address(Family::Ipv6),
        agent.manifests().display(),
        first.name,
    )
}
