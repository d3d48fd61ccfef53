//! Named network namespaces, as `ip netns` creates them.

use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::NetNs;
use crate::agent::PATIENCE;

/// A named namespace. Dropping this value deletes it.
#[derive(Debug)]
pub struct Named(pub String);

impl Named {
    /// Creates a namespace whose loopback device is up.
    ///
    /// # Panics
    /// If it cannot be created.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "making one changes the machine")]
    pub fn new() -> Named {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", process::id());
        Named::of(&name)
    }

    /// Creates a namespace of this name whose loopback device is up.
    ///
    /// # Panics
    /// If it cannot be created.
    #[must_use]
    pub fn of(name: &str) -> Named {
        NetNs::current().ip(&format!("netns add {name}"));
        let named = Named(name.to_owned());
        named.ip("link set lo up");
        named
    }

    /// Runs `ip` in the namespace and returns its output.
    ///
    /// # Panics
    /// If it fails.
    pub fn ip(&self, words: &str) -> String {
        NetNs::named(&self.0).ip(words)
    }

    /// Runs several commands by one `ip -batch`.
    ///
    /// # Panics
    /// If one fails.
    pub fn ip_batch(&self, lines: &str) {
        NetNs::named(&self.0).ip_batch(lines);
    }

    /// Whether a ping to an address is answered within the deadline.
    ///
    /// # Panics
    /// If `ping` cannot be run.
    #[must_use]
    pub fn reaches(&self, address: &str) -> bool {
        let ping = || {
            let words = ["netns", "exec", &self.0, "ping", "-c1", "-W0.3", address];
            Command::new("ip")
                .args(words)
                .output()
                .expect("iproute2 is installed")
        };
        eventually(|| ping().status.success())
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "delete", &self.0]).output();
    }
}

/// The output of a program.
///
/// # Panics
/// If it failed.
#[track_caller]
#[expect(
    clippy::must_use_candidate,
    reason = "that it did not fail is often all that matters"
)]
pub fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether a condition becomes true within the deadline.
pub fn eventually(holds: impl Fn() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(50));
    }
    true
}
