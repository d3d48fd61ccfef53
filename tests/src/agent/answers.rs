//! What an agent says: its status, and the end of what it was asked for.

use std::sync::PoisonError;
use std::thread;
use std::time::Instant;

use anyhow::Result;
use dataplane_user::serve::control::Request;
use dataplane_user::status::Status;
use nix::sys::signal::Signal;

use super::{Agent, GLANCE, PATIENCE};
use crate::connection::Connection;

impl Agent<'_> {
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

    /// Replaces the manifests and asks for a reconciliation at once: its status. Where it is of interest that changed files are
    /// noticed, [`Agent::write`] is to be used.
    ///
    /// # Panics
    /// When they can't be written, or it does not reconcile.
    pub fn take(&self, manifests: &str) -> Status {
        self.write(manifests);
        self.next_pass()
    }
}
