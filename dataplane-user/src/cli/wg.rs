//! `adit wg`: WireGuard's keys, and its interfaces.

mod keys;
mod show;

use clap::{Args, Subcommand};

use super::exit::Failure;
use super::places::Places;

/// Keys are in base64, as WireGuard's own tools write them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit wg pubkey --manifest\n  umask 077; adit wg genkey | tee privatekey | adit wg pubkey > publickey\n  adit wg show\n  adit wg show all latest-handshakes"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints a new private key
    Genkey,
    /// Prints a new preshared key
    Genpsk,
    /// Reads a private key from the standard input and prints its public key
    Pubkey {
        /// This node's key instead, made if there is none: prints the field for its TunnelNode
        #[arg(long)]
        manifest: bool,
    },
    /// Shows WireGuard's interfaces, also those that are not Adit's
    Show(show::Arguments),
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Genkey => keys::print_private_key(),
        Command::Genpsk => keys::print_preshared_key(),
        Command::Pubkey { manifest: false } => keys::print_public_key(),
        Command::Pubkey { manifest: true } => keys::print_field(places),
        Command::Show(arguments) => show::run(arguments).await,
    }
}
