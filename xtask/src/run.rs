//! `cargo xtask run`: builds `adit` and becomes it.
use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};

use crate::setup::{self, Need};
use crate::workspace::{self, Profile};

/// Build `adit` and run it on this node.
#[derive(clap::Args)]
pub struct Args {
    /// How it is built.
    #[arg(long, value_enum, default_value_t)]
    profile: Profile,
    /// What follows `adit`; nothing means `adit run`.
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Only returns when the agent could not be started: it takes this process's place, so that signals and the exit code
/// are its own.
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
