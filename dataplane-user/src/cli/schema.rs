//! `adit schema`: the JSON schema of manifests, for editors.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::exit::{Code, Failure};
use super::output;
use crate::source::manifest::schema::{json_schema, markdown};

/// Print the JSON schema of manifests, for editors
///
/// Editors use the schema to complete and check manifests.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit schema > adit.schema.json\n\nFor editors with yaml-language-server, write this first line in a manifest in the same directory:\n  # yaml-language-server: $schema=adit.schema.json"
)]
pub(super) struct Arguments {
    /// Print this document with its tables of fields updated
    #[arg(long, value_name = "FILE", hide = true)]
    document: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Some(path) = &arguments.document else {
        return output::show(&output::json(&json_schema())?);
    };
    let text = crate::files::read_to_string(path).with_context(|| path.display().to_string())?;
    let updated = markdown(&text).map_err(|error| Failure::new(Code::Error, anyhow!(error)))?;
    output::show(&updated)
}
