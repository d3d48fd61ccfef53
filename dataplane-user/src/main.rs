//! The `adit` command.

#![warn(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::Parser;
use dataplane_user::cli::{self, Cli};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return cli::print(&answer),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => {
            // The agent runs on one thread: kernel handles stay in one network namespace, and futures need not be
            // Send.
            let local = tokio::task::LocalSet::new();
            local.block_on(&runtime, cli::main(cli))
        }
        Err(error) => Err(error.into()),
    };
    let Err(failure) = result else {
        return ExitCode::SUCCESS;
    };
    cli::fail(&failure)
}
