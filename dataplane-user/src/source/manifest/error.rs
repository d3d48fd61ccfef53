//! Errors of manifests, each with its position.

use std::fmt::{self, Write};
use std::sync::Arc;

/// A position in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The file as it was named by the caller.
    pub file: Arc<str>,
    /// From 1; 0 when unknown.
    pub line: u64,
    /// From 1, in characters; 0 when unknown.
    pub column: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// One error of a manifest. Its text is one line: `FILE:LINE:COLUMN: FIELD: MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct ManifestError {
    /// The position of the value or key.
    pub position: Position,
    /// The field, for example `spec.prefixes[1]`; empty if the error is about a whole document.
    pub field: String,
    /// What is wrong, and what is expected. It never contains key material.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.position)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", Printable(&self.field))?;
        }
        write!(f, "{}", Printable(&self.message))
    }
}

/// Text from a manifest with escaped control characters, which must neither break the line nor reach a
/// terminal.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if c.is_control() {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// A value of a manifest, with its position.
#[derive(Clone, Debug)]
pub(super) struct Positioned<T> {
    /// The value.
    pub(super) value: T,
    /// The position of the value.
    pub(super) position: Position,
    /// The field, for example `spec.prefixes[1]`.
    pub(super) field: String,
}

impl<T> Positioned<T> {
    /// A converted value at the same position.
    pub(super) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Positioned<U> {
        Positioned {
            value: convert(self.value),
            position: self.position,
            field: self.field,
        }
    }

    /// An error about this value.
    pub(super) fn error(&self, message: impl Into<String>) -> ManifestError {
        ManifestError {
            position: self.position.clone(),
            field: self.field.clone(),
            message: message.into(),
        }
    }
}
