//! `adit peer rename`.

use clap::Args;

use super::{Target, device_id, failure, warn};
use crate::cli::exit::Failure;
use crate::cli::output;

/// Gives a device another id.
///
/// The interface knows no ids, and is left alone.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What the device is known by
    #[arg(value_name = "OLD")]
    old: String,
    /// What it shall be known by
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    target: Target,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (old, new) = (&arguments.old, device_id(&arguments.new)?);
    let mut hub = arguments.target.open_alone().await?;
    hub.rename(old, &new).map_err(failure)?;
    warn(&hub);
    output::report(&format!("{old} is {new} now.\n"))
}
