//! The agents: one process per host, in its namespace and with its own directories.
use std::thread;
use std::time::Duration;

use adit_tests::agent::Agent;
use adit_tests::bpffs::Bpffs;
use adit_tests::interrupt::{self, Deadline};
use adit_tests::topology::Host;
use anyhow::{Result, bail};
use dataplane_user::status::{ProblemStatus, Status};
use nix::sys::signal::Signal;

use super::site;

/// The interval at which the status of an agent is read.
const POLL: Duration = Duration::from_millis(100);
/// How many lines of a log are shown.
const LOG_LINES: usize = 40;
/// Ends the agent with the thread that started it, and keeps Ctrl-C from it: the lab tells the agent to end.
const WRAPPER: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "setsid"];

/// Starts an agent as on any node.
pub(crate) fn start<'a>(host: &'a Host, manifests: &str) -> Result<Agent<'a>> {
    let mut bpffs = Bpffs::on(site::directory(&site::bpffs_of(host.name))?);
    bpffs.mount();
    let agent = Agent::placed(host, manifests, site::directory(host.name)?, bpffs);
    let mut agent = agent
        .with_wrapper(WRAPPER.map(Into::into))
        .with_log("info")
        .with_resync(30)
        .with_recheck(5);
    agent.start();
    Ok(agent)
}

/// Waits until the agent is ready with a network of this VNI.
pub(crate) fn wait_ready(agent: &mut Agent<'_>, vni: u32, wait: Duration) -> Result<Status> {
    let deadline = Deadline::after(wait);
    let node = agent.host().name;
    loop {
        let asked = agent.status();
        if let Ok(status) = &asked
            && status.ready
            && status.networks.iter().any(|network| network.vni == vni)
        {
            return asked;
        }
        if let Some(ended) = agent.ended() {
            bail!("the agent of {node} ended unexpectedly ({ended})");
        }
        let Some(slice) = deadline.slice() else {
            interrupt::check()?;
            let said = asked.map_or_else(|error| format!("{error:#}"), |status| describe(&status));
            let seconds = wait.as_secs();
            bail!("the agent of {node} is not ready after {seconds} s: {said}");
        };
        thread::sleep(slice.min(POLL));
    }
}

/// Asks all agents to end, and kills those that do not.
pub(crate) fn stop(mut agents: Vec<Agent<'_>>, wait: Duration) {
    agents.retain_mut(Agent::is_running);
    for agent in &agents {
        agent.signal(Signal::SIGTERM);
    }
    let deadline = Deadline::after(wait);
    for agent in &mut agents {
        while agent.is_running() {
            let Some(slice) = deadline.slice() else {
                if !interrupt::happened() {
                    let (node, seconds) = (agent.host().name, wait.as_secs());
                    eprintln!("The agent of {node} did not end within {seconds} s and was killed.");
                }
                break;
            };
            thread::sleep(slice.min(POLL));
        }
    }
}

/// Prints the end of each log.
pub(crate) fn show_logs(agents: &[Agent<'_>]) {
    for agent in agents {
        let log = agent.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        eprintln!(
            "--- the last lines of the log of the agent of {}:\n{tail}",
            agent.host().name
        );
    }
}

fn describe(status: &Status) -> String {
    let problem = |problem: &ProblemStatus| {
        format!(
            "{}: {}: {}",
            problem.severity.name(),
            problem.subject,
            problem.message
        )
    };
    let problems: Vec<String> = status.problems.iter().map(problem).collect();
    match problems.is_empty() {
        true => "its status has no problem".to_owned(),
        false => problems.join("\n"),
    }
}
