//! Exit codes, and failures that bear one.

use std::fmt;

use anyhow::anyhow;

use crate::resource::{Problem, Severity};

/// What a command's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Anything that has no code of its own.
    Error = 1,
    /// An argument is wrong; clap's own code.
    Usage = 2,
    /// What was asked for is not there.
    NotFound = 3,
    /// `plan` found changes.
    Changes = 4,
    /// The node is not ready.
    Degraded = 5,
    /// A capability is missing.
    Privilege = 6,
    /// It took too long.
    TimedOut = 7,
    /// It must not be done now.
    Refused = 8,
    /// SIGHUP ended it; this and the next two are what a shell says of a signal.
    HungUp = 129,
    /// SIGINT ended it.
    Interrupted = 130,
    /// Nobody reads the output: as a shell tells of an end by SIGPIPE.
    ClosedPipe = 141,
    /// SIGTERM ended it.
    Terminated = 143,
}

/// A failure with its exit code. Silent when the command's output has said it all.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    error: Option<anyhow::Error>,
}

impl Failure {
    /// A failure of a kind.
    #[must_use]
    pub fn new(code: Code, error: anyhow::Error) -> Failure {
        Failure {
            code,
            error: Some(error),
        }
    }

    /// An exit code alone.
    #[must_use]
    pub fn silent(code: Code) -> Failure {
        Failure { code, error: None }
    }

    /// Nothing, where what a command was to do is done.
    ///
    /// # Errors
    /// With those of the problems that are errors, if there are any.
    pub(super) fn unless_done(undone: &[Problem]) -> Result<(), Failure> {
        let errors = undone.iter();
        let errors = errors.filter(|problem| problem.severity == Severity::Error);
        // The remedies are for an agent, which tries again.
        let errors = errors.map(|problem| format!("{}: {}", problem.subject, problem.message));
        let errors = errors.collect::<Vec<_>>();
        match errors.is_empty() {
            true => Ok(()),
            false => Err(Failure::new(Code::Error, anyhow!(errors.join("; ")))),
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(Code::Error, error.into())
    }
}

impl fmt::Display for Failure {
    /// The error and its causes in one line; a cause that the text before it has told already is left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(error) = &self.error else { return Ok(()) };
        let mut text = String::new();
        for cause in error.chain().map(ToString::to_string) {
            if text.contains(&cause) {
                continue;
            }
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&cause);
        }
        f.write_str(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::KernelError;

    #[test]
    fn each_cause_is_told_once() {
        let error = KernelError::new("making adit0", std::io::Error::from_raw_os_error(libc::EPERM));
        let failure = Failure::new(Code::Error, anyhow::Error::new(error).context("starting"));
        assert_eq!(
            failure.to_string(),
            "starting: making adit0: Operation not permitted (os error 1)"
        );
    }
}
