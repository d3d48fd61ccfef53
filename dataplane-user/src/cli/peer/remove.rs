//! `adit peer remove`.

use clap::Args;

use super::{Sync, Target, failure, warn};
use crate::cli::exit::Failure;
use crate::cli::output;

/// Takes a device away; its address is free again.
///
/// The interface loses the device's key before the file does. Where that was put off (--skip-sync), a second run catches up.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// What the device is known by
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    sync: Sync,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut hub = arguments.target.open(&arguments.sync).await?;
    let member = hub.remove(&arguments.id).await.map_err(failure)?;
    warn(&hub);
    let id = &arguments.id;
    output::report(&match member.assigned_ip {
        Some(address) => format!("{id} is removed; {address} is free again.\n"),
        None => format!("{id} is removed.\n"),
    })
}
