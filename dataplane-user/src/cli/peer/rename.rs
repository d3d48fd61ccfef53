//! `adit peer rename`.

use clap::Args;

use super::{PrefixTarget, device_id, failure, warn};
use crate::cli::exit::Failure;
use crate::cli::output;

/// Change the id of a client
///
/// Ids exist only in the file, so the interface does not change.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Current id
    #[arg(value_name = "OLD")]
    old: String,
    /// New id
    #[arg(value_name = "NEW")]
    new: String,
    #[command(flatten)]
    desired: PrefixTarget,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let (old, new) = (&arguments.old, device_id(&arguments.new)?);
    let mut hub = arguments.desired.open_alone().await?;
    hub.rename(old, &new).map_err(failure)?;
    warn(&hub);
    output::report(&format!("{old} renamed to {new}.\n"))
}
