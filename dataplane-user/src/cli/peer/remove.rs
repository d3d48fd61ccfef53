//! `adit peer remove`.

use clap::Args;

use super::{Sync, Target, failure};
use crate::cli::exit::Failure;

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
    match member.assigned_ip {
        Some(address) => println!("{id} is removed; {address} is free again."),
        None => println!("{id} is removed."),
    }
    Ok(())
}
