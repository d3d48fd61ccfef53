//! `adit route validate`.

use std::time::Duration;

use clap::Args;
use serde::Serialize;

use super::{failures, lock};
use crate::apply::{Outcome, apply};
use crate::cli::exit::Failure;
use crate::cli::output::{self, Format};
use crate::cli::places::{Manifests, Places};
use crate::cli::privilege::{self, NET_ADMIN};
use crate::diff::diff;
use crate::gather::Gatherer;
use crate::kernel::{Kernel, LinuxKernel};
use crate::model::change::{ObjectKind, Verb};
use crate::model::{Action, Change, Object};
use crate::plan::plan;

/// Next-hop objects, their neighbours and the rules that lead to tables of ours are part of routes.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    manifests: Manifests,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What a validation did.
#[derive(Debug, Default, Serialize)]
struct Validated {
    /// What was missing and was put back.
    returned: usize,
    /// What nobody wants, and was removed.
    removed: usize,
    /// What said something else, and was replaced.
    replaced: usize,
}

pub(super) async fn run(places: &Places, arguments: &Arguments) -> Result<(), Failure> {
    let intent = arguments.manifests.intent()?;
    privilege::require(&[NET_ADMIN])?;
    let _lock = lock(places)?;
    let mut kernel = LinuxKernel::without_bpf()?;
    let mut gatherer = Gatherer::new(places.state_dir.clone(), Duration::ZERO).for_changes();
    let facts = gatherer.gather(&mut kernel, &intent).await?;
    let (target, _) = plan(&intent, &facts);
    let set = diff(&kernel.observe().await?, &target);
    let report = apply(&mut kernel, set.only(is_of_routes)).await;

    let mut validated = Validated::default();
    for (change, outcome) in &report.outcomes {
        if matches!(outcome, Outcome::Done) {
            *validated.count_of(&change.action) += 1;
        }
    }
    let told = output::report(&match arguments.output {
        Format::Json => output::json(&validated)?,
        Format::Text => format!(
            "{} missing returned, {} unexpected removed, {} diverged replaced.\n",
            validated.returned, validated.removed, validated.replaced
        ),
    });
    failures(&report)?;
    told
}

impl Validated {
    fn count_of(&mut self, action: &Action) -> &mut usize {
        match action.verb() {
            Verb::Delete => &mut self.removed,
            // A neighbour is put, whether one is there or not.
            Verb::Set if action.object().kind() != ObjectKind::Neighbour => &mut self.replaced,
            Verb::Add | Verb::Set => &mut self.returned,
        }
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
