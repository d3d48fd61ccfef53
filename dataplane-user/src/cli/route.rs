//! `adit route`: the routes of ours in the kernel, and what leads to the peers.

mod flush;
mod list;
mod validate;
mod withdraw;

use clap::{Args, Subcommand};

use super::exit::Failure;
use super::places::Places;
use crate::apply::ApplyReport;
use crate::kernel::LinuxKernel;
use crate::model::Change;
use crate::reconcile::compare::Comparison;
use crate::reconcile::problems;
use crate::serve::control::RunDirectory;

/// `list` and `validate` read the kernel; `validate` exits with 4 where something differs. `repair` and `flush` change it and exit with
/// 8 while an agent runs, which keeps the routes itself. Only routes with Adit's mark are ever changed. `withdraw` and `restore` exit with 3 when no agent runs, or no peer has the
/// name.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit route list\n  adit route list -o json | jq -r '.[].prefix'\n  adit route validate -f /etc/adit/manifests\n  adit route repair -f /etc/adit/manifests\n  adit route flush --table 1730\n  adit route withdraw node-b\n  adit route restore node-b"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows all of them
    List(list::Arguments),
    /// Tells which are missing, unexpected or say something else, and changes nothing
    Validate(validate::Arguments),
    /// Puts back those that are missing, removes those that nobody wants, replaces those that say something else
    Repair(validate::Arguments),
    /// Delete Adit's routes, except `unreachable` and `blackhole` ones; refused while an agent runs
    Flush(flush::Arguments),
    /// Sends nothing to a peer any more: others that carry its prefixes take over, else they are unreachable
    Withdraw(withdraw::Arguments),
    /// Lets a withdrawn peer have its share again
    Restore(withdraw::Arguments),
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::List(arguments) => list::run(places, arguments).await,
        Command::Validate(arguments) => validate::validate(places, arguments).await,
        Command::Repair(arguments) => validate::repair(places, arguments).await,
        Command::Flush(arguments) => flush::run(places, arguments).await,
        Command::Withdraw(arguments) => withdraw::run(places, arguments, true).await,
        Command::Restore(arguments) => withdraw::run(places, arguments, false).await,
    }
}

/// Takes the agent's lock for a change of routes.
fn lock(places: &Places) -> Result<RunDirectory, Failure> {
    places.lock("a running agent keeps the routes itself: change its manifests, or stop it first")
}

/// Makes those of the changes that are part of `part`; what became of each. Conflicts are left alone: they were told already.
async fn change(
    kernel: &mut LinuxKernel,
    mut compared: Comparison,
    part: impl Fn(&Change) -> bool,
) -> (ApplyReport, Result<(), Failure>) {
    let (report, before) = compared.apply(kernel, part, || {}).await;
    compared.set.conflicts.clear();
    let done = match before {
        Ok(_) => Failure::unless_done(&problems::of_changes(&report, &compared.set)),
        Err(error) => Err(error.into()),
    };
    (report, done)
}
