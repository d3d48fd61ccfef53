//! `adit wg genkey`, `genpsk` and `pubkey`, like the commands of `wg`.

use std::io::{self, Read as _};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, anyhow};
use nix::sys::stat::{Mode, SFlag, fstat};
use zeroize::Zeroizing;

use crate::cli::directories::Directories;
use crate::cli::exit::{Code, Failure};
use crate::cli::output;
use crate::kernel::wireguard::generate;
use crate::limits;
use crate::net::KeySource;
use crate::net::{NodeName, PrivateKey};
use crate::source::{KeyRing, key_file};

pub(super) fn print_private_key() -> Result<(), Failure> {
    print_secret(&generate::private_key()?.to_base64())
}

pub(super) fn print_preshared_key() -> Result<(), Failure> {
    print_secret(&generate::preshared_key()?.to_base64())
}

/// Prints the public key of the private key on standard input.
pub(super) fn print_public_key() -> Result<(), Failure> {
    output::show(&format!("{}\n", read_key()?.public_key()))
}

/// Prints the public key of this node as a field of its manifest. Creates the private key if there is none.
pub(super) fn print_field(directories: &Directories) -> Result<(), Failure> {
    let key = key_file::load_or_create(&directories.state_dir, generate::private_key)
        .map_err(|error| Failure::new(code(&error), error.into()))?;
    output::report(&format!("wireguard: {{publicKey: {}}}\n", key.public_key()))
}

/// Prints the public key of a declared interface. Creates the private key if there is none.
pub(super) fn print_key_of(directories: &Directories, name: &str) -> Result<(), Failure> {
    // The name becomes a file name.
    let name =
        NodeName::new(name).map_err(|error| Failure::new(Code::Usage, anyhow!("--interface: {error}")))?;
    let source = KeySource::Generated(name.to_string());
    let public = KeyRing::new(&directories.state_dir).public(&source, Some(generate::private_key));
    let public = public.map_err(|error| Failure::new(code(&error), error.into()))?;
    output::report(&format!("{}\n", public.context("no key was created")?))
}

pub(super) fn code(error: &key_file::KeyFileError) -> Code {
    match error {
        key_file::KeyFileError::Exposed { .. } => Code::Refused,
        key_file::KeyFileError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Code::Privilege
        }
        _ => Code::Error,
    }
}

/// Reads the key on standard input; only white space may follow it.
fn read_key() -> Result<PrivateKey, Failure> {
    let mut text = Zeroizing::new(String::with_capacity(2 * 4096));
    let read = io::stdin()
        .lock()
        .take(limits::KEY_INPUT_BYTES)
        .read_to_string(&mut text);
    // The error for text that is not UTF-8 contains nothing of the text.
    read.context("reading a private key from standard input")?;
    let key = text.trim_ascii_end().parse();
    key.map_err(|error| anyhow!("standard input is not a private key: {error}").into())
}

fn print_secret(text: &str) -> Result<(), Failure> {
    warn_of_readers();
    output::show(&Zeroizing::new(format!("{text}\n")))
}

/// Prints a warning if standard output is a file that other users can read.
pub(super) fn warn_of_readers() {
    if others_can_read_output() {
        output::note(
            "warning: other users can read the file that the output is written to: run `chmod 600` on it, or use `umask 077`",
        );
    }
}

fn others_can_read_output() -> bool {
    let Ok(status) = fstat(io::stdout().as_fd()) else {
        return false;
    };
    let mode = Mode::from_bits_truncate(status.st_mode);
    status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits() && mode.intersects(Mode::S_IRWXO)
}
