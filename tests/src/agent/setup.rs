//! What an agent is started with.

use std::ffi::OsString;

use super::{Agent, Bpffs};

impl<'a> Agent<'a> {
    /// The seconds between its full reconciliations from its next start on; without this it is [`super::NEVER`].
    #[must_use]
    pub fn with_resync(mut self, seconds: u32) -> Agent<'a> {
        self.resync = seconds;
        self
    }

    /// The seconds between its looks at what changes without events, from its next start on; without this it is
    /// [`super::NEVER`].
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
    pub fn with_hosts(self, text: &str) -> Agent<'a> {
        self.write_hosts(text);
        // A mount namespace of its own; the process stays the same.
        let script = "mount --bind \"$0\" /etc/hosts && exec \"$@\"";
        let words = ["unshare", "--mount", "sh", "-c", script].map(OsString::from);
        let hosts = self.hosts_path();
        self.with_wrapper(words.into_iter().chain([hosts.into()]))
    }

    /// Has it started by a program that becomes it, and by no other, from its next start on.
    #[must_use]
    pub fn with_wrapper(mut self, words: impl IntoIterator<Item = OsString>) -> Agent<'a> {
        self.wrapper = words.into_iter().collect();
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
    pub fn with_capabilities(self, set: &str) -> Agent<'a> {
        self.with_wrapper(["setpriv".into(), format!("--bounding-set={set}").into()])
    }

    /// Counts its syscalls by `strace` from its next start on; see [`Agent::syscalls`].
    #[must_use]
    pub fn with_counted_syscalls(self) -> Agent<'a> {
        // The tracer is the grandchild; the process that is started is the agent.
        let words = ["strace", "-D", "-f", "-c", "-o"].map(OsString::from);
        let counts = self.counts_path();
        self.with_wrapper(words.into_iter().chain([counts.into()]))
    }
}
