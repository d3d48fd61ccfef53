//! Exit codes, and failures with an exit code.

use std::fmt;

use anyhow::anyhow;

use crate::resource::{Problem, Severity};

/// The exit code of a command that fails or has something to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Any failure without a code of its own.
    Error = 1,
    /// An argument is wrong; clap uses the same code.
    Usage = 2,
    /// The requested object does not exist.
    NotFound = 3,
    /// `plan` or `route validate` found changes.
    Changes = 4,
    /// The node is not ready, or a problem remains that no change solves.
    Degraded = 5,
    /// A capability is missing.
    Privilege = 6,
    /// Time-out.
    TimedOut = 7,
    /// Refused, for example because an agent runs.
    Refused = 8,
    /// Ended by SIGHUP. Codes of signals are 128 + N, as in a shell.
    HungUp = 129,
    /// Ended by SIGINT.
    Interrupted = 130,
    /// The output was closed; the code of SIGPIPE.
    ClosedPipe = 141,
    /// Ended by SIGTERM.
    Terminated = 143,
}

/// A failure with its exit code. It is silent if the output of the command has reported everything already.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    error: Option<anyhow::Error>,
}

impl Failure {
    /// A failure with a message.
    #[must_use]
    pub fn new(code: Code, error: anyhow::Error) -> Failure {
        Failure {
            code,
            error: Some(error),
        }
    }

    /// A failure without a message.
    #[must_use]
    pub fn silent(code: Code) -> Failure {
        Failure { code, error: None }
    }

    /// Succeeds unless one of the problems is an error.
    ///
    /// # Errors
    /// With all problems whose severity is `Error`.
    pub(super) fn unless_done(undone: &[Problem]) -> Result<(), Failure> {
        let errors = undone.iter();
        let errors = errors.filter(|problem| problem.severity == Severity::Error);
        // The remedies are written for an agent, which retries.
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
    /// The error and its causes in one line, without causes that the text before them contains already.
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
    fn each_cause_is_reported_once() {
        let error = KernelError::new("making adit0", std::io::Error::from_raw_os_error(libc::EPERM));
        let failure = Failure::new(Code::Error, anyhow::Error::new(error).context("starting"));
        assert_eq!(
            failure.to_string(),
            "starting: making adit0: Operation not permitted (os error 1)"
        );
    }
}
