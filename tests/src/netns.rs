//! Network namespaces of a test's own.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// Where `ip netns` keeps its namespaces.
pub const NAMED: &str = "/run/netns";

/// A network namespace; one that is made here has its loopback up. It is gone when this and every socket made in it are.
#[derive(Debug)]
pub struct NetNs(File);

impl NetNs {
    /// Makes one; needs root.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a kernel object")]
    pub fn new() -> NetNs {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root makes network namespaces");
            NetNs::current()
        };
        // The thread that unshares ends, and the open file keeps the namespace.
        let netns = join(thread::spawn(make));
        netns.ip("link set lo up");
        netns
    }

    /// The calling thread's.
    ///
    /// # Panics
    /// When there is no `/proc`.
    #[must_use]
    pub fn current() -> NetNs {
        NetNs(File::open("/proc/thread-self/ns/net").expect("/proc is mounted"))
    }

    /// The one that `ip netns` made by this name.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn named(name: &str) -> NetNs {
        let path = Path::new(NAMED).join(name);
        NetNs(File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Starts a program inside, as a child of the calling thread.
    ///
    /// # Errors
    /// That it can't be started.
    ///
    /// # Panics
    /// When the namespace can't be entered, or left.
    pub fn spawn(&self, command: &mut Command) -> io::Result<Child> {
        let before = NetNs::current();
        let enter = |netns: &NetNs| {
            setns(netns.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("root enters network namespaces");
        };
        enter(self);
        let child = command.spawn();
        enter(&before);
        child
    }

    /// Runs a future inside, on a thread and a current-thread runtime of its own. Processes that it starts are inside
    /// too. Panics go through.
    pub fn run<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime needs a few descriptors");
            runtime.block_on(work())
        })
    }

    /// Runs a function inside, on a thread of its own. Panics go through.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("root enters network namespaces");
                work()
            });
            inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` inside with these words and returns what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, words: &str) -> String {
        let run = || Command::new("ip").args(words.split_whitespace()).output();
        let output = self.enter(run).expect("iproute2 is installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {words}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `ip` inside once for all of these lines, each one command's words.
    ///
    /// # Panics
    /// When one fails.
    pub fn ip_batch(&self, lines: &str) {
        let run = || {
            let mut child = Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()?;
            let mut input = child.stdin.take().expect("it is piped");
            input.write_all(lines.as_bytes())?;
            drop(input);
            child.wait_with_output()
        };
        let output = self.enter(run).expect("iproute2 is installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip -batch: {errors}{lines}");
    }

    /// Sets one of its settings, named as below `/proc/sys`.
    ///
    /// # Panics
    /// When it can't be set.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{name}");
        self.enter(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// A path that names it for this process's children, as in `ip link set DEV netns PATH`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd()).into()
    }
}

fn join<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}
