//! `adit peer remove`.

use clap::Args;

use super::{Sync, Target, failure};
use crate::cli::exit::Failure;
use crate::cli::output;

/// Takes a device away; its address is free again.
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
    let hub = arguments.target.open(&arguments.sync).await?;
    let member = hub.remove(&arguments.id).await.map_err(failure)?;
    let id = &arguments.id;
    output::report(&match member.assigned_ip {
        Some(address) => format!("{id} is removed; {address} is free again.\n"),
        None => format!("{id} is removed.\n"),
    })
}
