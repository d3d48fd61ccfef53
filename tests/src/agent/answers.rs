//! The status of an agent, and waiting for reconciliations.

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
    /// Waits until the agent is ready.
    ///
    /// # Panics
    /// If it does not in time.
    pub fn ready(&self) {
        self.wait("ready", |status| status.ready);
    }

    /// The status, read from the socket of the agent.
    ///
    /// # Errors
    /// If the agent does not answer.
    pub fn status(&self) -> Result<Status> {
        self.ask(&Request::Status)
    }

    /// Sends a request to the socket of the agent. The connection is kept for the next request.
    fn ask(&self, request: &Request) -> Result<Status> {
        let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(connection) = &mut *kept
            && let Ok(status) = connection.ask(request)
        {
            return Ok(status);
        }
        // There was no connection, or it was to an earlier agent, or idle for too long.
        *kept = None;
        let mut connection = Connection::open(&self.run_directory())?;
        let status = connection.ask(request)?;
        *kept = Some(connection);
        Ok(status)
    }

    /// Waits until the status meets a condition; `what` describes it.
    ///
    /// # Panics
    /// If it does not in time.
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

    /// Waits until the log contains these words, five times as long as for other conditions, because the agent may run under
    /// `strace`.
    ///
    /// # Panics
    /// If the log does not contain them in time.
    pub fn wait_for_log(&self, words: &str) {
        let deadline = Instant::now() + 5 * PATIENCE;
        while !self.log().contains(words) {
            assert!(Instant::now() < deadline, "the log does not contain {words:?}");
            thread::sleep(GLANCE);
        }
    }

    /// Asks for a full reconciliation by SIGHUP, and waits for the end of one that began after this call, so that it
    /// has seen all earlier changes. Returns the status.
    ///
    /// # Panics
    /// If there is none in time.
    pub fn next_reconciliation(&self) -> Status {
        // A running reconciliation may have read state before the test changed it.
        let begun = self.wait("answering", |_| true).reconciliation.begun;
        self.signal(Signal::SIGHUP);
        self.ask(&Request::Reconciled(begun + 1))
            .expect("an agent reconciles when it is asked to")
    }

    /// Asks for a reconciliation and asserts a condition of the status after it. For changes that send no event.
    ///
    /// # Panics
    /// If the status does not meet the condition.
    pub fn reconciled(&self, what: &str, wanted: impl Fn(&Status) -> bool) -> Status {
        let status = self.next_reconciliation();
        assert!(wanted(&status), "not {what}: {status:#?}");
        status
    }

    /// Replaces the manifests and asks for a reconciliation at once. Returns the status. Tests about noticing changed
    /// files use [`Agent::write`] instead.
    ///
    /// # Panics
    /// If they cannot be written, or the agent does not reconcile.
    pub fn apply(&self, manifests: &str) -> Status {
        self.write(manifests);
        self.next_reconciliation()
    }
}
