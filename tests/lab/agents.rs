//! The agents: one process a host, started in its namespace, with places of its own.
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

/// Between two looks at an agent's state.
const POLL: Duration = Duration::from_millis(100);
/// How much of a log is shown.
const LOG_LINES: usize = 40;
/// It ends with the thread that started it, and Ctrl-C is for us alone: what it does then, we tell it.
const WRAPPER: [&str; 4] = ["setpriv", "--pdeathsig", "KILL", "setsid"];

/// Starts one as on any node.
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

/// Waits until it is ready with the network of this VNI.
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
            bail!("the agent of {node} ended ({ended})");
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

/// Asks all of them to end; those that don't are killed.
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

/// Prints the logs' ends.
pub(crate) fn show_logs(agents: &[Agent<'_>]) {
    for agent in agents {
        let log = agent.log();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
        eprintln!("--- the agent of {} said at last:\n{tail}", agent.host().name);
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
        true => "it names no problem".to_owned(),
        false => problems.join("\n"),
    }
}
