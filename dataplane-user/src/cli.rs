//! The command line: one file for each subcommand.

pub mod directories;
pub mod exit;

mod completions;
mod doctor;
mod early;
mod interrupt;
mod man;
mod map;
mod output;
mod peer;
mod plan;
mod privilege;
mod route;
mod run;
mod schema;
mod status;
mod uninstall;
mod wg;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use directories::Directories;
use exit::{Code, Failure};

/// Tunnel dataplane for Linux: joins hosts into an overlay network
///
/// One agent per node reads YAML manifests, creates tunnel devices, BPF programs, routes and firewall rules,
/// and keeps them as declared. Traffic continues when the agent stops.
#[derive(Debug, Parser)]
#[command(name = "adit", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    directories: Directories,
    #[command(subcommand)]
    command: Command,
}

// The help of each command is the doc comment of its `Arguments`: the first paragraph is its line in `adit
// --help`, and `adit COMMAND --help` prints all of it. A doc comment on a variant here would replace both.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Plan(plan::Arguments),
    Status(status::Arguments),
    Doctor(doctor::Arguments),
    Early(early::Arguments),
    Map(map::Arguments),
    Route(route::Arguments),
    Wg(wg::Arguments),
    Peer(peer::Arguments),
    Uninstall(uninstall::Arguments),
    Schema(schema::Arguments),
    Completions(completions::Arguments),
    #[command(hide = true)]
    Man(man::Arguments),
}

/// Runs the command that the command line names.
///
/// # Errors
/// With the failure of the command and its exit code.
pub async fn main(cli: Cli) -> Result<(), Failure> {
    let Cli { directories, command } = cli;
    match command {
        Command::Run(arguments) => run::run(&directories, arguments).await,
        Command::Plan(arguments) => plan::run(&directories, &arguments).await,
        Command::Status(arguments) => status::run(&directories, &arguments).await,
        Command::Doctor(arguments) => doctor::run(&directories, arguments).await,
        Command::Early(arguments) => early::run(&directories, &arguments).await,
        Command::Map(arguments) => map::run(&directories, &arguments).await,
        Command::Route(arguments) => route::run(&directories, &arguments).await,
        Command::Wg(arguments) => wg::run(&directories, &arguments).await,
        Command::Peer(arguments) => peer::run(&arguments).await,
        Command::Uninstall(arguments) => uninstall::run(&directories, &arguments).await,
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

/// Prints the answer of clap: help, the version, or a usage error. Returns the exit code.
#[must_use]
pub fn print(answer: &clap::Error) -> ExitCode {
    let written = answer.print().and_then(|()| io::stdout().flush());
    match written {
        Err(error) if !answer.use_stderr() => fail(&output::write_failure(&error)),
        _ if answer.use_stderr() => ExitCode::from(Code::Usage as u8),
        _ => ExitCode::SUCCESS,
    }
}

/// Prints the error of a command, unless its output has reported it already. Returns the exit code.
#[must_use]
pub fn fail(failure: &Failure) -> ExitCode {
    let message = failure.to_string();
    if !message.is_empty() {
        output::note(&message);
    }
    ExitCode::from(failure.code as u8)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn each_command_shows_examples() {
        let command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands() {
            let help = sub.clone().render_long_help().to_string();
            assert!(help.contains("Examples:\n  adit "), "{}:\n{help}", sub.get_name());
        }
    }
}
