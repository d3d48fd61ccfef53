//! The cost of a running agent: system calls and memory.

use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use super::{Agent, GLANCE, PATIENCE};

impl Agent<'_> {
    /// The number of system calls of all threads of the agent that was stopped last.
    ///
    /// # Panics
    /// If they were not counted.
    #[must_use]
    pub fn syscalls(&self) -> u64 {
        self.syscalls_of("total")
    }

    /// How many of these were one system call.
    ///
    /// # Panics
    /// If they were not counted.
    #[must_use]
    pub fn syscalls_of(&self, syscall: &str) -> u64 {
        let deadline = Instant::now() + PATIENCE;
        // strace writes the counts after the agent has ended.
        loop {
            let text = fs::read_to_string(self.counts_path()).unwrap_or_default();
            // "100.00    0.123456           1     12345       678 total"; without errors there is one column less.
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

    /// The peak resident memory of the running agent, in KiB (`VmHWM` of proc(5)).
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn peak_memory(&self) -> u64 {
        let child = self.child.as_ref().expect("it runs");
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("it runs");
        let peak = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB"));
        peak.and_then(|peak| peak.parse().ok()).expect("a process has it")
    }

    pub(super) fn counts_path(&self) -> PathBuf {
        self.directory.path().join("syscalls")
    }
}
