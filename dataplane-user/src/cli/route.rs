//! `adit route`: the routes of ours in the kernel.

mod list;

use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use serde::Serialize;

use super::exit::{Code, Failure};
use super::output::{self, Format};
use super::places::{Manifests, Places};
use super::privilege::{self, NET_ADMIN};
use crate::apply::{ApplyReport, Outcome, apply};
use crate::diff::diff;
use crate::gather::Gatherer;
use crate::kernel::{Kernel, LinuxKernel, Wanted};
use crate::model::{Change, ChangeSet, KernelState};
use crate::plan::plan;
use crate::resource::Intent;
use crate::source;

/// Reads the kernel; works without a running agent. Only routes with Adit's mark are ever changed.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit route list\n  adit route list -o json | jq -r '.[].prefix'\n  adit route validate -f /etc/adit/manifests\n  adit route flush --table 1730"
)]
pub(super) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Shows all of them
    List(list::Arguments),
    /// Puts back those that are missing, removes those that nobody wants, replaces those that say something else
    Validate(Validate),
    /// Removes all of them; a running agent puts back what its manifests want
    Flush(Flush),
}

#[derive(Debug, Args)]
struct Validate {
    #[command(flatten)]
    manifests: Manifests,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Debug, Args)]
struct Flush {
    /// Only of this table
    #[arg(long, value_name = "NUMBER")]
    table: Option<u32>,
}

/// What a validation did.
#[derive(Debug, Default, Serialize)]
struct Validated {
    /// Missing routes that were put back.
    returned: usize,
    /// Routes that nobody wants, which were removed.
    removed: usize,
    /// Routes that said something else, which were replaced.
    replaced: usize,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.command {
        Command::List(arguments) => list::run(arguments).await,
        Command::Validate(arguments) => validate(places, arguments).await,
        Command::Flush(arguments) => flush(arguments).await,
    }
}

async fn validate(places: &Places, arguments: &Validate) -> Result<(), Failure> {
    let resources = source::load(&arguments.manifests.paths)?;
    let intent =
        Intent::new(resources, arguments.manifests.node()?).map_err(|problem| anyhow!("{problem}"))?;
    privilege::require(&[NET_ADMIN])?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let mut gatherer = Gatherer::new(places.state_dir.clone(), Duration::ZERO);
    let facts = gatherer.gather(&mut kernel, &intent).await?;
    let (target, _) = plan(&intent, &facts);
    let set = diff(&kernel.observe().await?, &target);
    let report = apply(&mut kernel, only_routes(set, |_| true)).await;

    let mut validated = Validated::default();
    for (change, outcome) in &report.outcomes {
        if !matches!(outcome, Outcome::Done) {
            continue;
        }
        match change.bare() {
            Change::CreateRoute(..) => validated.returned += 1,
            Change::ReplaceRoute(..) => validated.replaced += 1,
            _ => validated.removed += 1,
        }
    }
    match arguments.output {
        Format::Json => output::json(&validated)?,
        Format::Text => println!(
            "{} missing returned, {} unexpected removed, {} diverged replaced.",
            validated.returned, validated.removed, validated.replaced
        ),
    }
    failures(&report)
}

async fn flush(arguments: &Flush) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let mut kernel = LinuxKernel::without_bpf()?;
    kernel.look_for(&Wanted::default()).await?;
    let set = diff(&kernel.observe().await?, &KernelState::default());
    let in_table = |change: &Change| match change.bare() {
        Change::DeleteRoute(key, _) => arguments.table.is_none_or(|table| key.table == table),
        _ => false,
    };
    let report = apply(&mut kernel, only_routes(set, in_table)).await;
    println!("{} routes removed.", report.done());
    failures(&report)
}

/// The changes of routes, and of these some.
fn only_routes(set: ChangeSet, some: impl Fn(&Change) -> bool) -> ChangeSet {
    let is_route = |change: &Change| {
        matches!(
            change.bare(),
            Change::CreateRoute(..) | Change::ReplaceRoute(..) | Change::DeleteRoute(..)
        )
    };
    let changes = set.changes.into_iter();
    ChangeSet {
        changes: changes
            .filter(|change| is_route(change) && some(change))
            .collect(),
        ..ChangeSet::default()
    }
}

fn failures(report: &ApplyReport) -> Result<(), Failure> {
    let failures = report.failures();
    let failures = failures.map(|(change, error)| format!("{change}: {}", error.beside(change)));
    let failures = failures.collect::<Vec<_>>();
    if failures.is_empty() {
        return Ok(());
    }
    Err(Failure::new(Code::Error, anyhow!("{}", failures.join("; "))))
}
