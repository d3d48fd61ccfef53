//! Runs the real `adit` binary in the namespace of a host, with its own directories.

mod answers;
mod commands;
mod measure;
mod setup;

use std::env;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use dataplane_user::net::PrivateKey;
use dataplane_user::source::key_file;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

pub use self::commands::Printed;
use crate::connection::Connection;
use crate::topology::{Host, Topology};
use crate::{Bpffs, NetNs};

/// The time limit of every wait: three seconds, times twenty for emulated machines.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The default interval of full reconciliations and of `--recheck` in tests, in seconds: longer than any test, so that each
/// reconciliation is caused by an event or asked for.
pub const NEVER: u32 = 3600;
/// The polling interval of waits.
const GLANCE: Duration = Duration::from_millis(20);

/// The agent of a node: its directories, and its process while it runs. If a test fails, the log is printed.
pub struct Agent<'a> {
    host: &'a Host,
    directory: TempDir,
    bpffs: Bpffs,
    child: Option<Child>,
    resync: u32,
    recheck: u32,
    pauses: Option<&'static str>,
    log: &'static str,
    /// A program with arguments that executes the agent; comes before the command line of the agent.
    wrapper: Vec<OsString>,
    /// Additional environment variables.
    variables: Vec<(&'static str, String)>,
    /// Additional arguments.
    words: Vec<&'static str>,
    connection: Mutex<Option<Connection>>,
}

impl<'a> Agent<'a> {
    /// Creates the directories for the agent of a host, with these manifests. Does not start it.
    ///
    /// # Panics
    /// If they cannot be created.
    #[must_use]
    pub fn new(host: &'a Host, manifests: &str) -> Agent<'a> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Agent::placed(host, manifests, directory, Bpffs::new())
    }

    /// As [`Agent::new`], in directories of the caller.
    ///
    /// # Panics
    /// As [`Agent::new`].
    #[must_use]
    pub fn placed(host: &'a Host, manifests: &str, directory: TempDir, bpffs: Bpffs) -> Agent<'a> {
        fs::create_dir(directory.path().join("manifests")).expect("the temporary directory is writable");
        let agent = Agent {
            host,
            directory,
            bpffs,
            child: None,
            resync: NEVER,
            recheck: NEVER,
            pauses: None,
            log: "debug",
            wrapper: Vec::new(),
            variables: Vec::new(),
            words: Vec::new(),
            connection: Mutex::default(),
        };
        agent.write(manifests);
        agent.set_key(&host.private_key());
        agent
    }

    /// Starts an agent and waits until it is ready.
    ///
    /// # Panics
    /// If it does not become ready.
    #[must_use]
    pub fn started(host: &'a Host, manifests: &str) -> Agent<'a> {
        let mut agent = Agent::new(host, manifests);
        agent.start();
        agent.ready();
        agent
    }

    /// Uses another directory for pins from the next start on.
    #[must_use]
    pub fn exchange_bpffs(&mut self, bpffs: Bpffs) -> Bpffs {
        std::mem::replace(&mut self.bpffs, bpffs)
    }

    /// Mounts a BPF file system for its pins.
    pub fn mount_bpffs(&mut self) {
        self.bpffs.mount();
    }

    /// Overwrites the file that it sees as `/etc/hosts`.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn write_hosts(&self, text: &str) {
        fs::write(self.hosts_path(), text).expect("a file in our directory");
    }

    fn hosts_path(&self) -> PathBuf {
        self.directory.path().join("hosts")
    }

    /// Writes the WireGuard key file of the agent.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn set_key(&self, key: &PrivateKey) {
        let directory = self.state_directory();
        let make = || -> std::io::Result<()> {
            fs::create_dir_all(&directory)?;
            let path = directory.join(key_file::NAME);
            fs::write(&path, key.to_base64().as_bytes())?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        };
        make().expect("a key in our directory");
    }

