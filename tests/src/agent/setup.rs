//! Options for the start of an agent.

use std::ffi::OsString;

use super::{Agent, Bpffs};

impl<'a> Agent<'a> {
    /// Sets the interval of full reconciliations in seconds from the next start on; the default is [`super::NEVER`].
    #[must_use]
    pub fn with_resync(mut self, seconds: u32) -> Agent<'a> {
        self.resync = seconds;
        self
    }

    /// Sets the interval of checks of state that sends no events (`--recheck`), in seconds, from the next start on; the default
    /// is [`super::NEVER`].
    #[must_use]
    pub fn with_recheck(mut self, seconds: u32) -> Agent<'a> {
        self.recheck = seconds;
        self
    }

    /// Sets the directory for pins from the next start on. The test mounts a BPF file system there if it needs one.
    #[must_use]
    pub fn with_bpffs(mut self, bpffs: Bpffs) -> Agent<'a> {
        self.bpffs = bpffs;
        self
    }

    /// Sets pauses from the next start on, such as `first-fight=100,waiting=50` (in milliseconds; docs/TESTING.md lists them).
    #[must_use]
    pub fn with_pauses(mut self, pauses: &'static str) -> Agent<'a> {
        self.pauses = Some(pauses);
        self
    }

    /// Sets the log level from the next start on; the default is `debug`.
    #[must_use]
    pub fn with_log(mut self, level: &'static str) -> Agent<'a> {
        self.log = level;
        self
    }

    /// Gives the agent its own `/etc/hosts` from the next start on; [`Agent::write_hosts`] changes it.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn with_hosts(self, text: &str) -> Agent<'a> {
        self.write_hosts(text);
        // A separate mount namespace; the process stays the same.
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let words = ["unshare", "--mount", "sh", "-c", script].map(OsString::from);
        let hosts = self.hosts_path();
        self.with_wrapper(words.into_iter().chain([hosts.into()]))
    }

    /// Starts the agent by a program that executes it, from the next start on. Replaces an earlier wrapper.
    #[must_use]
    pub fn with_wrapper(mut self, words: impl IntoIterator<Item = OsString>) -> Agent<'a> {
        self.wrapper = words.into_iter().collect();
        self
    }

    /// Sets an environment variable from the next start on.
    #[must_use]
    pub fn with_environment(mut self, variable: Option<(&'static str, String)>) -> Agent<'a> {
        self.variables.extend(variable);
        self
    }

    /// Adds arguments from the next start on.
    #[must_use]
    pub fn with_arguments(mut self, words: &[&'static str]) -> Agent<'a> {
        self.words.extend(words);
        self
    }

    /// Limits its capabilities to these from the next start on, in the syntax of `setpriv --bounding-set`.
    #[must_use]
    pub fn with_capabilities(self, set: &str) -> Agent<'a> {
        self.with_wrapper(["setpriv".into(), format!("--bounding-set={set}").into()])
    }

    /// Counts its system calls by `strace` from the next start on; see [`Agent::syscalls`].
    #[must_use]
    pub fn with_counted_syscalls(self) -> Agent<'a> {
        // The tracer is a grandchild, so the started process is the agent.
        let words = ["strace", "-D", "-f", "-c", "-o"].map(OsString::from);
        let counts = self.counts_path();
        self.with_wrapper(words.into_iter().chain([counts.into()]))
    }
}
