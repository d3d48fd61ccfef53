//! The agents: one process a host, started in its namespace, with places of its own.
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;

use super::interrupt::{self, Deadline};
use super::netns::NetNs;
use super::site;
use super::topology::Node;
use crate::child;

/// Between two looks at an agent's state.
const POLL: Duration = Duration::from_millis(100);
/// How much of a log is shown.
const LOG_LINES: usize = 40;

/// What we read of `adit status -o json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Status {
    pub(super) ready: bool,
    #[serde(default)]
    pub(super) networks: Vec<Network>,
    #[serde(default)]
    pub(super) peers: Vec<Peer>,
    #[serde(default)]
    pub(super) refused: Vec<Refused>,
    #[serde(default)]
    pub(super) problems: Vec<Problem>,
}

/// A network, on one node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Network {
    pub(super) mtu: u32,
    pub(super) vni: u32,
}

/// A peer of a node.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Peer {
    pub(super) node: String,
    pub(super) encapsulation: String,
    /// The underlay addresses of both ends.
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
    pub(super) mtu: u32,
}

/// A pair that can't talk in one family.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize, serde::Serialize)]
pub(super) struct Refused {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) family: String,
    pub(super) reason: String,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Problem {
    severity: String,
    subject: String,
    message: String,
}

/// One agent; dropping it ends it at once.
pub(super) struct Agent {
    pub(super) node: String,
    adit: PathBuf,
    /// None once it has ended.
    process: Option<Child>,
}

impl Agent {
    /// Starts one. To be called by a thread that outlives it: the kernel ends it with that thread.
    pub(super) fn start(adit: &Path, node: &Node, namespace: &NetNs) -> Result<Self> {
        let folder = site::folder_of(&node.name);
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let log = File::create(log_of(&node.name)).context("an agent's log")?;

        let mut command = Command::new(adit);
        command
            .args(places(&node.name))
            .arg("run")
            .arg("-f")
            .arg(site::manifest());
        command.args(["--node", &node.name]).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C is for us: what agents do then, we tell them.
        command.process_group(0);
        child::tie(&mut command, Vec::new());
        let process = namespace.within(|| {
            command
                .spawn()
                .with_context(|| format!("starting {}", adit.display()))
        })?;
        Ok(Self {
            node: node.name.clone(),
            adit: adit.to_owned(),
            process: Some(process),
        })
    }

    /// Waits until it is ready with the network of this VNI.
    pub(super) fn wait_ready(&mut self, vni: u32, wait: Duration) -> Result<Status> {
        let deadline = Deadline::after(wait);
        loop {
            let asked = self.status();
            if let Ok(status) = &asked
                && status.ready
                && status.networks.iter().any(|network| network.vni == vni)
            {
                return asked;
            }
            let process = self.process.as_mut().context("the agent has ended")?;
            if let Some(ended) = process.try_wait().context("looking at the agent")? {
                bail!("the agent of {} ended ({ended})", self.node);
            }
            let Some(slice) = deadline.slice() else {
                interrupt::check()?;
                let said = asked.map_or_else(|error| format!("{error:#}"), |status| describe(&status));
                bail!(
                    "the agent of {} is not ready after {} s: {said}",
                    self.node,
                    wait.as_secs()
                );
            };
            thread::sleep(slice.min(POLL));
        }
    }

    /// Asks for its state.
    fn status(&self) -> Result<Status> {
        let mut command = Command::new(&self.adit);
        let output = command
            .args(places(&self.node))
            .args(["status", "-o", "json"])
            .output();
        let output = output.context("starting `adit status`")?;
        serde_json::from_slice(&output.stdout)
            .map_err(|error| anyhow!("{}\n(its answer: {error})", child::tail(&output.stderr, 3)))
    }

    /// Ends it as a crash would.
    pub(super) fn kill(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().context("killing an agent")?;
            process.wait().context("waiting for an agent")?;
        }
        Ok(())
    }

    fn terminate(&self) {
        if let Some(process) = &self.process
            && let Ok(pid) = i32::try_from(process.id())
        {
            // It fails only when the agent has ended, which is what we want.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }

    /// Waits for its end; none when it ended in time.
    fn ended_by(&mut self, deadline: Deadline) -> bool {
        loop {
            let Some(process) = &mut self.process else {
                return true;
            };
            if !matches!(process.try_wait(), Ok(None)) {
                self.process = None;
                return true;
            }
            let Some(slice) = deadline.slice() else {
                return false;
            };
            thread::sleep(slice.min(POLL));
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Nothing is left to do about one that can't be killed.
        let _ = self.kill();
    }
}

/// Asks all of them to end, and kills those that don't.
pub(super) fn stop(mut agents: Vec<Agent>, wait: Duration) {
    agents.iter().for_each(Agent::terminate);
    let deadline = Deadline::after(wait);
    for agent in &mut agents {
        if !agent.ended_by(deadline) && !interrupt::happened() {
            eprintln!(
                "The agent of {} did not end within {} s and was killed.",
                agent.node,
                wait.as_secs()
            );
        }
    }
}

/// The flags that say where the agent of a node has its things.
pub(super) fn places(node: &str) -> [String; 6] {
    let folder = site::folder_of(node);
    let flag = |name: &str, path: PathBuf| [name.to_owned(), path.display().to_string()];
    let [run, run_dir] = flag("--run-dir", folder.join("run"));
    let [state, state_dir] = flag("--state-dir", folder.join("state"));
    let [bpf, bpffs] = flag("--bpffs", site::bpffs().join(node));
    [run, run_dir, state, state_dir, bpf, bpffs]
}

/// Its log's file.
pub(super) fn log_of(node: &str) -> PathBuf {
    site::folder_of(node).join("agent.log")
}

/// Prints the logs' ends.
pub(super) fn show_logs(nodes: &[Node]) {
    for node in nodes {
        let log = fs::read(log_of(&node.name)).unwrap_or_default();
        eprintln!(
            "--- the agent of {} said at last:\n{}",
            node.name,
            child::tail(&log, LOG_LINES)
        );
    }
}

fn describe(status: &Status) -> String {
    let problem =
        |problem: &Problem| format!("{}: {}: {}", problem.severity, problem.subject, problem.message);
    let problems: Vec<String> = status.problems.iter().map(problem).collect();
    match problems.is_empty() {
        true => "it names no problem".to_owned(),
        false => problems.join("\n"),
    }
}
