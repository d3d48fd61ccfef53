//! `adit wg`: WireGuard's keys.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use nix::sys::stat::{Mode, SFlag, fstat};
use zeroize::Zeroizing;

use super::exit::{Code, Failure};
use super::places::Places;
use crate::kernel::wireguard::generate;
use crate::net::PrivateKey;
use crate::source::key_file;

/// Longer than any key with white space around it.
const MOST_BYTES: u64 = 4096;

/// Keys are in base64, as WireGuard's own tools write them.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit wg pubkey --manifest\n  umask 077; adit wg genkey | tee privatekey | adit wg pubkey > publickey"
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
}

pub(super) fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    match arguments.command {
        Command::Genkey => print_secret(&generate::private_key()?.to_base64()),
        Command::Genpsk => print_secret(&generate::preshared_key()?.to_base64()),
        Command::Pubkey { manifest: false } => print(&read_key()?.public_key().to_string()),
        Command::Pubkey { manifest: true } => {
            let key = key_file::load_or_make(&places.state_dir, generate::private_key)
                .map_err(|error| Failure::new(code(&error), error.into()))?;
            print(&format!("wireguard: {{publicKey: {}}}", key.public_key()))
        }
    }
}

fn code(error: &key_file::KeyFileError) -> Code {
    match error {
        key_file::KeyFileError::Exposed { .. } => Code::Refused,
        key_file::KeyFileError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Code::Privilege
        }
        _ => Code::Error,
    }
}

/// The one key on the standard input, with white space behind it at most.
fn read_key() -> Result<PrivateKey, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(2 * 4096));
    let read = io::stdin().lock().take(MOST_BYTES).read_to_string(&mut text);
    // The error of what is no UTF-8 says nothing of the text.
    read.context("reading a private key from the standard input")?;
    let key = text.trim_ascii_end().parse();
    key.map_err(|error| anyhow!("the standard input is no private key: {error}").into())
}

fn print_secret(text: &str) -> Result<(), Failure> {
    if others_can_read_output() {
        eprintln!(
            "adit: others can read the file that this is written to: `umask 077` before, or `chmod 600` it now"
        );
    }
    print(text)
}

fn others_can_read_output() -> bool {
    let Ok(status) = fstat(io::stdout().as_fd()) else {
        return false;
    };
    let mode = Mode::from_bits_truncate(status.st_mode);
    status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() && mode.intersects(Mode::S_IRWXO)
}

/// Unlike `println!`, a closed pipe is an error and not a panic.
fn print(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    writeln!(output, "{text}").context("writing to the standard output")?;
    Ok(())
}
