//! `adit plan`: what `adit run` would change.

use clap::Args;
use serde::Serialize;

use super::directories::{Directories, Manifests};
use super::exit::{Code, Failure};
use super::output::{self, Format};
use super::privilege::{self, BPF, NET_ADMIN, PERFMON};
use crate::kernel::LinuxKernel;
use crate::kernel::bpf::BpfOptions;
use crate::model::change::Verb;
use crate::model::order::Stage;
use crate::model::{Change, ChangeSet};
use crate::reconcile::compare::Comparison;
use crate::resource::{Intent, Problem, Severity};
use crate::source::KeyRing;
use crate::status::ProblemStatus;

/// Show what `adit run` would change, and change nothing
///
/// Lines with `+`, `-` and `~` are changes, in the order in which the agent would execute them. Lines with
/// `!` are problems. Programs that have the instructions of this version count as unchanged, although an
/// agent that starts replaces them in place by its own.
///
/// Exit codes: 0 if there is nothing to do, 4 if there are changes, 5 if a problem remains that no change
/// solves, 1 if the manifests are rejected.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  adit plan -f /etc/adit/manifests\n  adit plan -f new.yaml --node a -o json | jq -r '.changes[].text'"
)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

#[derive(Serialize)]
struct Output {
    node: String,
    changes: Vec<ChangeOutput>,
    problems: Vec<ProblemStatus>,
}

#[derive(Serialize)]
struct ChangeOutput {
    action: &'static str,
    kind: &'static str,
    text: String,
}

pub(super) async fn run(directories: &Directories, arguments: &Arguments) -> Result<(), Failure> {
    let intent = arguments.manifests.intent()?;
    privilege::require(&[NET_ADMIN, BPF, PERFMON])?;
    directories.refuse_newer()?;
    let options = BpfOptions {
        compare_by_tag: true,
        ..BpfOptions::new(&directories.bpffs)
    };
    let keys = KeyRing::new(&directories.state_dir).private_keys();
    let mut kernel = LinuxKernel::open(&options, &directories.state_dir, keys)?;
    let compared = Comparison::new(&mut kernel, &mut directories.gatherer(), &intent, || {}).await?;
    let (set, problems) = (&compared.set, compared.problems());

    output::show(&match arguments.output {
        Format::Json => output::json(&to_output(&intent, set, &problems))?,
        Format::Text => text(set, &problems),
    })?;
    if !set.is_empty() {
        return Err(Failure::silent(Code::Changes));
    }
    // No change solves this problem, so the node would not be ready.
    if problems.iter().any(|problem| problem.severity == Severity::Error) {
        return Err(Failure::silent(Code::Degraded));
    }
    Ok(())
}

fn to_output(intent: &Intent, set: &ChangeSet, problems: &[Problem]) -> Output {
    let change = |change: &Change| ChangeOutput {
        action: change.action.verb().word(),
        kind: change.action.object().kind().name(),
        text: change.to_string(),
    };
    Output {
        node: intent.node().name.to_string(),
        changes: set.changes.iter().map(change).collect(),
        problems: problems.iter().map(ProblemStatus::from).collect(),
    }
}

fn text(set: &ChangeSet, problems: &[Problem]) -> String {
    let sign = |change: &Change| match change.action.verb() {
        Verb::Add => '+',
        Verb::Delete => '-',
        Verb::Set => '~',
    };
    let changes = set.changes.iter();
    let changes = changes.map(|change| format!("{} {change}\n", sign(change)));
    let problems = problems.iter().map(|problem| format!("! {problem}\n"));
    let count = match set.changes.len() {
        0 => "Nothing to do".to_owned(),
        1 => "1 change".to_owned(),
        changes => format!("{changes} changes"),
    };
    let sum = match recreated(set) {
        0 => format!("{count}.\n"),
        1 => format!("{count}; 1 device is recreated, traffic through it stops meanwhile.\n"),
        devices => {
            format!("{count}; {devices} devices are recreated, traffic through them stops meanwhile.\n")
        }
    };
    changes.chain(problems).chain([sum]).collect()
}

/// The number of devices that are recreated.
fn recreated(set: &ChangeSet) -> usize {
    set.changes
        .iter()
        .filter(|change| change.stage() == Stage::RecreateLinks)
        .count()
}
