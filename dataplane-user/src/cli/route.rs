//! `adit route`: Adit's routes in the kernel, and withdrawal of peers.

mod flush;
mod list;
mod validate;
mod withdraw;

use clap::{Args, Subcommand};

use super::directories::{Directories, Locks};
use super::exit::Failure;
use crate::apply::ApplyReport;
use crate::kernel::LinuxKernel;
use crate::model::Change;
use crate::reconcile::compare::Comparison;
use crate::reconcile::problems;

/// List, validate, repair and delete Adit's routes; withdraw peers
///
/// `list` and `validate` only read. `repair` and `flush` are refused while an agent runs, because the agent
/// keeps the routes itself. They change only routes that are managed by Adit. `withdraw` and `restore` ask
/// the running agent.
///
/// Exit codes: 3 if `withdraw` or `restore` find no agent or no such peer, 4 if `validate` finds changes, 5
/// if it finds only conflicts or could not compare everything, 8 if an agent runs.
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
    /// List Adit's routes
    List(list::Arguments),
    /// Compare Adit's routes with the manifests, and change nothing
    ///
    /// Prints what is missing, unexpected or different. Next-hop objects, their neighbours, and the rules
    /// that lead to Adit's tables are included.
    ///
    /// Exit codes: 0 if all routes match, 4 if there are changes. 5 if there are only conflicts, if routes wait for
    /// something, or if a namespace can't be read or an object can't be decoded.
    Validate(validate::Arguments),
    /// Reconcile Adit's routes with the manifests; refused while an agent runs
    ///
    /// Creates what is missing, deletes what is unexpected, and replaces what is different. Next-hop objects,
    /// their neighbours, and the rules that lead to Adit's tables are included.
    Repair(validate::Arguments),
    /// Delete Adit's routes, except `unreachable` and `blackhole` ones; refused while an agent runs
    Flush(flush::Arguments),
    /// Withdraw a peer: send it no more packets until `restore`
    ///
    /// Other peers that advertise the same prefixes take over. A prefix that no other peer advertises is
    /// unreachable. The peer stays withdrawn when the agent restarts. A peer that is withdrawn already is not an
    /// error.
    Withdraw(withdraw::Arguments),
    /// Use a withdrawn peer again
    ///
    /// A peer that is not withdrawn is not an error.
    Restore(withdraw::Arguments),
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::List(arguments) => list::run(directories, arguments).await,
        Command::Validate(arguments) => validate::validate(directories, arguments).await,
        Command::Repair(arguments) => validate::repair(directories, arguments).await,
        Command::Flush(arguments) => flush::run(directories, arguments).await,
        Command::Withdraw(arguments) => withdraw::run(directories, arguments, true).await,
        Command::Restore(arguments) => withdraw::run(directories, arguments, false).await,
    }
}

/// Takes the locks of the agent for a change of routes.
fn lock(directories: &Directories) -> Result<Locks, Failure> {
    directories.lock("a running agent keeps the routes itself; change its manifests, or stop it first")
}

/// Executes the changes that `part` selects. Returns the outcome of each, and a failure if something remains
/// undone. Conflicts do not count; they were reported before.
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
