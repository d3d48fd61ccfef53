//! What is wrong with a manifest, and where.

use std::fmt::{self, Write};
use std::sync::Arc;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file as it was named by the caller.
    pub file: Arc<str>,
    /// From 1; 0 when unknown.
    pub line: u64,
    /// From 1, in characters; 0 when unknown.
    pub column: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

/// One thing that is wrong with a manifest. Shown on one line: `FILE:LINE:COLUMN: FIELD: MESSAGE`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub struct ManifestError {
    /// Where.
    pub place: Place,
    /// The field, as `spec.prefixes[1]`; empty when it is about a whole document.
    pub field: String,
    /// What is wrong, and what would be right. Never holds key material.
    pub message: String,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.place)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", Printable(&self.field))?;
        }
        write!(f, "{}", Printable(&self.message))
    }
}

/// Text from a manifest, control characters escaped: they must neither break the line nor reach a terminal.
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

/// A value of a manifest, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    /// The value.
    pub(super) value: T,
    /// Its place.
    pub(super) place: Place,
    /// Its field, as `spec.prefixes[1]`.
    pub(super) field: String,
}

impl<T> Located<T> {
    /// Another value of the same place.
    pub(super) fn map<U>(self, convert: impl FnOnce(T) -> U) -> Located<U> {
        Located {
            value: convert(self.value),
            place: self.place,
            field: self.field,
        }
    }

    /// Something is wrong with this value.
    pub(super) fn error(&self, message: impl Into<String>) -> ManifestError {
        ManifestError {
            place: self.place.clone(),
            field: self.field.clone(),
            message: message.into(),
        }
    }
}
