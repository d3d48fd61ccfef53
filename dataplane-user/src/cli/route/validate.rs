//! `adit route validate`: what differs of the routes. `adit route repair`: puts it right.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{failures, lock};
use crate::apply::{Outcome, apply};
use crate::cli::exit::{Code, Failure};
use crate::cli::output::{self, Format};
use crate::cli::places::{Manifests, Places};
use crate::cli::privilege::{self, NET_ADMIN};
use crate::gather::Gatherer;
use crate::kernel::LinuxKernel;
use crate::model::change::{ObjectKind, Verb};
use crate::model::{Action, Change, ChangeSet, Conflict, Object};
use crate::reconcile::compare::Comparison;

/// Next-hop objects, their neighbours and the rules that lead to tables of ours are part of routes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What differs.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    counts: Counts,
    /// What `repair` would change.
    changes: Vec<String>,
}

/// What differs, or was put right.
#[derive(Debug, Default, Serialize)]
struct Counts {
    /// It is not there, and shall be.
    missing: usize,
    /// It is there, and nobody wants it.
    unexpected: usize,
    /// It says something else than it shall.
    diverged: usize,
}

/// Tells, and changes nothing.
pub(super) async fn validate(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let gatherer = Gatherer::new(places.state_dir.clone(), Duration::ZERO);
    let set = differences(&mut kernel, gatherer, arguments).await?;
    let found = Found {
        counts: Counts::of(set.changes.iter().map(|change| &change.action)),
        changes: set.changes.iter().map(ToString::to_string).collect(),
    };
    output::show(&match arguments.output {
        Format::Json => output::json(&found)?,
        Format::Text => {
            let changes = found.changes.iter().map(|change| format!("{change}\n"));
            changes.chain([found.counts.text()]).collect()
        }
    })?;
    match (found.changes.is_empty(), set.conflicts.is_empty()) {
        (false, _) => Err(Failure::silent(Code::Changes)),
        (true, false) => Err(Failure::silent(Code::Degraded)),
        (true, true) => Ok(()),
    }
}

/// Puts all of it right.
pub(super) async fn repair(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let _lock = lock(places)?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let gatherer = Gatherer::new(places.state_dir.clone(), Duration::ZERO).for_changes();
    let set = differences(&mut kernel, gatherer, arguments).await?;
    let report = apply(&mut kernel, set).await;
    let done = report.outcomes.iter().filter_map(|(change, outcome)| {
        let is_done = matches!(outcome, Outcome::Done);
        is_done.then_some(&change.action)
    });
    let counts = Counts::of(done);
    let told = output::report(&match arguments.output {
        Format::Json => output::json(&counts)?,
        Format::Text => format!("Put right: {}", counts.text()),
    });
    failures(&report)?;
    told
}

/// What differs of the routes; what the plan can't do is told beside it.
async fn differences(
    kernel: &mut LinuxKernel,
    mut gatherer: Gatherer,
    arguments: &Arguments,
) -> Result<ChangeSet, Failure> {
    let intent = arguments.manifests.intent()?;
    let compared = Comparison::new(kernel, &mut gatherer, &intent, || {}).await?;
    for problem in compared.problems() {
        output::note(&problem.to_string());
    }
    let conflicts = compared.set.conflicts.clone();
    let of_routes =
        |conflict: &Conflict| matches!(conflict.object.object, Object::Route(_) | Object::Neighbour(..));
    Ok(ChangeSet {
        conflicts: conflicts.into_iter().filter(of_routes).collect(),
        ..compared.set.only(is_of_routes)
    })
}

impl Counts {
    fn of<'c>(actions: impl Iterator<Item = &'c Action>) -> Counts {
        let mut counts = Counts::default();
        for action in actions {
            *match action.verb() {
                Verb::Delete => &mut counts.unexpected,
                // A neighbour is put, whether one is there or not.
                Verb::Set if action.object().kind() != ObjectKind::Neighbour => &mut counts.diverged,
                Verb::Add | Verb::Set => &mut counts.missing,
            } += 1;
        }
        counts
    }

    fn text(&self) -> String {
        let Counts {
            missing,
            unexpected,
            diverged,
        } = self;
        format!("{missing} missing, {unexpected} unexpected, {diverged} diverged.\n")
    }
}

fn is_of_routes(change: &Change) -> bool {
    match change.action.object() {
        Object::Route(_) | Object::NextHopObject(_) | Object::Neighbour(..) => true,
        // Those about what comes in by a device go with that.
        Object::Rule(rule) => rule.iif.is_none(),
        _ => false,
    }
}