    /// Replaces the manifests atomically, by a rename.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn write(&self, manifests: &str) {
        let new = self.manifests().join(".new");
        fs::write(&new, manifests).expect("manifests are written");
        fs::rename(new, self.manifests().join("all.yaml")).expect("manifests are renamed");
    }

    /// The directory of its manifests; the file in it is `all.yaml`.
    #[must_use]
    pub fn manifests(&self) -> PathBuf {
        self.directory.path().join("manifests")
    }

    /// Its run directory.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// Its state directory, with its host's key in it.
    #[must_use]
    pub fn state_directory(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    /// Its directory of pinned maps and links.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        self.bpffs.path()
    }

    /// The host of the agent.
    #[must_use]
    pub fn host(&self) -> &'a Host {
        self.host
    }

    fn netns(&self) -> &'a NetNs {
        &self.host.netns
    }

    /// Starts the agent without waiting.
    ///
    /// # Panics
    /// If it cannot be started, or already runs.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "the agent already runs");
        let mut log = File::options();
        let log = log.create(true).append(true).open(self.log_path());
        let mut log = log.expect("a file in our directory");
        writeln!(log, "--- start").expect("a file in our directory");
        let program = self.wrapper.iter().cloned().chain([binary().into()]);
        let mut words = program.collect::<Vec<_>>().into_iter();
        let mut command = Command::new(words.next().expect("the agent's at least"));
        command.args(words);
        self.add_directories(&mut command);
        command
            .args([
                "run",
                "--resync",
                &self.resync.to_string(),
                "--recheck",
                &self.recheck.to_string(),
                "--log",
                self.log,
                "--node",
                self.host.name,
                "-f",
            ])
            .arg(self.manifests())
            .args(self.pauses.iter().flat_map(|pauses| ["--pauses", pauses]))
            .args(&self.words)
            .envs(self.variables.clone())
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a descriptor"))
            .stdout(log);
        let child = self.netns().spawn(&mut command);
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", binary().display())));
    }

    /// Kills the agent by SIGKILL.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Ends the agent by SIGTERM.
    ///
    /// # Panics
    /// If it does not run, or does not end successfully.
    pub fn stop(&mut self) {
        let status = self.end(Signal::SIGTERM);
        assert!(status.success(), "{status}");
    }

    /// Sends a signal that ends the agent, and waits for its end.
    fn end(&mut self, signal: Signal) -> ExitStatus {
        let mut child = self.child.take().expect("it runs");
        kill(pid(&child), signal).expect("a child that is not waited for yet is there");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().expect("it is our child") {
                return status;
            }
            if Instant::now() > deadline {
                self.child = Some(child);
                panic!("{signal} does not end the agent");
            }
            thread::sleep(GLANCE);
        }
    }

    /// Sends a signal to the agent, such as SIGSTOP.
    ///
    /// # Panics
    /// If it does not run.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill(pid(child), signal).expect("a child that is not waited for yet is there");
    }

    /// The exit status of the agent, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("it is our child")
    }

    /// Whether the agent runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.ended().is_none()
    }

    /// The process id of the agent.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn process(&self) -> Pid {
        pid(self.child.as_ref().expect("it runs"))
    }

    /// The whole log of the agent.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

/// Starts an agent on each host with the same manifests, and waits until all are ready.
///
/// # Panics
/// If one of them does not become ready.
#[must_use]
pub fn start_all<'a, const N: usize>(topology: &'a Topology<N>, manifests: &str) -> [Agent<'a>; N] {
    start_all_as(topology, manifests, |agent| agent)
}

/// As [`start_all`], with agents that the caller prepared.
///
/// # Panics
/// As [`start_all`].
#[must_use]
pub fn start_all_as<'a, const N: usize>(
    topology: &'a Topology<N>,
    manifests: &str,
    prepare: impl Fn(Agent<'a>) -> Agent<'a>,
) -> [Agent<'a>; N] {
    let hosts = topology.hosts.each_ref();
    let mut agents = hosts.map(|host| prepare(Agent::new(host, manifests)));
    agents.iter_mut().for_each(Agent::start);
    agents.iter().for_each(Agent::ready);
    agents
}

impl Drop for Agent<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // The agent may have ended by itself.
            let _ended = child.kill();
            let _waited = child.wait();
        }
        if thread::panicking() {
            eprintln!(
                "=== the log of the agent of node {}\n{}",
                self.host.name,
                self.log()
            );
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("process ids are positive"))
}

/// The path of `adit`: `$ADIT_BIN`, else the one of the same build as this test.
///
/// # Panics
/// If neither exists.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = env::var_os("ADIT_BIN") {
        return path.into();
    }
    let test = env::current_exe().expect("/proc is mounted");
    // target/debug/deps/TEST
    let adit = test
        .parent()
        .and_then(Path::parent)
        .map(|build| build.join("adit"));
    adit.filter(|adit| adit.exists())
        .expect("adit is built beside the tests (cargo build), or named by ADIT_BIN")
}

/// Asserts that both the agent and `adit plan` have nothing left to change.
///
/// # Panics
/// If something is left to change.
#[track_caller]
pub fn is_settled(agent: &Agent<'_>) {
    let status = agent.next_reconciliation();
    assert_eq!(
        (status.reconciliation.changed, status.reconciliation.residual),
        (0, 0),
        "{status:#?}"
    );
    let planned = agent.plan(&[]);
    assert_eq!(planned.code, 0, "{planned:?}");
}
