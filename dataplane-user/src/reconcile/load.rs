//! Loads manifests as seen from one node. The agent and all commands use this.

use std::path::PathBuf;

use super::problems;
use crate::net::NodeName;
use crate::resource::{Intent, Problem};
use crate::source::file::{self, LoadErrors};
use crate::source::manifest::ManifestFile;

/// Why manifests are rejected. The text has one or more lines.
#[derive(Debug, thiserror::Error)]
pub enum Rejected {
    /// At least one manifest is invalid.
    #[error(transparent)]
    Invalid(#[from] LoadErrors),
    /// They don't declare the node.
    #[error("{0}")]
    NodeAbsent(Box<Problem>),
}

impl Rejected {
    /// The same as a problem of the status.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Rejected::Invalid(errors) => problems::invalid(errors),
            Rejected::NodeAbsent(problem) => Problem::clone(problem),
        }
    }
}

/// The manifests as seen from the node, and the files that they were read from.
///
/// # Errors
/// When they are rejected.
pub fn load(paths: &[PathBuf], node: NodeName) -> Result<(Intent, Vec<ManifestFile>), Rejected> {
    let set = file::load_set(paths)?;
    let intent = Intent::new(set.resources, node);
    let intent = intent.map_err(|problem| Rejected::NodeAbsent(Box::new(problem)))?;
    Ok((intent, set.files))
}
