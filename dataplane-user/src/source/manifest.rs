//! Manifests: the YAML and JSON that users write, read strictly and converted once into resources.
//!
//! Values are read from a tree that keeps places instead of by derived `Deserialize`: that stops at the first error,
//! and here every error of the whole set is told, each with its line and field.

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

pub use error::{ManifestError, Place};

use crate::resource::Resources;

/// The text of one file.
#[derive(Clone, Debug)]
pub struct ManifestFile {
    /// Its name, for errors.
    pub name: Arc<str>,
    /// YAML documents, or JSON.
    pub text: String,
}

/// Reads a set of manifests; an empty set is fine.
///
/// `complete` is false when files are missing from the set: then references to what they may hold are no errors.
///
/// # Errors
/// All that is wrong, in order of files and lines.
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
        let place = &error.place;
        (order(&place.file), place.line, place.column, error.field.clone())
    });
    Err(errors)
}

/// How many documents a text holds, empty ones left out; `None` where it can't be parsed.
#[must_use]
pub fn count(file: &ManifestFile) -> Option<usize> {
    tree::parse(&file.name, &file.text)
        .ok()
        .map(|documents| documents.len())
}
