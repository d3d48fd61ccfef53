//! `adit peer remove`.

use clap::Args;

use super::{PrefixTarget, Sync, failure, warn};
use crate::cli::exit::Failure;
use crate::cli::output;

/// Remove a client and free its address
///
/// The client is removed from the interface first, then from the file. If it was removed from the file only
/// (--skip-sync), run the command again without that option to remove it from the interface.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Id of the client
    #[arg(value_name = "ID")]
    id: String,
    #[command(flatten)]
    desired: PrefixTarget,
    #[command(flatten)]
    sync: Sync,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut hub = arguments.desired.open(&arguments.sync).await?;
    let member = hub.remove(&arguments.id).await.map_err(failure)?;
    warn(&hub);
    let id = &arguments.id;
    output::report(&match member.assigned_ip {
        Some(address) => format!("{id} removed; {address} is free again.\n"),
        None => format!("{id} removed.\n"),
    })
}
