//! `adit wg`: WireGuard's keys, and its interfaces.

mod down;
mod export;
mod import;
mod keys;
mod protect;
mod quick;
mod rotate;
mod show;
mod up;

use clap::{Args, Subcommand};

use super::exit::Failure;
use super::places::Places;

/// Keys are in base64, as WireGuard's own tools write them.
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
    /// Prints a new private key
    Genkey,
    /// Prints a new preshared key
    Genpsk,
    /// Reads a private key from the standard input and prints its public key
    Pubkey {
        /// This node's key instead, made if there is none: prints the field for its TunnelNode
        #[arg(long, conflicts_with = "interface")]
        manifest: bool,
        /// That of a WireGuardInterface manifest of this name that names no key, made if there is none
        #[arg(long, value_name = "NAME")]
        interface: Option<String>,
    },
    /// Shows WireGuard's interfaces, also those that are not Adit's
    Show(show::Arguments),
    /// Makes an interface of a file of wg-quick, once
    Up(up::Arguments),
    /// Takes such an interface away
    Down(down::Arguments),
    /// Prints a file of wg-quick as a manifest
    Import(import::Arguments),
    /// Prints an interface as a file of wg-quick
    Export(export::Arguments),
    /// Changes the key of this node's overlay links, without a loss
    Rotate(rotate::Arguments),
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::Genkey => keys::print_private_key(),
        Command::Genpsk => keys::print_preshared_key(),
        Command::Pubkey {
            interface: Some(name),
            ..
        } => keys::print_key_of(places, name),
        Command::Pubkey { manifest: true, .. } => keys::print_field(places),
        Command::Pubkey { .. } => keys::print_public_key(),
        Command::Show(arguments) => show::run(arguments).await,
        Command::Up(arguments) => up::run(arguments).await,
        Command::Down(arguments) => down::run(arguments).await,
        Command::Import(arguments) => import::run(places, arguments),
        Command::Export(arguments) => export::run(arguments).await,
        Command::Rotate(arguments) => rotate::run(places, arguments).await,
    }
}
