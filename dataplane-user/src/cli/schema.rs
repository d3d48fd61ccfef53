//! `adit schema`: what manifests may say, for editors.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::exit::{Code, Failure};
use super::output;
use crate::source::manifest::schema::{json_schema, markdown};

/// Print the JSON schema of manifests, by which editors complete and check them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit schema > adit.schema.json\n\nThe first line of a manifest beside that file, for editors with yaml-language-server:\n  # yaml-language-server: $schema=adit.schema.json"
)]
pub(super) struct Arguments {
    /// Print this document with its tables of fields created anew
    #[arg(long, value_name = "FILE", hide = true)]
    document: Option<PathBuf>,
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let Some(path) = &arguments.document else {
        return output::show(&output::json(&json_schema())?);
    };
    let text = crate::files::read_to_string(path).with_context(|| path.display().to_string())?;
    let made = markdown(&text).map_err(|error| Failure::new(Code::Error, anyhow!(error)))?;
    output::show(&made)
}
