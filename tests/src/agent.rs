//! The real `adit` binary in a host's namespace, with places of its own.

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

/// How long anything may take: three seconds, times twenty for emulated machines.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Seconds between an agent's full reconciliations, or between its looks at what changes without events, where a test doesn't
/// say otherwise: longer than any test, so that what happens was caused by an event or asked for.
pub const NEVER: u32 = 3600;
/// Between two looks at something that is waited for.
const GLANCE: Duration = Duration::from_millis(20);

/// A node's agent: its places, and the process while it runs. When a test fails, its log is printed.
pub struct Agent<'a> {
    host: &'a Host,
    directory: TempDir,
    bpffs: Bpffs,
    child: Option<Child>,
    resync: u32,
    recheck: u32,
    pauses: Option<&'static str>,
    log: &'static str,
    /// Words that stand before its own: a program that becomes it, and that program's arguments.
    wrapper: Vec<OsString>,
    /// Variables that it has beside ours.
    variables: Vec<(&'static str, String)>,
    /// Further words of its command line.
    words: Vec<&'static str>,
    connection: Mutex<Option<Connection>>,
}

impl<'a> Agent<'a> {
    /// Places for a host's agent, which does not run yet, with these manifests.
    ///
    /// # Panics
    /// When they can't be made.
    #[must_use]
    pub fn new(host: &'a Host, manifests: &str) -> Agent<'a> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Agent::placed(host, manifests, directory, Bpffs::new())
    }

    /// The same in directories of the caller's.
    ///
    /// # Panics
    /// As [`Agent::new`].
    #[must_use]
    pub fn placed(host: &'a Host, manifests: &str, directory: TempDir, bpffs: Bpffs) -> Agent<'a> {
        fs::create_dir(directory.path().join("manifests")).expect("a directory in ours");
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

    /// Starts one, and waits until it is ready.
    ///
    /// # Panics
    /// When it does not become ready.
    #[must_use]
    pub fn started(host: &'a Host, manifests: &str) -> Agent<'a> {
        let mut agent = Agent::new(host, manifests);
        agent.start();
        agent.ready();
        agent
    }

    /// Exchanges its directory for pins, from its next start on, for another one.
    #[must_use]
    pub fn exchange_bpffs(&mut self, bpffs: Bpffs) -> Bpffs {
        std::mem::replace(&mut self.bpffs, bpffs)
    }

    /// Mounts a BPF file system where its pins are to be.
    pub fn mount_bpffs(&mut self) {
        self.bpffs.mount();
    }

    /// Changes what it sees as `/etc/hosts`, in place.
    ///
    /// # Panics
    /// When it can't be written.
    pub fn write_hosts(&self, text: &str) {
        fs::write(self.hosts_path(), text).expect("a file in our directory");
    }

    fn hosts_path(&self) -> PathBuf {
        self.directory.path().join("hosts")
    }

    /// Puts a WireGuard key where it looks for its own.
    ///
    /// # Panics
    /// When it can't be written.
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

    /// Replaces the manifests at once, as a rename does.
    ///
    /// # Panics
    /// When they can't be written.
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

    /// Its host.
    #[must_use]
    pub fn host(&self) -> &'a Host {
        self.host
    }

    fn netns(&self) -> &'a NetNs {
        &self.host.netns
    }

    /// Starts it; does not wait.
    ///
    /// # Panics
    /// When it can't be started, or runs.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "it runs");
        let mut log = File::options();
        let log = log.create(true).append(true).open(self.log_path());
        let mut log = log.expect("a file in our directory");
        writeln!(log, "--- start").expect("a file in our directory");
        let program = self.wrapper.iter().cloned().chain([binary().into()]);
        let mut words = program.collect::<Vec<_>>().into_iter();
        let mut command = Command::new(words.next().expect("the agent's at least"));
        command.args(words);
        self.add_places(&mut command);
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

    /// Ends it by SIGKILL.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        self.end(Signal::SIGKILL);
    }

    /// Ends it by SIGTERM.
    ///
    /// # Panics
    /// When it does not run, or ends otherwise than well.
    pub fn stop(&mut self) {
        let status = self.end(Signal::SIGTERM);
        assert!(status.success(), "{status}");
    }

    /// Sends it a signal to end by, and waits for that.
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
                panic!("{signal} does not end it");
            }
            thread::sleep(GLANCE);
        }
    }

    /// Sends it a signal, such as SIGSTOP.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill(pid(child), signal).expect("a child that is not waited for yet is there");
    }

    /// How it ended, if it runs no more.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().expect("it is our child")
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        self.child.is_some() && self.ended().is_none()
    }

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn process(&self) -> Pid {
        pid(self.child.as_ref().expect("it runs"))
    }

    /// All that it logged.
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
/// When one does not become ready.
#[must_use]
pub fn start_all<'a, const N: usize>(topology: &'a Topology<N>, manifests: &str) -> [Agent<'a>; N] {
    start_all_as(topology, manifests, |agent| agent)
}

/// The same with agents that are prepared before.
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
            // It may have ended by itself.
            let _ended = child.kill();
            let _waited = child.wait();
        }
        if thread::panicking() {
            eprintln!("=== the log of node {}'s agent\n{}", self.host.name, self.log());
        }
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("process ids are positive"))
}

/// `ADIT_BIN`, else the `adit` of the build that this test is of.
///
/// # Panics
/// When neither is there.
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

/// Nothing more is to be done, for an agent and for `adit plan`.
///
/// # Panics
/// When something is.
#[track_caller]
pub fn is_settled(agent: &Agent<'_>) {
    let status = agent.next_pass();
    assert_eq!((status.pass.changed, status.pass.residual), (0, 0), "{status:#?}");
    let planned = agent.plan(&[]);
    assert_eq!(planned.code, 0, "{planned:?}");
}
