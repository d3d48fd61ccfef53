//! The real `adit` binary in a host's namespace, with places of its own.

use std::env;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use dataplane_user::control::Request;
use dataplane_user::net::PrivateKey;
use dataplane_user::source::key_file;
use dataplane_user::status::Status;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

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
    /// What the agent sees as `/etc/hosts`, where that is not the machine's.
    hosts: Option<PathBuf>,
    /// Whether its syscalls are counted.
    counted: bool,
    /// Variables that it has beside ours.
    variables: Vec<(&'static str, String)>,
    /// All capabilities that it may have, as `setpriv --bounding-set` takes them; `None`: root's.
    capabilities: Option<String>,
    /// Further words of its command line.
    words: Vec<&'static str>,
    connection: Mutex<Option<Connection>>,
}

/// What a command printed, and its exit code.
#[derive(Debug)]
pub struct Printed {
    /// The exit code; -1 for a signal.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl<'a> Agent<'a> {
    /// Places for a host's agent, which does not run yet, with these manifests.
    ///
    /// # Panics
    /// When they can't be made.
    #[must_use]
    pub fn new(host: &'a Host, manifests: &str) -> Agent<'a> {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::create_dir(directory.path().join("manifests")).expect("a directory in ours");
        let agent = Agent {
            host,
            directory,
            bpffs: Bpffs::new(),
            child: None,
            resync: NEVER,
            recheck: NEVER,
            pauses: None,
            log: "debug",
            hosts: None,
            counted: false,
            variables: Vec::new(),
            words: Vec::new(),
            connection: Mutex::default(),
            capabilities: None,
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

    /// The seconds between its full reconciliations from its next start on; without this it is [`NEVER`].
    #[must_use]
    pub fn with_resync(mut self, seconds: u32) -> Agent<'a> {
        self.resync = seconds;
        self
    }

    /// The seconds between its looks at what changes without events, from its next start on; without this it is
    /// [`NEVER`].
    #[must_use]
    pub fn with_recheck(mut self, seconds: u32) -> Agent<'a> {
        self.recheck = seconds;
        self
    }

    /// Gives it another directory for pins from its next start on; a test mounts a BPF file system there if it wants one.
    #[must_use]
    pub fn with_bpffs(mut self, bpffs: Bpffs) -> Agent<'a> {
        self.bpffs = bpffs;
        self
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

    /// Shortens pauses from its next start on, as in `first-fight=100,waiting=50` (milliseconds; docs/TESTING.md has the names).
    #[must_use]
    pub fn with_pauses(mut self, pauses: &'static str) -> Agent<'a> {
        self.pauses = Some(pauses);
        self
    }

    /// What it logs from its next start on; without this it is `debug`.
    #[must_use]
    pub fn with_log(mut self, level: &'static str) -> Agent<'a> {
        self.log = level;
        self
    }

    /// Gives it an `/etc/hosts` of its own from its next start on; to be changed by [`Agent::write_hosts`].
    ///
    /// # Panics
    /// When it can't be written.
    #[must_use]
    pub fn with_hosts(mut self, text: &str) -> Agent<'a> {
        self.hosts = Some(self.directory.path().join("hosts"));
        self.write_hosts(text);
        self
    }

    /// Gives it a variable from its next start on.
    #[must_use]
    pub fn with_environment(mut self, variable: Option<(&'static str, String)>) -> Agent<'a> {
        self.variables.extend(variable);
        self
    }

    /// Gives its command line further words from its next start on.
    #[must_use]
    pub fn with_words(mut self, words: &[&'static str]) -> Agent<'a> {
        self.words.extend(words);
        self
    }

    /// Leaves it these capabilities alone from its next start on, as `setpriv --bounding-set` takes them.
    #[must_use]
    pub fn with_capabilities(mut self, set: &str) -> Agent<'a> {
        self.capabilities = Some(set.to_owned());
        self
    }

    /// Changes what it sees as `/etc/hosts`, in place.
    ///
    /// # Panics
    /// When it can't be written, or the agent has none of its own.
    pub fn write_hosts(&self, text: &str) {
        let path = self.hosts.as_ref().expect("it has one of its own");
        fs::write(path, text).expect("a file in our directory");
    }

    /// Counts its syscalls by `strace` from its next start on; see [`Agent::syscalls`].
    #[must_use]
    pub fn with_counted_syscalls(mut self) -> Agent<'a> {
        self.counted = true;
        self
    }

    /// How many syscalls the agent that was stopped last had made, in all of its threads.
    ///
    /// # Panics
    /// When they were not counted.
    #[must_use]
    pub fn syscalls(&self) -> u64 {
        self.syscalls_of("total")
    }

    /// How many of one syscall these were.
    ///
    /// # Panics
    /// When they were not counted.
    #[must_use]
    pub fn syscalls_of(&self, syscall: &str) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        // strace writes them once the agent has ended.
        loop {
            let text = fs::read_to_string(self.counts_path()).unwrap_or_default();
            // "100.00    0.123456           1     12345       678 total"; without errors there is a column less.
            let count = |name: &str| {
                let mut lines = text
                    .lines()
                    .map(|line| line.split_whitespace().collect::<Vec<_>>());
                lines.find_map(|words| (words.last() == Some(&name)).then(|| words[3].to_owned()))
            };
            if count("total").is_some() {
                let count = count(syscall).unwrap_or_else(|| "0".to_owned());
                return count.parse().expect("strace counts in numbers");
            }
            assert!(Instant::now() < deadline, "no count by strace: {text}");
            thread::sleep(GLANCE);
        }
    }

    /// The most memory that the running agent has had in RAM so far, in KiB (`VmHWM` of proc(5)).
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let child = self.child.as_ref().expect("it runs");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.and_then(|peak| peak.parse().ok()).expect("a process has it")
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

    /// Replaces the manifests and asks for a reconciliation at once: its status. Where it is of interest that changed files are
    /// noticed, [`Agent::write`] is to be used.
    ///
    /// # Panics
    /// When they can't be written, or it does not reconcile.
    pub fn take(&self, manifests: &str) -> Status {
        self.write(manifests);
        self.next_pass()
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
        let mut command = match &self.hosts {
            None if self.counted => {
                // The tracer is the grandchild; the process that is started is the agent.
                let mut command = Command::new("strace");
                command
                    .args(["-D", "-f", "-c", "-o"])
                    .arg(self.counts_path())
                    .arg(binary());
                command
            }
            None => match &self.capabilities {
                None => Command::new(binary()),
                Some(set) => {
                    let mut command = Command::new("setpriv");
                    command.arg(format!("--bounding-set={set}")).arg(binary());
                    command
                }
            },
            // A mount namespace of its own; the process stays the same.
            Some(hosts) => {
                let mut command = Command::new("unshare");
                let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
                command
                    .args(["--mount", "sh", "-c", script])
                    .arg(hosts)
                    .arg(binary());
                command
            }
        };
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
        let child = self.netns().enter(|| command.spawn());
        self.child = Some(child.unwrap_or_else(|error| panic!("{}: {error}", binary().display())));
    }

    /// Waits until it is ready.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn ready(&self) {
        self.wait("ready", |status| status.ready);
    }

    /// Its status, over its socket.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn status(&self) -> Result<Status> {
        self.ask(&Request::Status)
    }

    /// Asks it something on the connection to its socket, which is kept from one question to the next.
    fn ask(&self, request: &Request) -> Result<Status> {
        let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = &mut *kept
            && let Ok(status) = connection.ask(request)
        {
            return Ok(status);
        }
        // There was none, or it was another agent's, or idle for too long.
        *kept = None;
        let mut connection = Connection::open(&self.run_directory())?;
        let status = connection.ask(request)?;
        *kept = Some(connection);
        Ok(status)
    }

    /// Waits until its status is as wanted.
    ///
    /// # Panics
    /// When it does not become so.
    pub fn wait(&self, wanted: &str, is: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status();
            match status {
                Ok(status) if is(&status) => return status,
                status => assert!(Instant::now() < deadline, "not {wanted}: {status:#?}"),
            }
            thread::sleep(GLANCE);
        }
    }

