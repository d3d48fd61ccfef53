//! `adit peer sync`.

use clap::Args;
use serde::Serialize;

use super::{Target, failure};
use crate::cli::exit::Failure;
use crate::cli::output::{self, Format};

/// Brings the interface in line with the file, and tells each change.
///
/// Key, port, mark and peers become what the file says, as by `wg syncconf`, and so do the routes to allowed IPs; what is so
/// already is not touched. A port or a mark that the file doesn't say stays. A peer that has roamed gets the file's endpoint
/// again, if the file has one.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What programs get.
#[derive(Debug, Serialize)]
struct Answer {
    changes: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut hub = arguments.target.open_both().await?;
    let changes = hub.sync().await.map_err(failure)?;
    output::report(&match arguments.output {
        Format::Json => output::json(&Answer { changes })?,
        Format::Text if changes.is_empty() => "The interface has what the file says.\n".to_owned(),
        Format::Text => changes.iter().map(|change| format!("{change}\n")).collect(),
    })
}
