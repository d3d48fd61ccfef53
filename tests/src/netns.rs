//! Unnamed network namespaces for tests.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{self, Child, Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};

/// The directory in which `ip netns` keeps namespaces.
pub const NAMED: &str = "/run/netns";

/// A network namespace. The kernel deletes it when this value and every socket in it are dropped.
#[derive(Debug)]
pub struct NetNs(File);

impl NetNs {
    /// Creates a namespace whose loopback device is up; needs root.
    ///
    /// # Panics
    /// If it cannot be created.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "it makes a kernel object")]
    pub fn new() -> NetNs {
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET).expect("root makes network namespaces");
            NetNs::current()
        };
        // The thread that unshares ends; the open file keeps the namespace.
        let netns = join(thread::spawn(make));
        netns.ip("link set lo up");
        netns
    }

    /// The namespace of the calling thread.
    ///
    /// # Panics
    /// If `/proc` is not mounted.
    #[must_use]
    pub fn current() -> NetNs {
        NetNs(File::open("/proc/thread-self/ns/net").expect("/proc is mounted"))
    }

    /// The namespace of this name, created by `ip netns`.
    ///
    /// # Panics
    /// If it does not exist.
    #[must_use]
    pub fn named(name: &str) -> NetNs {
        let path = Path::new(NAMED).join(name);
        NetNs(File::open(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Starts a program in the namespace, as a child of the calling thread.
    ///
    /// # Errors
    /// If it cannot be started.
    ///
    /// # Panics
    /// If the namespace cannot be entered or left.
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

    /// Runs a future in the namespace, on a separate thread and a current-thread runtime. Processes that it starts are in the
    /// namespace, too. Panics are passed to the caller.
    pub fn run<T: Send>(&self, work: impl AsyncFnOnce() -> T + Send) -> T {
        self.enter(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime needs a few descriptors");
            runtime.block_on(work())
        })
    }

    /// Runs a function in the namespace, on a separate thread. Panics are passed to the caller.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(self.0.as_fd(), CloneFlags::CLONE_NEWNET).expect("root enters network namespaces");
                work()
            });
            inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Runs `ip` in the namespace with these arguments and returns its output.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, words: &str) -> String {
        let run = || Command::new("ip").args(words.split_whitespace()).output();
        let output = self.enter(run).expect("iproute2 is installed");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {words}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs `ip -batch` in the namespace with these lines, one command each.
    ///
    /// # Panics
    /// If one fails.
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

    /// Writes a setting of the namespace, named by its path below `/proc/sys`.
    ///
    /// # Panics
    /// If it cannot be set.
    pub fn sysctl(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/{name}");
        self.enter(|| fs::write(&path, value))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    /// A path of the namespace for child processes, as in `ip link set DEV netns PATH`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.0.as_raw_fd()).into()
    }
}

fn join<T>(thread: thread::JoinHandle<T>) -> T {
    thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
}