    /// Waits until its log has these words in it; five times as long as for anything else, since it may run under
    /// `strace`.
    ///
    /// # Panics
    /// When it does not get them.
    pub fn wait_for_log(&self, words: &str) {
        let deadline = Instant::now() + 5 * PATIENCE;
        while !self.log().contains(words) {
            assert!(Instant::now() < deadline, "{words:?} is not in its log");
            thread::sleep(GLANCE);
        }
    }

    /// Asks for a full reconciliation by SIGHUP, and waits for the end of one that began after now: its status. It has seen
    /// all that was done before.
    ///
    /// # Panics
    /// When there is none.
    pub fn next_pass(&self) -> Status {
        // One that is under way may have read already what the test has changed since.
        let begun = self.wait("answering", |_| true).pass.begun;
        self.signal(Signal::SIGHUP);
        self.ask(&Request::Reconciled(begun + 1))
            .expect("an agent reconciles when it is asked to")
    }

    /// Asks for a reconciliation, after which the status is to be like that: what sends no event is seen by the next one.
    ///
    /// # Panics
    /// When it is not.
    pub fn reconciled(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let status = self.next_pass();
        assert!(wanted(&status), "not {what}: {status:#?}");
        status
    }

    /// Runs `adit` with these words and this agent's places.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn run(&self, words: &[&str]) -> Printed {
        self.print(self.adit(), words)
    }

    /// Runs `adit` with these words, this agent's places and its variable.
    ///
    /// # Panics
    /// When it can't be started.
    pub fn run_alike(&self, words: &[&str]) -> Printed {
        let mut command = self.adit();
        command.envs(self.variables.clone());
        self.print(command, words)
    }

    fn print(&self, mut command: Command, words: &[&str]) -> Printed {
        command.args(words);
        let output = self.netns().enter(|| command.output());
        let output = output.unwrap_or_else(|error| panic!("{}: {error}", binary().display()));
        Printed {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The JSON that `adit` prints for these words.
    ///
    /// # Panics
    /// When it fails, or prints something else.
    pub fn json(&self, words: &[&str]) -> Value {
        let printed = self.run(&[words, &["-o", "json"]].concat());
        assert_eq!(printed.code, 0, "{printed:?}");
        serde_json::from_str(&printed.stdout).expect("it prints JSON")
    }

    /// Runs `adit plan` on its manifests, with further words.
    pub fn plan(&self, words: &[&str]) -> Printed {
        let manifests = self.manifests();
        let manifests = manifests.to_str().expect("our directory's name is UTF-8");
        let mut all = vec!["plan", "--node", self.host.name, "-f", manifests];
        all.extend(words);
        self.run(&all)
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

    /// Its process.
    ///
    /// # Panics
    /// When it does not run.
    #[must_use]
    pub fn process(&self) -> Pid {
        pid(self.child.as_ref().expect("it runs"))
    }

    /// A command of `adit` with its places, to be run in its namespace by [`NetNs::enter`].
    #[must_use]
    pub fn command(&self) -> Command {
        self.adit()
    }

    /// All that it logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    fn counts_path(&self) -> PathBuf {
        self.directory.path().join("syscalls")
    }

    fn adit(&self) -> Command {
        let mut command = Command::new(binary());
        self.add_places(&mut command);
        command
    }

    fn add_places(&self, command: &mut Command) {
        command
            .arg("--state-dir")
            .arg(self.state_directory())
            .arg("--run-dir")
            .arg(self.run_directory())
            .arg("--bpffs")
            .arg(self.pins());
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
