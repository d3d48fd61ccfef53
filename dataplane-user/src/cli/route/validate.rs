//! `adit route validate` compares the routes with the manifests, `adit route repair` reconciles them.

use clap::Args;
use serde::Serialize;

use super::{change, lock};
use crate::apply::Outcome;
use crate::cli::directories::{Directories, Manifests};
use crate::cli::exit::{Code, Failure};
use crate::cli::output::{self, Format};
use crate::cli::privilege::{self, NET_ADMIN};
use crate::gather::Gatherer;
use crate::kernel::LinuxKernel;
use crate::model::change::{ObjectKind, Verb};
use crate::model::{Action, Change, Located, Object};
use crate::reconcile::compare::Comparison;

// No doc comment: `validate` and `repair` have texts of their own in `route.rs`.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// Differences between the kernel and the manifests.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    counts: Counts,
    /// The changes that `repair` would make.
    changes: Vec<String>,
}

/// Numbers of differences, or of repairs.
#[derive(Debug, Default, Serialize)]
struct Counts {
    /// Desired, but does not exist.
    missing: usize,
    /// Exists, but is not desired.
    unexpected: usize,
    /// Exists, but differs from the desired state.
    diverged: usize,
}

/// Prints the differences and changes nothing.
pub(super) async fn validate(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let compared = compare(&mut kernel, directories.gatherer(), arguments).await?;
    let changes = compared
        .set
        .changes
        .iter()
        .filter(|change| changes_routes(change));
    let found = Found {
        counts: Counts::of(changes.clone().map(|change| &change.action)),
        changes: changes.map(ToString::to_string).collect(),
    };
    output::show(&match arguments.output {
        Format::Json => output::json(&found)?,
        Format::Text => {
            let changes = found.changes.iter().map(|change| format!("{change}\n"));
            changes.chain([found.counts.text()]).collect()
        }
    })?;
    match (found.changes.is_empty(), is_complete(&compared)) {
        (false, _) => Err(Failure::silent(Code::Changes)),
        (true, false) => Err(Failure::silent(Code::Degraded)),
        (true, true) => Ok(()),
    }
}

/// Whether all routes were compared: none is in conflict or waits for something, and everything could be read.
fn is_complete(compared: &Comparison) -> bool {
    let Comparison {
        desired,
        observed,
        set,
        ..
    } = compared;
    let concerns_routes = |located: &Located| match &located.object {
        Object::Link(link) => {
            let there = desired.at(located.namespace.as_ref()).into_iter();
            let mut routes = there.flat_map(|there| there.routes.values());
            routes.any(|route| route.links().any(|other| other == link))
        }
        object => is_of_routes(object),
    };
    let states = [observed].into_iter().chain(observed.namespaces.values());
    let conflicts = set.conflicts.iter().map(|conflict| &conflict.object);
    let mut skipped = conflicts.chain(set.waiting.iter().map(|waiting| &waiting.object));
    !skipped.any(concerns_routes)
        && observed.unreadable.is_empty()
        && states.into_iter().all(|state| state.undecoded.is_empty())
}

/// Reconciles the routes with the manifests.
pub(super) async fn repair(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    privilege::require(&[NET_ADMIN])?;
    let _lock = lock(directories)?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let gatherer = directories.gatherer().for_changes();
    let compared = compare(&mut kernel, gatherer, arguments).await?;
    let (report, all_done) = change(&mut kernel, compared, changes_routes).await;
    let done = report.outcomes.iter().filter_map(|(change, outcome)| {
        let is_done = matches!(outcome, Outcome::Done);
        is_done.then_some(&change.action)
    });
    let counts = Counts::of(done);
    let printed = output::report(&match arguments.output {
        Format::Json => output::json(&counts)?,
        Format::Text => format!("Repaired: {}", counts.text()),
    });
    all_done?;
    printed
}

/// Compares the kernel with the manifests. Prints all problems, also those that are not about routes, because
/// they may be the reason why a route is missing.
async fn compare(
    kernel: &mut LinuxKernel,
    mut gatherer: Gatherer,
    arguments: &Arguments,
) -> Result<Comparison, Failure> {
    let intent = arguments.manifests.intent()?;
    let compared = Comparison::new(kernel, &mut gatherer, &intent, || {}).await?;
    for problem in compared.problems() {
        output::note(&problem.to_string());
    }
    Ok(compared)
}

impl Counts {
    fn of<'c>(actions: impl Iterator<Item = &'c Action>) -> Counts {
        let mut counts = Counts::default();
        for action in actions {
            *match action.verb() {
                Verb::Delete => &mut counts.unexpected,
                // A neighbour is always set, whether it exists or not.
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

fn changes_routes(change: &Change) -> bool {
    is_of_routes(&change.action.object())
}

fn is_of_routes(object: &Object) -> bool {
    match object {
        Object::Route(_) | Object::NextHopObject(_) | Object::Neighbour(..) => true,
        // A rule with an input device belongs to that device.
        Object::Rule(rule) => rule.iif.is_none(),
        _ => false,
    }
}
