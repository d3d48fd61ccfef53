//! Exit codes, and failures that bear one.

use std::fmt;

/// What a command's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Anything that has no code of its own.
    Error = 1,
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
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure::new(Code::Error, error.into())
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{error:#}"),
            None => Ok(()),
        }
    }
}
