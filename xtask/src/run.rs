//! `cargo xtask run`: builds `adit` and replaces this process by it.
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::setup::{self, Need};
use crate::workspace::{self, Profile};

/// Build `adit` and run it on this machine.
#[derive(clap::Args)]
pub struct Args {
    /// Build profile
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// Arguments of `adit` [default: run]
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Returns only if the agent could not be started: it replaces this process, so that it gets the signals and its exit
/// code is the exit code of this command.
pub fn run(args: &Args) -> Result<ExitCode> {
    setup::ensure(&[Need::Build])?;
    let adit = workspace::adit(args.profile)?;

    let mut command = Command::new(&adit);
    if args.args.is_empty() {
        command.arg("run");
    }
    let error = command.args(&args.args).exec();
    Err(error).with_context(|| format!("starting {}", adit.display()))
}
