//! The command line: one file a subcommand.

pub mod exit;
pub mod places;

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

use exit::{Code, Failure};
use places::Places;

/// An eBPF-accelerated tunnel dataplane: one agent per node turns manifests into tunnel devices, BPF programs and
/// routes, and keeps them so.
#[derive(Debug, Parser)]
#[command(name = "adit", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    places: Places,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs this node's agent: loads manifests, makes the kernel hold what they say, watches both.
    Run(run::Arguments),
    /// Shows what `run` would change, and changes nothing. Exits with 4 if there is anything.
    Plan(plan::Arguments),
    /// Shows the running agent's state.
    Status(status::Arguments),
    /// Checks whether this machine has what an agent needs, and what stands in its way.
    Doctor(doctor::Arguments),
    /// Makes what must stand before the network is up: adit0's addresses, and routes that refuse.
    Early(early::Arguments),
    /// Reads the BPF maps; works without a running agent.
    Map(map::Arguments),
    /// Lists, validates and removes routes of ours; takes peers out of use, and back.
    Route(route::Arguments),
    /// Makes WireGuard's keys, and shows its interfaces.
    Wg(wg::Arguments),
    // A text here would hide the arguments' own, which is longer.
    Peer(peer::Arguments),
    /// Removes everything that Adit made on this node.
    Uninstall(uninstall::Arguments),
    // A text here would hide the arguments' own.
    Schema(schema::Arguments),
    /// Prints a shell's completions.
    Completions(completions::Arguments),
    /// Writes the manual pages into a directory.
    #[command(hide = true)]
    Man(man::Arguments),
}

/// Runs the command that the process's arguments name.
///
/// # Errors
/// What it fails with, and the exit code that says so.
pub async fn main(cli: Cli) -> Result<(), Failure> {
    let Cli { places, command } = cli;
    match command {
        Command::Run(arguments) => run::run(&places, arguments).await,
        Command::Plan(arguments) => plan::run(&places, &arguments).await,
        Command::Status(arguments) => status::run(&places, &arguments).await,
        Command::Doctor(arguments) => doctor::run(&places, arguments).await,
        Command::Early(arguments) => early::run(&places, &arguments).await,
        Command::Map(arguments) => map::run(&places, &arguments).await,
        Command::Route(arguments) => route::run(&places, &arguments).await,
        Command::Wg(arguments) => wg::run(&places, &arguments).await,
        Command::Peer(arguments) => peer::run(&arguments).await,
        Command::Uninstall(arguments) => uninstall::run(&places, &arguments).await,
        Command::Schema(arguments) => schema::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

/// Prints clap's answer: help, the version, or a usage error. Returns the exit code.
#[must_use]
pub fn print(told: &clap::Error) -> ExitCode {
    let written = told.print().and_then(|()| io::stdout().flush());
    match written {
        Err(error) if !told.use_stderr() => fail(&output::write_failure(&error)),
        _ if told.use_stderr() => ExitCode::from(Code::Usage as u8),
        _ => ExitCode::SUCCESS,
    }
}

/// Says what a command failed with, if its output has not said so already. Returns the exit code.
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
