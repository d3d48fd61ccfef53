//! Manifests: YAML and JSON files, read strictly and converted once into resources.
//!
//! Values are read from a tree that keeps file positions. A derived `Deserialize` would stop at the first
//! error; this reader reports every error of the whole set, each with its line and field.

mod check;
mod document;
mod error;
mod firewall;
mod netlink;
mod network;
mod node;
mod reader;
mod scalar;
pub mod schema;
pub(crate) mod suggest;
#[cfg(test)]
mod tests;
mod tree;

use std::sync::Arc;

pub use error::{ManifestError, Position};

use crate::resource::Resources;

/// The text of one file.
#[derive(Clone, Debug)]
pub struct ManifestFile {
    /// The name of the file, for errors.
    pub name: Arc<str>,
    /// YAML documents, or JSON.
    pub text: String,
}

/// Reads a set of manifests. An empty set is valid.
///
/// `complete` is false if files are missing from the set. Then a reference to an unknown object is not an
/// error, because a missing file may contain it.
///
/// # Errors
/// All errors of the set, in order of files and lines.
pub fn read(files: &[ManifestFile], mut complete: bool) -> Result<Resources, Vec<ManifestError>> {
    let mut errors = Vec::new();
    let mut documents = Vec::new();
    for file in files {
        let nodes = tree::parse(&file.name, &file.text).unwrap_or_else(|error| {
            errors.push(error);
            complete = false;
            Vec::new()
        });
        let report = reader::Report::new(Arc::clone(&file.name));
        for node in &nodes {
            complete &= document::read(&reader::Value::root(&report, node), &mut documents).is_ok();
        }
        errors.extend(report.into_errors());
    }
    let resources = check::check(documents, complete, &mut errors);
    if errors.is_empty() {
        return Ok(resources);
    }
    let order = |file: &str| files.iter().position(|known| *known.name == *file);
    errors.sort_by_cached_key(|error| {
        let position = &error.position;
        (
            order(&position.file),
            position.line,
            position.column,
            error.field.clone(),
        )
    });
    Err(errors)
}

/// The number of documents in a file, without empty ones; `None` if the file can't be parsed.
#[must_use]
pub fn count(file: &ManifestFile) -> Option<usize> {
    tree::parse(&file.name, &file.text)
        .ok()
        .map(|documents| documents.len())
}
