//! `adit wg`: WireGuard keys and interfaces.

mod down;
mod export;
mod import;
mod keys;
mod lock;
mod protect;
mod quick;
mod rotate;
mod show;
mod up;

use clap::{Args, Subcommand};

use super::directories::Directories;
use super::exit::Failure;

/// Manage WireGuard keys and interfaces
///
/// No agent is needed, except for `rotate --finish`. Keys are in base64, as `wg` prints them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit wg pubkey --manifest\n  umask 077; adit wg genkey | tee privatekey | adit wg pubkey > publickey\n  adit wg show\n  adit wg show all latest-handshakes\n  adit wg up wg0\n  adit wg import wg0 --node a"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print a new private key
    Genkey,
    /// Print a new preshared key
    Genpsk,
    /// Read a private key from standard input and print its public key
    Pubkey {
        /// Print the public key of this node instead, as a field for its TunnelNode; create the key if there
        /// is none
        #[arg(long, conflicts_with = "interface")]
        manifest: bool,
        /// Print the public key of the WireGuardInterface of this name instead, if its manifest names no key;
        /// create the key if there is none
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
    },
    // A doc comment on these variants would replace that of their `Arguments`.
    Show(show::Arguments),
    Up(up::Arguments),
    Down(down::Arguments),
    Import(import::Arguments),
    Export(export::Arguments),
    Rotate(rotate::Arguments),
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Genkey => keys::print_private_key(),
        Command::Genpsk => keys::print_preshared_key(),
        Command::Pubkey {
            interface: Some(name),
            ..
        } => keys::print_key_of(directories, name),
        Command::Pubkey { manifest: true, .. } => keys::print_field(directories),
        Command::Pubkey { .. } => keys::print_public_key(),
        Command::Show(arguments) => show::run(arguments).await,
        Command::Up(arguments) => up::run(arguments).await,
        Command::Down(arguments) => down::run(arguments).await,
        Command::Import(arguments) => import::run(directories, arguments),
        Command::Export(arguments) => export::run(arguments).await,
        Command::Rotate(arguments) => rotate::run(directories, arguments).await,
    }
}
