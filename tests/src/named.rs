//! Network namespaces with names, as `ip netns` makes them.

use std::process::{self, Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::NetNs;
use crate::agent::PATIENCE;

/// A namespace with a name; gone with this.
#[derive(Debug)]
pub struct Named(pub String);

impl Named {
    /// A fresh one; its loopback is up.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "making one changes the machine")]
    pub fn new() -> Named {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("test-{}-{number}", process::id());
        Named::of(&name)
    }

    /// A fresh one of this name; its loopback is up.
    ///
    /// # Panics
    /// When it can't be made.
    #[must_use]
    pub fn of(name: &str) -> Named {
        NetNs::current().ip(&format!("netns add {name}"));
        let named = Named(name.to_owned());
        named.ip("link set lo up");
        named
    }

    /// Runs `ip` in it; gives what it prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn ip(&self, words: &str) -> String {
        NetNs::named(&self.0).ip(words)
    }

    /// Several commands by one `ip`.
    ///
    /// # Panics
    /// When one fails.
    pub fn ip_batch(&self, lines: &str) {
        NetNs::named(&self.0).ip_batch(lines);
    }

    /// Whether one ping to an address is answered within the deadline.
    ///
    /// # Panics
    /// When `ping` can't be run.
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

/// What a program printed.
///
/// # Panics
/// When it failed.
#[track_caller]
#[expect(
    clippy::must_use_candidate,
    reason = "that it did not fail is often all that matters"
)]
pub fn said(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Whether something holds within the deadline.
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
