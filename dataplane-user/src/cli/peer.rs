//! `adit peer`: the devices that a WireGuard hub lets in, in its `wg-quick` file and in its interface.

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

/// Lets devices in to a WireGuard hub, each with an address of its own; takes them away, lists and renames them.
///
/// Above each `[Peer]` of the file stands `# DeviceID:<id>`; all else in it stays as it is, and what was is kept beside it
/// as `.bak`, or as `.bak-<time>` where the `.bak` is somebody else's. The file's mode is 0600 after each change. Of the
/// interface, which has the file's name without `.conf`, only the peer that changes is touched, with the routes to its
/// allowed IPs.
///
/// Exits with 2 when an argument is wrong, 3 when there is no such file or device, 7 when the file stays locked, and 8
/// when the file does not allow it; nothing is changed then.
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
    // Texts here would hide the arguments' own, which are longer.
    Add(add::Arguments),
    Remove(remove::Arguments),
    List(list::Arguments),
    Rename(rename::Arguments),
    Sync(sync::Arguments),
}

/// The file that is changed.
#[derive(Debug, Args)]
struct Target {
    /// The hub's file, as `wg-quick` reads it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    config: PathBuf,
    /// How long to wait while somebody else changes the file, in seconds; exits with 7 after it
    #[arg(long, default_value_t = 30, value_name = "SECONDS")]
    lock_timeout: u64,
}

/// Whether the interface gets the change, too.
#[derive(Debug, Args)]
struct Sync {
    /// Changes the file alone, as for an interface that is not up
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

impl Target {
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
                "{} is no interface's file: name it as one, or change it alone with WG_SKIP_SYNCCONF=1",
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

/// Tells what the user has to know although all was done.
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
        | HubError::NotBroughtBack { .. } => Code::Error,
    };
    Failure::new(code, error.into())
}
