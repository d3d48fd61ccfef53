//! `adit peer`: the clients of a WireGuard hub, in its wg-quick file and on its interface.

mod add;
mod list;
mod remove;
mod rename;
mod sync;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::anyhow;
use clap::builder::FalseyValueParser;
use clap::{Args, Subcommand, ValueHint};

use super::exit::{Code, Failure};
use super::output;
use super::privilege::{self, NET_ADMIN};
use crate::hub::{DeviceId, Hub, HubError, LiveDevice, SyncError};

/// Add, remove, rename and list the clients of a WireGuard hub
///
/// The clients are the `[Peer]` sections of the wg-quick file of the hub. Each has an address of its own, and
/// an id in a comment `# DeviceID:<id>` above the section. The rest of the file is kept. Each change keeps
/// the previous file as `.bak`, or as `.bak-<time>` if a `.bak` exists that Adit did not create, and sets the
/// mode of the file to 0600.
///
/// Changes apply to the interface, too. It has the name of the file without `.conf`. Only the changed client
/// and the routes to its allowed IPs are touched.
///
/// Exit codes: 2 if an argument is wrong, 3 if the file or the client does not exist, 7 if the file stays
/// locked, 8 if the file does not allow the change. Nothing is changed then.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit peer add laptop-7 --public-key \"$(cat laptop-7.pub)\" --config /etc/wireguard/wg0.conf --subnet 10.42.0.0/24\n  adit peer add laptop-7 --public-key \"$(cat laptop-7.pub)\" --config wg0.conf --subnet fd42::/64 -o json | jq -r .assigned_ip\n  adit peer list --config /etc/wireguard/wg0.conf\n  adit peer rename laptop-7 laptop-8 --config /etc/wireguard/wg0.conf\n  adit peer remove laptop-8 --config /etc/wireguard/wg0.conf\n  adit peer sync --config /etc/wireguard/wg0.conf"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    // A doc comment on a variant would replace that of its `Arguments`.
    Add(add::Arguments),
    Remove(remove::Arguments),
    List(list::Arguments),
    Rename(rename::Arguments),
    Sync(sync::Arguments),
}

/// The file to change.
#[derive(Debug, Args)]
struct PrefixTarget {
    /// The wg-quick file of the hub
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// Time to wait while another process changes the file, in seconds; then the exit code is 7
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    lock_timeout: u64,
}

/// Whether to change the interface, too.
#[derive(Debug, Args)]
struct Sync {
    /// Change only the file, for example while the interface is not up
    #[arg(long, env = "WG_SKIP_SYNCCONF", value_parser = FalseyValueParser::new())]
    skip_sync: bool,
}

pub(super) async fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Add(arguments) => add::run(arguments).await,
        Command::Remove(arguments) => remove::run(arguments).await,
        Command::List(arguments) => list::run(arguments),
        Command::Rename(arguments) => rename::run(arguments).await,
        Command::Sync(arguments) => sync::run(arguments).await,
    }
}

impl PrefixTarget {
    async fn open(&self, sync: &Sync) -> Result<Hub<LiveDevice>, Failure> {
        match sync.skip_sync {
            true => self.open_alone().await,
            false => self.open_both().await,
        }
    }

    /// With the interface.
    async fn open_both(&self) -> Result<Hub<LiveDevice>, Failure> {
        let link = LiveDevice::name_of(&self.config).map_err(|error| {
            let error = anyhow!(error).context(format!(
                "{} has no name such as wg0.conf, so its interface is unknown: rename it, or change only the file with \
                 --skip-sync",
                self.config.display()
            ));
            Failure::new(Code::Refused, error)
        })?;
        privilege::require(&[NET_ADMIN])?;
        let live = LiveDevice::open(link)?;
        Hub::open(&self.config, self.patience(), Some(live))
            .await
            .map_err(failure)
    }

    /// Without the interface.
    async fn open_alone(&self) -> Result<Hub<LiveDevice>, Failure> {
        Hub::open(&self.config, self.patience(), None)
            .await
            .map_err(failure)
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.lock_timeout)
    }
}

/// Prints warnings about a change that succeeded.
fn warn(hub: &Hub<LiveDevice>) {
    for warning in hub.warnings() {
        output::note(&format!("warning: {warning}"));
    }
}

fn device_id(text: &str) -> Result<DeviceId, Failure> {
    DeviceId::new(text).map_err(|error| usage(error.into()))
}

fn usage(error: anyhow::Error) -> Failure {
    Failure::new(Code::Usage, error)
}

fn failure(error: HubError) -> Failure {
    let code = match &error {
        HubError::Io { source, .. } => match source.kind() {
            io::ErrorKind::NotFound => Code::NotFound,
            io::ErrorKind::PermissionDenied => Code::Privilege,
            _ => Code::Error,
        },
        HubError::Unknown { .. } | HubError::UnknownWithStale { .. } => Code::NotFound,
        HubError::Refused { .. } | HubError::Sync(SyncError::Kept { .. }) => Code::Refused,
        HubError::Locked { .. } => Code::TimedOut,
        HubError::Config(_)
        | HubError::Sync(_)
        | HubError::NotRestored { .. }
        | HubError::NotUndone { .. } => Code::Error,
    };
    Failure::new(code, error.into())
}
