//! `adit peer sync`.

use clap::Args;
use serde::Serialize;

use super::{PrefixTarget, failure};
use crate::cli::exit::Failure;
use crate::cli::output::{self, Format};

/// Apply the file to the interface and print each change
///
/// Sets key, port, mark and peers as `wg syncconf` does, and also the routes to allowed IPs. Whatever matches
/// the file already is not touched. A port or a mark that the file does not name stays. A peer that has
/// roamed gets the endpoint of the file again, if the file has one.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    desired: PrefixTarget,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// The answer as JSON.
#[derive(Debug, Serialize)]
struct Answer {
    changes: Vec<String>,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut hub = arguments.desired.open_both().await?;
    let changes = hub.sync().await.map_err(failure)?;
    output::report(&match arguments.output {
        Format::Json => output::json(&Answer { changes })?,
        Format::Text if changes.is_empty() => "The interface matches the file.\n".to_owned(),
        Format::Text => changes.iter().map(|change| format!("{change}\n")).collect(),
    })
}
